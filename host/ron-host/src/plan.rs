//! What is to be run: the command line, checked as a whole before anything
//! happens, and every mistake in it told at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use ron_kernel::ServiceId;

use crate::cli::{Cli, ComponentArg};
use crate::exit::Failure;

/// One service to be run.
#[derive(Debug)]
pub(crate) struct PlannedService {
    pub(crate) id: ServiceId,
    pub(crate) path: PathBuf,
    pub(crate) critical: bool,
}

/// All that is to be run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) admin: SocketAddr,
    /// The control socket, where it is not the default one.
    pub(crate) control: Option<PathBuf>,
    pub(crate) services: Vec<PlannedService>,
    pub(crate) config: BTreeMap<String, BTreeMap<String, String>>,
    /// Where compiled components are kept, if anywhere.
    pub(crate) cache: Option<PathBuf>,
}

impl Plan {
    pub(crate) fn from_cli(cli: &Cli) -> Result<Self, Failure> {
        let mut wrong = Vec::new();
        let mut services: Vec<PlannedService> = Vec::new();
        for arg in &cli.components {
            match name(arg) {
                Err(error) => wrong.push(error),
                Ok(id) => match services.iter().find(|known| known.id == id) {
                    Some(known) => wrong.push(format!(
                        "two services are named {id}: {} and {}; name one with \
                         --component NAME=PATH",
                        known.path.display(),
                        arg.path.display()
                    )),
                    None => services.push(PlannedService {
                        critical: !cli.optional.iter().any(|name| name == id.as_str()),
                        id,
                        path: arg.path.clone(),
                    }),
                },
            }
        }
        let names: Vec<&str> = services.iter().map(|service| service.id.as_str()).collect();
        let mut config: BTreeMap<String, BTreeMap<String, String>> =
            names.iter().map(|name| ((*name).to_owned(), BTreeMap::new())).collect();
        for set in &cli.set {
            match config.get_mut(&set.service) {
                Some(own) => {
                    own.insert(set.key.clone(), set.value.clone());
                }
                None => wrong.push(unknown(&format!("--set {}.{}", set.service, set.key), &names)),
            }
        }
        for optional in cli.optional.iter().filter(|name| !names.contains(&name.as_str())) {
            wrong.push(unknown(&format!("--optional {optional}"), &names));
        }
        if !wrong.is_empty() {
            return Err(Failure::Config(wrong));
        }
        let cache = if cli.no_cache { None } else { cli.cache_dir.clone().or_else(default_cache) };
        Ok(Self { admin: cli.admin, control: cli.control.clone(), services, config, cache })
    }
}

fn name(arg: &ComponentArg) -> Result<ServiceId, String> {
    let text = match &arg.name {
        Some(name) => name.clone(),
        None => arg.path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    ServiceId::parse(&text).map_err(|error| {
        format!("--component {}: {error}; name it with NAME=PATH", arg.path.display())
    })
}

fn unknown(what: &str, names: &[&str]) -> String {
    format!("{what}: there is no such service; there is {}", names.join(", "))
}

fn default_cache() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("ron-host"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn plan(args: &[&str]) -> Result<Plan, Vec<String>> {
        let cli = Cli::parse_from([&["ron-host"], args].concat());
        Plan::from_cli(&cli).map_err(|failure| failure.lines())
    }

    #[test]
    fn names_settings_and_importance_come_together() {
        let args = "--component a.wasm --component x=b.wasm --set x.k=v --optional x";
        let plan = plan(&args.split(' ').collect::<Vec<_>>()).expect("a plan");
        let services: Vec<(&str, bool)> =
            plan.services.iter().map(|s| (s.id.as_str(), s.critical)).collect();
        assert_eq!(services, [("a", true), ("x", false)]);
        assert_eq!(plan.config["x"]["k"], "v");
    }

    #[test]
    fn every_mistake_is_told() {
        fn check(args: &str, expected: &[&str]) {
            let lines = plan(&args.split(' ').collect::<Vec<_>>()).expect_err("mistakes");
            assert_eq!(lines, expected);
        }
        check(
            "--component a.wasm --component b/a.wasm --set x.k=v --optional y",
            &[
                "two services are named a: a.wasm and b/a.wasm; name one with --component NAME=PATH",
                "--set x.k: there is no such service; there is a",
                "--optional y: there is no such service; there is a",
            ],
        );
        check(
            "--component my.svc.wasm",
            &["--component my.svc.wasm: \"my.svc\" is not a service's name: \
               1 to 64 of A-Z a-z 0-9 _ -; name it with NAME=PATH"],
        );
    }
}
