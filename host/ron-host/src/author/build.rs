//! Making components: the commands of `[service.NAME.build]`, with the tools that they
//! need, and `ron-host build`.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ron_kernel::ServiceId;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::components;
use crate::exit::Failure;
use crate::host;
use crate::logging::Format;
use crate::plan::{Build, PlannedService, Tool};
use crate::report;
use crate::settings::Settings;

/// How often a build that goes on is told of.
const TELL: Duration = Duration::from_secs(15);
/// The variable in which a command finds this program.
const HOST: &str = "RON_HOST";

/// A service whose component can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) id: ServiceId,
    /// That of `ron.toml`, where commands run.
    directory: PathBuf,
    pub(super) component: PathBuf,
    build: Build,
    pub(super) format: Format,
}

/// Why there is no new component.
#[derive(Debug, Error)]
pub(crate) enum BuildError {
    /// Programs that the machine's owner installs.
    #[error("needs {program}, which {} not on PATH; install {} with: {install}", if *many { "are" } else { "is" }, if *many { "them" } else { "it" })]
    Missing {
        /// Its name, or those of several.
        program: String,
        /// Whether it is several.
        many: bool,
        /// How to get it.
        install: String,
    },
    /// A program of the project's own could not be installed.
    #[error("needs {program}, and what installs it {what}: {install}")]
    NotInstalled {
        /// Its path.
        program: String,
        /// The command that was run.
        install: String,
        /// What became of that.
        what: String,
    },
    /// The command says so itself.
    #[error("its build failed ({status}): {command}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The command went well and made something else.
    #[error("its build made no {}: {command}", component.display())]
    NotMade {
        /// The command line.
        command: String,
        /// The file that was expected.
        component: PathBuf,
    },
    /// There is no shell.
    #[error("its build could not be run: {command}")]
    Unrun {
        /// The command line.
        command: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl BuildError {
    /// Whether it is no fault of the source's.
    pub(crate) fn is_for_want_of_a_tool(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::NotInstalled { .. })
    }
}

/// Every service that says how its component is made.
pub(super) fn jobs(settings: &Settings) -> Vec<Job> {
    // That of a file without a directory is the working directory, which is no empty path.
    let base = settings.file.as_ref().map_or(Path::new(""), |file| file.base());
    let directory = env::current_dir().unwrap_or_default().join(base);
    let format = settings.plan.log.format;
    let job = |(id, service): (&ServiceId, &Arc<PlannedService>)| {
        let component = std::path::absolute(&*service.component).unwrap_or_default();
        let (id, directory) = (id.clone(), directory.clone());
        Some(Job { id, directory, component, build: service.build.clone()?, format })
    };
    settings.plan.services.iter().filter_map(job).collect()
}

impl Job {
    /// What its component is made from.
    pub(super) fn sources(&self) -> impl Iterator<Item = PathBuf> {
        self.build.watch.iter().map(|source| self.directory.join(&source.0))
    }

    /// When its component was made, if it was.
    pub(super) fn made(&self) -> Option<SystemTime> {
        fs::metadata(&self.component).ok()?.modified().ok()
    }

    /// Makes the component, and says how that goes.
    pub(super) async fn run(&self, because: &str) -> Result<(), BuildError> {
        let began = Instant::now();
        report::building(self.format, self.id.as_str(), because);
        let missing: Vec<&Tool> = self
            .build
            .tools
            .iter()
            .filter(|tool| !tool.is_local() && !self.has(&tool.program))
            .collect();
        if let [first, ..] = &missing[..] {
            let program = list(missing.iter().map(|tool| tool.program.as_str()));
            let mut installs: Vec<&str> =
                missing.iter().map(|tool| tool.install.as_str()).collect();
            installs.dedup();
            let (install, many) = (installs.join(" && "), first.program != program);
            return Err(BuildError::Missing { program, many, install });
        }
        for tool in self.build.tools.iter().filter(|tool| tool.is_local()) {
            self.have(tool).await?;
        }
        let command = self.build.command.as_ref().map_or("", |command| command.0.as_str());
        let status = self.shell(command).await?;
        if !status.success() {
            return Err(BuildError::Failed { command: first_line(command), status });
        }
        let Ok(made) = fs::metadata(&self.component) else {
            let (command, component) = (first_line(command), self.component.clone());
            return Err(BuildError::NotMade { command, component });
        };
        report::built(self.format, self.id.as_str(), made.len(), began.elapsed());
        Ok(())
    }

