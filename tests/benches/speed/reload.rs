//! What a change of `ron.toml` takes, with the shipped binary: from saving it to
//! the first message that the new version handles, and what a reload costs that
//! concerns one of many services.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cold::build;
use crate::pairs::Pairs;
use crate::world::{component, target};

const ROUNDS: usize = 11;
/// Memory mappings that a host makes room for with each service: nine for an instance, and
/// two of these.
const MAPPINGS_EACH: usize = 19;

/// How many the system allows.
fn mappings() -> usize {
    let allowed = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    allowed.trim().parse().unwrap_or(usize::MAX)
}

pub(crate) fn report(pairs: &Pairs) {
    if !pairs.wants("reload") {
        return;
    }
    let binary = build();
    println!("\n{:<44} {:>12}", "median of 11", "");
    let host = Host::start(&binary, 1);
    let (mut saved, mut told) = (Vec::new(), Vec::new());
    for round in 0..2 * ROUNDS {
        let new = round % 2 == 0;
        host.save(if new { "probe" } else { "echo" }, round);
        let began = Instant::now();
        if round % 4 < 2 {
            host.request("POST", "/v1/reload", "");
        }
        while host.is_probe() != new {
            assert!(began.elapsed() < Duration::from_secs(30), "it is swapped");
        }
        if round % 4 < 2 { &mut told } else { &mut saved }.push(began.elapsed());
    }
    drop(host);
    line("saved, to the new version's first answer", saved);
    line("told to reload, to the same", told);
    for services in [10, 100, 1000, 10_000] {
        if services * MAPPINGS_EACH > mappings() {
            println!("reload of {services} services: not measured, vm.max_map_count is too low");
            continue;
        }
        let host = Host::start(&binary, services);
        let mut took = Vec::new();
        for round in 0..ROUNDS {
            host.save("echo", round + 1);
            let began = Instant::now();
            let answer = host.request("POST", "/v1/reload", "");
            took.push(began.elapsed());
            assert!(answer.contains("200 OK"), "{answer}");
        }
        line(&format!("reload, a value of one of {services} services"), took);
    }
}

fn line(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    println!("{name:<44} {:>9.2} ms", times[times.len() / 2].as_secs_f64() * 1e3);
}

struct Host {
    child: Child,
    directory: PathBuf,
    services: usize,
}

impl Host {
    fn start(binary: &Path, services: usize) -> Self {
        let directory = target().join("bench-reload");
        fs::create_dir_all(&directory).expect("it can be made");
        for name in ["probe", "echo"] {
            let file = directory.join(name).with_extension("wasm");
            fs::copy(component(name), file).expect("it can be copied");
        }
        let child = {
            let this = Self { child: nobody(), directory: directory.clone(), services };
            this.save("echo", 0);
            Command::new(binary)
                .current_dir(&directory)
                .args(["--control", "control.sock", "--cache-dir", "cache"])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("the binary starts")
        };
        let mut host = Self { child, directory, services };
        let stdout = host.child.stdout.take().expect("it is piped");
        let ready = BufReader::new(stdout).lines().map_while(Result::ok);
        assert!(ready.into_iter().any(|line| line.starts_with("ready")), "it is ready");
        host
    }

    /// Saves a file in which one service runs that component, with that value.
    fn save(&self, component: &str, value: usize) {
        let mut text = format!(
            "admin = '127.0.0.1:0'\n[service.svc]\ncomponent = '{component}.wasm'\n\
             probation = '1ms'\nconfig.value = {value}\n"
        );
        for n in 1..self.services {
            text += &format!("[service.other-{n}]\ncomponent = 'echo.wasm'\n");
        }
        let new = self.directory.join("ron.toml.new");
        fs::write(&new, text).expect("it is written");
        fs::rename(new, self.directory.join("ron.toml")).expect("it is renamed");
    }

    fn request(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream =
            UnixStream::connect(self.directory.join("control.sock")).expect("it listens");
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    /// Whether that version has the service: the other does not listen there.
    fn is_probe(&self) -> bool {
        let answer = self.request("POST", "/v1/request?topic=guest.svc.probe", "config.version");
        answer.starts_with("HTTP/1.1 200")
    }
}

/// A process that has ended, for the time before there is one.
fn nobody() -> Child {
    Command::new("true").spawn().expect("there is such a program")
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
