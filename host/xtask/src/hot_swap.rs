//! `examples/hot-swap`, run and told: a service is swapped under load by saving
//! `ron.toml`, and a ledger that the host does not keep says what came of the
//! messages.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::error::Error;
use crate::guests::{self, Which};
use crate::workspace::{self, cargo, demo_host, root, target};

/// How long each version is let work.
const WATCHED: Duration = Duration::from_secs(4);
/// Time between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(50);
/// Looks at something before it is given up.
const LOOKS: usize = 400;

/// Runs the example to its end. The exit code says whether the ledger is clean.
pub(crate) fn run() -> Result<ExitCode, Error> {
    let components = guests::build(Which::Examples)?;
    workspace::run(cargo().args(["build", "--profile", "demo", "--package", "ron-host"]))?;
    let stage = Stage::set(&components)?;
    let host = stage.host()?;
    let lines = stage.tap()?;
    println!("\n== v1 counts, two thousand messages a second");
    thread::sleep(WATCHED);

    println!("\n== saving ron.toml with v2");
    stage.save("hot-swap-v2")?;
    stage.until_generation(2)?;
    stage.show(&["ps"])?;
    // Its probation is over then.
    thread::sleep(WATCHED);

    println!("\n== saving ron.toml with v3, which has a bug");
    stage.save("hot-swap-v3")?;
    stage.until_generation(4)?;
    stage.show(&["ps"])?;
    thread::sleep(WATCHED);

    println!("\n== the ledger");
    stage.show(&["stop", "load"])?;
    let clean = Ledger::of(&lines).tell();
    host.end()?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A directory with the deployment, and the program.
struct Stage {
    directory: PathBuf,
    program: PathBuf,
}

impl Stage {
    fn set(components: &Path) -> Result<Self, Error> {
        let directory = target().join("hot-swap");
        let io = || Error::io(format!("preparing {}", directory.display()));
        fs::create_dir_all(&directory).map_err(io())?;
        for name in ["v1", "v2", "v3", "load"] {
            let file = format!("hot-swap-{name}.wasm");
            fs::copy(components.join(&file), directory.join(&file)).map_err(io())?;
        }
        let program = demo_host();
        let stage = Self { directory, program };
        stage.save("hot-swap-v1")?;
        Ok(stage)
    }

    /// Saves `ron.toml` with that component for the counter, as editors do: a
    /// new file, renamed over the old one.
    fn save(&self, component: &str) -> Result<(), Error> {
        let file = root().join("examples/hot-swap/ron.toml");
        let io = || Error::io(format!("saving {}", self.directory.join("ron.toml").display()));
        let text = fs::read_to_string(file).map_err(io())?;
        let text = text
            .replace("\"counter.wasm\"", &format!("\"{component}.wasm\""))
            .replace("\"load.wasm\"", "\"hot-swap-load.wasm\"");
        let new = self.directory.join("ron.toml.new");
        fs::write(&new, text).map_err(io())?;
        fs::rename(&new, self.directory.join("ron.toml")).map_err(io())
    }

    fn host(&self) -> Result<Host, Error> {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.directory).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(Error::io("starting the host".to_owned()))?;
        let stdout = child.stdout.take();
        let host = Host(child);
        for line in stdout.into_iter().flat_map(|out| BufReader::new(out).lines()) {
            let Ok(line) = line else { break };
            println!("{line}");
            if line.starts_with("ready") {
                return Ok(host);
            }
        }
        Err(Error::Needs("the host did not become ready; it says why above".into()))
    }

    fn ctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.directory).args(["ctl", "--control", "control.sock"]).args(args);
        command
    }

    fn show(&self, args: &[&str]) -> Result<(), Error> {
        println!("$ ron-host ctl {}", args.join(" "));
        workspace::run(&mut self.ctl(args))
    }

    /// What the counter tells, line by line, from a process that only listens.
    fn tap(&self) -> Result<Receiver<String>, Error> {
        let mut command = self.ctl(&["--json", "tap", "counter.counted"]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("starting the ledger".to_owned()))?;
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take();
        thread::spawn(move || {
            // It ends with the host.
            for line in stdout.into_iter().flat_map(|out| BufReader::new(out).lines()) {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
            let _ = child.kill();
            let _ = child.wait();
        });
        Ok(lines)
    }

    fn until_generation(&self, wanted: u64) -> Result<(), Error> {
        for _ in 0..LOOKS {
            let output = self
                .ctl(&["--json", "ps"])
                .output()
                .map_err(Error::io("running ron-host ctl".to_owned()))?;
            let text = String::from_utf8_lossy(&output.stdout);
            let counter = text.split("\"service\":\"counter\"").nth(1).unwrap_or_default();
            let own = counter.split("\"generation\":").nth(1).unwrap_or_default();
            let generation = own.split([',', '}']).next().and_then(|text| text.parse().ok());
            if generation >= Some(wanted) {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        Err(Error::Needs(format!("the counter did not come to generation {wanted}")))
    }
}

/// Ended with whoever holds it.
struct Host(Child);

impl Host {
    /// Asks it to drain, and waits for that.
    fn end(mut self) -> Result<(), Error> {
        let pid = self.0.id().to_string();
        workspace::run(Command::new("kill").args(["-TERM", &pid]))?;
        self.0.wait().map(drop).map_err(Error::io("waiting for the host".to_owned()))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was counted, as it was told.
#[derive(Default)]
struct Ledger {
    first: u64,
    last: u64,
    lost: u64,
    repeated: u64,
    jumps: u64,
    count: u64,
    versions: Vec<(String, u64)>,
}

impl Ledger {
    /// Reads until nothing more is told.
    fn of(lines: &Receiver<String>) -> Self {
        let mut ledger = Self::default();
        while let Ok(line) = lines.recv_timeout(Duration::from_secs(1)) {
            ledger.enter(&line);
        }
        ledger
    }

    fn enter(&mut self, line: &str) {
        let payload = line.split("\"payload\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let mut words = payload.unwrap_or_default().split(' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (Some(sent), Some(count)) = (number(), number()) else {
            // The tap itself was too slow, and says so.
            self.lost += 1;
            return;
        };
        if self.last == 0 {
            self.first = sent;
        } else if sent <= self.last {
            self.repeated += 1;
        } else {
            self.lost += sent - self.last - 1;
            self.jumps += u64::from(count != self.count + 1);
        }
        self.last = sent;
        self.count = count;
        let version = words.next().unwrap_or_default();
        match self.versions.last_mut() {
            Some((last, messages)) if last == version => *messages += 1,
            _ => self.versions.push((version.to_owned(), 1)),
        }
    }

    fn tell(&self) -> bool {
        for (version, messages) in &self.versions {
            println!("  {messages:>7} messages counted by {version}");
        }
        let Self { first, last, lost, repeated, jumps, .. } = self;
        println!(
            "  messages {first} to {last}: {lost} lost, {repeated} repeated or out of order; \
             the count jumped {jumps} times"
        );
        *last > 0 && *lost == 0 && *repeated == 0 && *jumps == 0
    }
}