    /// Has a tool, installed where it is the project's own.
    async fn have(&self, tool: &Tool) -> Result<(), BuildError> {
        if self.has(&tool.program) {
            return Ok(());
        }
        let Tool { program, install } = tool.clone();
        report::installing(self.format, self.id.as_str(), &program, &install);
        let status = self.shell(&install).await?;
        let what = match status.success() {
            true if self.has(&program) => return Ok(()),
            true => "went well and left no such file".to_owned(),
            false => format!("failed ({status})"),
        };
        Err(BuildError::NotInstalled { program, install, what })
    }

    fn has(&self, program: &str) -> bool {
        if program.contains('/') {
            return self.directory.join(program).is_file();
        }
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).any(|directory| is_program(&directory.join(program)))
    }

    async fn shell(&self, command: &str) -> Result<ExitStatus, BuildError> {
        let unrun = |source| BuildError::Unrun { command: first_line(command), source };
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).current_dir(&self.directory);
        shell.stdin(Stdio::null()).kill_on_drop(true);
        // So that all that it starts can be ended with it.
        #[cfg(unix)]
        shell.process_group(0);
        if let Ok(host) = env::current_exe() {
            shell.env(HOST, host);
        }
        // As it would look to whoever runs it otherwise: colours, progress.
        if self.format != Format::Text {
            shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let mut child = shell.spawn().map_err(unrun)?;
        let mut all = Family::of(&child);
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let ended = async {
            tokio::join!(self.pass_on(out), self.pass_on(err));
            child.wait().await
        };
        let mut ended = pin!(ended);
        let began = Instant::now();
        let status = loop {
            match timeout(TELL, &mut ended).await {
                Ok(status) => break status,
                Err(_) => report::still_building(self.format, self.id.as_str(), began.elapsed()),
            }
        };
        all.let_go();
        status.map_err(unrun)
    }

    async fn pass_on(&self, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(pipe) = pipe else { return };
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            report::build_output(self.format, self.id.as_str(), &line);
        }
    }
}

/// The processes that a command started, which are ended with this.
struct Family(#[cfg(unix)] Option<rustix::process::Pid>);

impl Family {
    #[cfg(unix)]
    fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        Self(pid.and_then(rustix::process::Pid::from_raw))
    }

    #[cfg(not(unix))]
    fn of(_: &Child) -> Self {
        Self()
    }

    /// The command has ended; what it left is meant to stay.
    fn let_go(&mut self) {
        #[cfg(unix)]
        {
            self.0 = None;
        }
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
        }
    }
}

/// Names in a row.
fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    match &names[..] {
        [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        _ => names.concat(),
    }
}

/// A command line in few words.
fn first_line(command: &str) -> String {
    let mut lines = command.trim().lines();
    let first = lines.next().unwrap_or_default().to_owned();
    if lines.next().is_some() { format!("{first} ...") } else { first }
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file() || path.with_extension(env::consts::EXE_EXTENSION).is_file()
}

