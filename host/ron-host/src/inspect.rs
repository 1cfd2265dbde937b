//! `ron-host inspect`: what a component is, wants and lacks, for a person or a program.

use std::path::Path;

use ron_runtime::{Import, Inspection, Kind, LoadError, Runtime, RuntimeConfig};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure, chain};
use crate::logging::Format;
use crate::report;

/// Tells of the component in that file. One that would not be loaded is told all the
/// same, and makes the command fail.
pub(crate) fn run(path: &Path, json: bool) -> Result<Exit, (Format, Failure)> {
    let format = if json { Format::Json } else { Format::Text };
    let inspected = inspect(path).map_err(|failure| (format, failure))?;
    match json {
        true => report::json(&as_json(&inspected)),
        false => report::text(&as_text(&inspected)),
    }
    Ok(if inspected.refused.is_none() { Exit::Done } else { Exit::Component })
}

fn inspect(path: &Path) -> Result<Inspection, Failure> {
    // Nothing is instantiated, so there need be room for nothing.
    let config = RuntimeConfig { instances: 1, components: 1, ..RuntimeConfig::default() };
    let runtime = Runtime::new(config)?;
    ron_runtime::inspect(&runtime, path).map_err(Failure::Component)
}

/// A kind, by what makes a component one.
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "service",
        Kind::ServiceWithHttp => "service-with-http",
        Kind::Http => "http",
        Kind::Job => "job",
        Kind::Messaging => "messaging",
        Kind::Stream => "stream",
    }
}

fn about(of: Option<Kind>) -> &'static str {
    match of {
        Some(Kind::Service) => "service: one instance with a mailbox",
        Some(Kind::ServiceWithHttp) => {
            "service-with-http: one instance with a mailbox, which answers requests in turn"
        }
        Some(Kind::Http) => "http: answers requests, on instances that are made for them",
        Some(Kind::Job) => "job: run to its end, at once or by a schedule",
        Some(Kind::Messaging) => {
            "messaging: one instance with a mailbox, subscribed by configuration"
        }
        Some(Kind::Stream) => "stream: handles connections, with an instance for each",
        None => "none: it exports nothing that this host runs",
    }
}

/// What does not fit, a line each.
fn problems(refused: &LoadError) -> Vec<String> {
    match refused {
        LoadError::Contract { mismatches, .. } => {
            mismatches.iter().map(ToString::to_string).collect()
        }
        // What is missing is shown with the imports.
        other => vec![chain(other)],
    }
}

fn as_text(inspected: &Inspection) -> String {
    let Inspection { digest, size, kind, exports, imports, refused } = inspected;
    let mut text = format!("kind     {}\ndigest   {digest}\nsize     {size} bytes\n", about(*kind));
    let runs = if refused.is_none() { "yes" } else { "no" };
    text += &format!("runs     {runs}\n");
    let heading = |name: &str, empty: bool| {
        let nothing = if empty { "  nothing" } else { "" };
        format!("\n{name}{nothing}\n")
    };
    text += &heading("exports", exports.is_empty());
    for name in exports {
        text += &format!("  {}\n", name.escape_debug());
    }
    text += &heading("imports", imports.is_empty());
    let width = imports.iter().map(|import| import.name.chars().count()).max().unwrap_or(0).min(60);
    for import in imports {
        let name = import.name.escape_debug().to_string();
        text += format!("  {name:<width$}  {}", needs(import)).trim_end();
        text.push('\n');
    }
    if let Some(refused) = refused {
        text += &heading("does not fit", false);
        for problem in problems(refused) {
            text += &format!("  {problem}\n");
        }
    }
    text
}

fn needs(import: &Import) -> String {
    match (import.offered, import.grants) {
        (false, _) => "missing: this host does not offer it".into(),
        (true, []) => String::new(),
        (true, grants) => format!("by {}", grants.join(" and ")),
    }
}

fn as_json(inspected: &Inspection) -> Value {
    let Inspection { digest, size, kind: of, exports, imports, refused } = inspected;
    let import = |import: &Import| json!({"name": import.name, "offered": import.offered, "grants": import.grants});
    json!({
        "kind": of.map(kind),
        "digest": digest,
        "size": size,
        "runs": refused.is_none(),
        "exports": exports,
        "imports": imports.iter().map(import).collect::<Vec<_>>(),
        "problems": refused.as_ref().map(problems).unwrap_or_default(),
    })
}
