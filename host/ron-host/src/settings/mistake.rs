//! Mistakes in flags, environment and file: each with its place, all of them
//! kept until they can be told together.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::Settings;
use super::check::may_be_secret;
use super::keys::CONFIG;
use super::tables::Tables;
use crate::logging::Format;

/// Most mistakes that are told one by one. Nobody reads as many, and a file of
/// 16 MiB can have a million.
pub(super) const TOLD: usize = 100;

/// Where something was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the file, at these bytes.
    File(Range<usize>),
    /// In a file that was not read.
    Unread(PathBuf),
    /// In a variable of the environment, by its name.
    Variable(String),
    /// On the command line, by its flag.
    Flag(String),
    /// With a component that the command line names, by its service.
    Service(String),
    /// Nowhere: it is the host's own default.
    Default,
}

/// The file as it was read.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// Where its lines begin, once somebody has asked.
    lines: OnceLock<Vec<usize>>,
    /// Where its tables begin, likewise; `None` if they cannot be told apart.
    tables: OnceLock<Option<Tables>>,
}

impl File {
    pub(crate) fn new(path: PathBuf, mut text: String) -> Self {
        // A byte order mark is no column.
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        Self { path, text, lines: OnceLock::new(), tables: OnceLock::new() }
    }

    /// Line and column of a byte, both from 1; the column in characters.
    pub(crate) fn position(&self, at: usize) -> (usize, usize) {
        let lines = self.lines.get_or_init(|| {
            let ends = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0).chain(ends.map(|(end, _)| end + 1)).collect()
        });
        let line = lines.partition_point(|start| *start <= at);
        let start = lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = self.text.get(start..at).unwrap_or(&self.text[start..]);
        (line, before.chars().count() + 1)
    }

    /// Where its tables begin.
    pub(super) fn tables(&self) -> Option<&Tables> {
        self.tables.get_or_init(|| Tables::of(&self.text)).as_ref()
    }

    /// Somebody knows where its tables begin.
    pub(super) fn know(&self, tables: Tables) {
        // Whoever asked first has found the same.
        let _ = self.tables.set(Some(tables));
    }

    /// What paths in it are relative to.
    pub(crate) fn base(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// What a mistake is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum In {
    /// In what is said.
    #[default]
    Settings,
    /// In a component that is said, which cannot be loaded.
    Component,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) is: In,
    pub(crate) place: Place,
    /// The key with its tables, dotted; empty where there is none.
    pub(crate) key: String,
    pub(crate) wrong: String,
    /// A whole clause: "expected ...", "there is ..."; empty, where `wrong` says it all.
    pub(crate) expected: String,
}

/// What is said and cannot be, where only its key is known: [`Settings::unfit`] finds where
/// that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    pub(crate) key: String,
    pub(crate) wrong: String,
    pub(crate) expected: String,
}

/// All that is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Wrong {
    pub(crate) mistakes: Vec<Mistake>,
    /// What was understood all the same. It is in force nowhere; what else is wrong can be
    /// found with it.
    pub(crate) said: Box<Settings>,
}

impl Wrong {
    /// As they stand in the file, and then the others.
    pub(crate) fn new(mut mistakes: Vec<Mistake>, said: Settings) -> Self {
        mistakes.sort_by_key(|mistake| match &mistake.place {
            Place::File(span) => span.start,
            _ => usize::MAX,
        });
        Self { mistakes, said: Box::new(said) }
    }

    /// With more that is wrong.
    pub(crate) fn and(self, more: Vec<Mistake>) -> Self {
        Self::new([self.mistakes, more].concat(), *self.said)
    }

    /// How records are to be written, as far as that could be told.
    pub(crate) fn format(&self) -> Format {
        self.said.plan.log.format
    }

    /// The file, if it could be read.
    pub(crate) fn file(&self) -> Option<&File> {
        self.said.file.as_deref()
    }

    /// Whether nothing is wrong with what is said, but with the components.
    pub(crate) fn is_in_components(&self) -> bool {
        self.mistakes.iter().all(|mistake| mistake.is == In::Component)
    }

    /// One text for each mistake, and one that says what happens `now`. For
    /// people with the line that is meant, coloured or not; for machines an
    /// object in a line.
    pub(crate) fn report(&self, format: Format, coloured: bool, now: &str) -> Vec<String> {
        let tell = |mistake: &Mistake| match format {
            Format::Text => self.text(mistake, coloured),
            Format::Json => self.json(mistake, now).to_string(),
        };
        let mut told: Vec<String> = self.mistakes.iter().take(TOLD).map(tell).collect();
        let more = self.mistakes.len() - told.len();
        // What is wrong with a flag is one line and clear without.
        let in_file = self.mistakes.iter().any(|one| matches!(one.place, Place::File(_)));
        if format == Format::Text && in_file {
            let (count, s) = (self.mistakes.len(), if self.mistakes.len() == 1 { "" } else { "s" });
            let rest = if more > 0 { format!(", {more} not told") } else { String::new() };
            told.push(format!("{count} mistake{s}{rest}: {now}"));
        } else if format == Format::Json && more > 0 {
            let message = format!("{more} mistakes more");
            told.push(json!({"level": "ERROR", "message": message, "now": now}).to_string());
        }
        told
    }