/// `ron-host build`: makes the components of these services, or of all that say how, and
/// loads each as a start would. With a failure the others are made all the same.
pub(crate) async fn build(settings: &Settings, names: &[String]) -> Result<(), Failure> {
    let all = jobs(settings);
    let unknown: Vec<&str> = names
        .iter()
        .filter(|name| !all.iter().any(|job| job.id.as_str() == **name))
        .map(String::as_str)
        .collect();
    let there = || all.iter().map(|job| job.id.as_str()).collect::<Vec<_>>().join(", ");
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        let there =
            if all.is_empty() { "none does".to_owned() } else { format!("{} does", there()) };
        return Err(Failure::config(format!(
            "{unknown}: no service of that name says how it is built; {there}"
        )));
    }
    if all.is_empty() {
        let expected = "expected [service.NAME.build] with a command";
        return Err(Failure::config(format!("no service says how it is built; {expected}")));
    }
    let wanted = |job: &&Job| names.is_empty() || names.iter().any(|name| name == job.id.as_str());
    let (mut made, mut failed) = (vec![], vec![]);
    for job in all.iter().filter(wanted) {
        match job.run("").await {
            Ok(()) => made.push(&job.id),
            Err(error) => failed.push((job.id.to_string(), error)),
        }
    }
    let services = settings.plan.services.iter().filter(|(id, _)| made.contains(id));
    let loading = components::load(&host::runtime(&settings.plan)?, services, Vec::new).await?;
    let loaded = settings.whole(loading, vec![]);
    if failed.is_empty() {
        for (id, one) in &loaded? {
            let path = &settings.plan.services[id].component;
            report::checked(settings.plan.log.format, id.as_str(), one.component.digest(), path);
        }
        return Ok(());
    }
    let others = loaded.err().map(|failure| failure.lines()).unwrap_or_default();
    Err(Failure::Builds(failed, others))
}

/// How long something took, for a person.
pub(crate) fn took(duration: Duration) -> String {
    match duration.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::BuildCommand;

    fn job(directory: &Path, command: &str, tools: &[(&str, &str)]) -> Job {
        let tool = |(program, install): &(&str, &str)| Tool {
            program: (*program).to_owned(),
            install: (*install).to_owned(),
        };
        Job {
            id: ServiceId::parse("greeter").expect("a name"),
            directory: directory.to_owned(),
            component: directory.join("greeter.wasm"),
            build: Build {
                command: Some(BuildCommand(command.to_owned())),
                watch: vec![],
                tools: tools.iter().map(tool).collect(),
            },
            format: Format::Json,
        }
    }

    #[tokio::test]
    async fn a_build_makes_its_component_or_says_why_not() {
        #[track_caller]
        fn check(done: Result<(), BuildError>, expected: Option<&str>) {
            let told = done.err().map(|error| error.to_string());
            assert_eq!(told.as_deref().map(|told| told.split(": ").next().unwrap_or("")), expected);
        }
        let place = tempfile::tempdir().expect("a directory");
        let place = place.path();
        let run =
            async |command: &str, tools: &[(&str, &str)]| job(place, command, tools).run("").await;

        check(run("exit 3", &[]).await, Some("its build failed (exit status"));
        let nothing = run("true", &[]).await;
        assert!(matches!(nothing, Err(BuildError::NotMade { .. })), "{nothing:?}");
        let missing = run("true", &[("no-such-program", "apt install it")]).await;
        let told = missing.expect_err("it is missing").to_string();
        assert_eq!(
            told,
            "needs no-such-program, which is not on PATH; install it with: apt install it"
        );
        let broken = run("true", &[("tools/own", "false")]).await;
        assert!(matches!(broken, Err(BuildError::NotInstalled { .. })), "{broken:?}");

        // In order: the second is installed with the first.
        let own = [
            ("sh", "apt install dash"),
            ("tools/first", "mkdir tools && echo 1 > tools/first"),
            ("tools/second", "cp tools/first tools/second"),
        ];
        check(run("cp tools/second greeter.wasm && test -x \"$RON_HOST\"", &own).await, None);
        // What is there is not installed again.
        let own = [("tools/first", "false"), ("tools/second", "false")];
        check(run("true", &own).await, None);
    }
}
