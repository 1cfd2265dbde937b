//! Finds the programs that tests talk to: Prometheus and promtool.
//!
//! In this order: where `RON_PROMETHEUS` and `RON_PROMTOOL` point, on `PATH`,
//! what an earlier call left in `target/tools`, and last Debian's package. That
//! is unpacked there and not installed: nothing is started, nothing outside
//! `target` changes, and no root is needed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::error::Error;
use crate::workspace::{run, target};

const PACKAGE: &str = "prometheus";

/// Where the programs are.
pub(crate) struct Tools {
    pub(crate) prometheus: PathBuf,
    pub(crate) promtool: PathBuf,
}

/// Finds the programs, or fetches them.
pub(crate) fn find() -> Result<Tools, Error> {
    let named = |variable| env::var_os(variable).map(PathBuf::from);
    let unpacked = target().join("tools").join(PACKAGE);
    let found = |directory: &Path| {
        let prometheus = named("RON_PROMETHEUS").or_else(|| program("prometheus", directory))?;
        let promtool = named("RON_PROMTOOL").or_else(|| program("promtool", directory))?;
        Some(Tools { prometheus, promtool })
    };
    let directory = unpacked.join("usr/bin");
    if let Some(tools) = found(&directory) {
        return Ok(tools);
    }
    fetch(&unpacked)?;
    found(&directory).ok_or_else(|| needs("Debian's package holds no such programs"))
}

/// A program on `PATH`, or else in `directory`.
fn program(name: &str, directory: &Path) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<_> = env::split_paths(&path).collect();
    places.push(directory.to_owned());
    places
        .iter()
        .map(|place| place.join(format!("{name}{}", env::consts::EXE_SUFFIX)))
        .find(|file| file.is_file())
}

/// Unpacks Debian's package into `unpacked`.
fn fetch(unpacked: &Path) -> Result<(), Error> {
    let absent = |name: &str| program(name, Path::new("/nowhere")).is_none();
    if absent("apt-get") || absent("dpkg-deb") {
        return Err(needs("they can be fetched only where there is apt"));
    }
    let work = target().join("tools/fetching");
    // A call that was interrupted may have left a part.
    let _ = fs::remove_dir_all(&work);
    for directory in ["package", "lists/partial", "cache/archives/partial"] {
        let directory = work.join(directory);
        fs::create_dir_all(&directory)
            .map_err(Error::io(format!("creating {}", directory.display())))?;
    }

    eprintln!("{:>12} Debian's package `{PACKAGE}` for its programs", "Fetching");
    download(&work)?;
    let package = fs::read_dir(work.join("package"))
        .map_err(Error::io(format!("reading {}", work.display())))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|file| file.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| needs("apt fetched nothing"))?;
    run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(work.join("unpacked")))?;

    // Appears whole or not at all.
    let _ = fs::remove_dir_all(unpacked);
    fs::rename(work.join("unpacked"), unpacked)
        .map_err(Error::io(format!("writing {}", unpacked.display())))?;
    let _ = fs::remove_dir_all(work);
    Ok(())
}

/// Downloads the package into `work/package`.
fn download(work: &Path) -> Result<(), Error> {
    // As root, apt would fetch as a user who may not write here, and warn of it.
    let fetch = ["-o", "APT::Sandbox::User=root", "-q", "download", PACKAGE];
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.current_dir(work.join("package"));
        apt
    };
    // The machine's own lists of packages may be absent, or older than the archive.
    let quick = apt().args(fetch).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if quick.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let own = || {
        let mut apt = apt();
        apt.arg("-o").arg(format!("Dir::State::lists={}", work.join("lists").display()));
        apt.arg("-o").arg(format!("Dir::Cache={}", work.join("cache").display()));
        apt
    };
    // One dead source among several must not stop it; the download tells.
    let _ = own()
        .args(["-o", "APT::Sandbox::User=root", "-q", "update"])
        .stdout(Stdio::null())
        .status();
    run(own().args(fetch).stdout(Stdio::null())).map_err(|error| needs(&error.to_string()))
}

fn needs(why: &str) -> Error {
    Error::Needs(format!(
        "the tests talk to a real Prometheus, and `prometheus` and `promtool` are not on PATH ({why}).\n\
         Install Prometheus 2.40 or later, which brings both, or set RON_PROMETHEUS and RON_PROMTOOL to their paths."
    ))
}
