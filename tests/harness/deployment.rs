//! A directory with a `ron.toml`, and a host that runs what it says.

use std::fs;
use std::path::{Path, PathBuf};

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
