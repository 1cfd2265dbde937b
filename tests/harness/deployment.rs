//! A directory with a `ron.toml`, and a host that runs what it says.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Program, cache, command, component, scratch, start_process};

/// A directory with the components `names` and this `ron.toml`.
pub(crate) fn deployment(name: &str, names: &[&str], text: &str) -> PathBuf {
    let directory = scratch(name);
    fs::create_dir(directory.join("components")).expect("made");
    for name in names {
        let file = format!("components/{name}.wasm");
        fs::copy(component(name), directory.join(file)).expect("copied");
    }
    write(&directory, "ron.toml", text);
    directory
}

pub(crate) fn write(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join(name), text).expect("written");
}

/// Starts the program in `directory`, on a free port and with the tests' cache
/// if nobody says otherwise.
pub(crate) fn start(directory: &Path, args: &str, variables: &[(&str, &str)]) -> Program {
    let mut command = command(args.split(' ').filter(|arg| !arg.is_empty()));
    command.current_dir(directory).env("RON_CACHE_DIR", cache()).env("RON_ADMIN", "127.0.0.1:0");
    start_process({
        command.envs(variables.iter().copied());
        command
    })
}

const HEAD: &str = "admin = '127.0.0.1:0'\nlog.format = 'json'\n";

/// A table for each service, by component and what else is said of it.
pub(crate) fn file(services: &[(&str, &str, &str)]) -> String {
    let table = |(name, component, more): &(&str, &str, &str)| {
        format!("[service.{name}]\ncomponent = 'components/{component}.wasm'\n{more}\n")
    };
    services.iter().map(table).fold(HEAD.to_owned(), |text, table| text + &table)
}

/// Waits until that version is in force.
pub(crate) fn in_force(host: &Program, version: u64) -> Value {
    host.log(|record| {
        record["message"] == "applied the configuration" && record["version"] == version
    })
}

/// A file of one service, `probe`, that reads this value.
pub(crate) fn value(directory: &Path, value: &str) {
    write(directory, "ron.toml", &file(&[("probe", "probe", &format!("config.key = '{value}'"))]));
}