    fn text(&self, mistake: &Mistake, coloured: bool) -> String {
        let Mistake { place, key, wrong, expected, .. } = mistake;
        let said = if key.is_empty() { wrong.clone() } else { format!("{key}: {wrong}") };
        match (place, self.file()) {
            (Place::File(span), Some(file)) if self.may_be_shown(span, key) => {
                let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
                let renderer = renderer.decor_style(DecorStyle::Ascii);
                let here = AnnotationKind::Primary.span(span.clone());
                let expected = Some(expected.as_str()).filter(|text| !text.is_empty());
                let source = Snippet::source(file.text.as_str())
                    .path(file.path.to_string_lossy())
                    .annotation(here.label(expected));
                renderer.render(&[Level::ERROR.primary_title(said).element(source)])
            }
            _ => format!("error: {}", self.in_a_line(mistake)),
        }
    }

    /// A mistake with its place, without the line of the file.
    fn in_a_line(&self, mistake: &Mistake) -> String {
        match (&mistake.place, self.file()) {
            (Place::File(span), Some(file)) => {
                let (number, column) = file.position(span.start);
                format!("{}:{number}:{column}: {}", file.path.display(), line(mistake))
            }
            _ => line(mistake),
        }
    }

    /// Whether no secret is in the lines there, as far as one can be known: the value of a
    /// granted variable, or an argument. Those of a service's configuration name secrets
    /// and have none.
    fn may_be_shown(&self, span: &Range<usize>, key: &str) -> bool {
        let Some(file) = self.file() else { return false };
        let (before, after) = (file.text.get(..span.start), file.text.get(span.end..));
        let starts = before.unwrap_or_default().rfind('\n').map_or(0, |end| end + 1);
        let length = after.unwrap_or_default().find('\n');
        let ends = length.map_or(file.text.len(), |length| span.end + length);
        let lines = file.text.get(starts..ends).unwrap_or_default();
        let word = |c: char| !(c.is_alphanumeric() || c == '_');
        let speaks = || lines.split(word).any(|word| matches!(word, "env" | "args"));
        let in_config = key.split('.').nth(2) == Some(CONFIG.0);
        // As in `NAME=value`, wherever it stands.
        let of_text =
            |text: &str| text.chars().take_while(|c| !c.is_whitespace()).any(|c| c == '=');
        let assigns = || lines.split(['"', '\'']).skip(1).any(of_text);
        (in_config || !may_be_secret(key) && !speaks()) && !assigns()
    }

    fn json(&self, mistake: &Mistake, now: &str) -> Value {
        let Mistake { place, key, wrong, expected, .. } = mistake;
        let mut record = json!({
            "level": "ERROR",
            "message": line(mistake),
            "wrong": wrong,
            "expected": expected,
            "now": now,
        });
        if !key.is_empty() {
            record["key"] = json!(key);
        }
        match place {
            Place::File(span) => {
                if let Some(file) = self.file() {
                    let (line, column) = file.position(span.start);
                    record["file"] = json!(file.path);
                    record["line"] = json!(line);
                    record["column"] = json!(column);
                }
            }
            Place::Unread(path) => record["file"] = json!(path),
            Place::Variable(name) => record["variable"] = json!(name),
            Place::Flag(flag) => record["flag"] = json!(flag),
            Place::Service(name) => record["service"] = json!(name),
            Place::Default => {}
        }
        record
    }

    /// The mistakes, each in one line, for a log record or an answer over HTTP.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.mistakes.iter().take(TOLD).map(|mistake| self.in_a_line(mistake)).collect()
    }
}

/// A mistake without the line of the file.
fn line(mistake: &Mistake) -> String {
    let Mistake { place, key, wrong, expected, .. } = mistake;
    let mut line = String::new();
    match place {
        Place::File(_) if key.is_empty() => {}
        Place::File(_) | Place::Default => line.extend([key.as_str(), ": "]),
        Place::Unread(path) => line.extend([&*path.to_string_lossy(), ": "]),
        Place::Variable(name) | Place::Flag(name) => line.extend([name.as_str(), ": "]),
        Place::Service(name) => line.extend(["service ", name, ": "]),
    }
    line.push_str(wrong);
    if !expected.is_empty() {
        line.extend(["; ", expected]);
    }
    line
}
