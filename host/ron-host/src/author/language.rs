//! The languages that services are written in, and what the program carries of each: a
//! template and an SDK, as they lie in `guests/`, and the contract.

use std::borrow::Cow;

use clap::ValueEnum;
use rust_embed::Embed;

use super::cargo_manifest;

/// `guests/`: SDKs and templates.
#[derive(Embed)]
#[folder = "../../guests"]
#[include = "*/sdk/*"]
#[include = "*/template*"]
#[include = "rust/src/*"]
#[include = "rust/Cargo.toml"]
#[exclude = "*/node_modules/*"]
#[exclude = "*/.venv/*"]
#[exclude = "*/__pycache__/*"]
#[exclude = "*/target/*"]
struct Guests;

/// `wit/`: the contract.
#[derive(Embed)]
#[folder = "../../wit"]
#[include = "*.wit"]
struct Contract;

/// A language with a template and an SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rust,
    Python,
    Javascript,
    Typescript,
    C,
    #[value(alias = "c++")]
    Cpp,
    Zig,
    Go,
}

/// A file of a project: where it is, relative to the project, and what is in it.
pub(crate) type ProjectFile = (String, Cow<'static, [u8]>);

impl Language {
    /// The directory of its template, in `guests/`.
    fn template_directory(self) -> &'static str {
        match self {
            Self::Rust => "rust/template",
            Self::Python => "python/template",
            Self::Javascript => "javascript/template",
            Self::Typescript => "javascript/template-typescript",
            Self::C => "c/template",
            Self::Cpp => "c/template-cpp",
            Self::Zig => "c/template-zig",
            Self::Go => "go/template",
        }
    }

    /// The directory of its SDK, in `guests/`. Some share one.
    fn sdk_directory(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python/sdk",
            Self::Javascript | Self::Typescript => "javascript/sdk",
            Self::C | Self::Cpp | Self::Zig => "c/sdk",
            Self::Go => "go/sdk",
        }
    }

    /// The files of its template, with `{{name}}` where the service's name belongs. A
    /// hidden file is called `dot-...` where it is kept, or it would hide there.
    pub(crate) fn template(self) -> Vec<ProjectFile> {
        let shown = |name: String| match name.rsplit_once('/') {
            Some((directory, file)) => format!("{directory}/{}", unhidden(file)),
            None => unhidden(&name),
        };
        let files = below(self.template_directory());
        files.map(|(name, text)| (shown(name), text)).collect()
    }

    /// The files of its SDK, and the contract beside it in `wit/`.
    pub(crate) fn sdk(self) -> Vec<ProjectFile> {
        let mut files: Vec<ProjectFile> = below(self.sdk_directory()).collect();
        if self == Self::Rust {
            // Its directory is the package itself.
            files.retain(|(name, _)| !name.starts_with("template/"));
            for (name, text) in &mut files {
                if name == "Cargo.toml" {
                    let whole = cargo_manifest::standing_alone(&String::from_utf8_lossy(text));
                    *text = Cow::Owned(whole.into_bytes());
                }
            }
        }
        files.extend(contract().map(|(name, text)| (format!("wit/{name}"), text)));
        files
    }
}

/// What the contract's files are, by name.
pub(super) fn contract() -> impl Iterator<Item = ProjectFile> {
    Contract::iter().filter_map(|name| Some((name.to_string(), Contract::get(&name)?.data)))
}

fn below(directory: &'static str) -> impl Iterator<Item = ProjectFile> {
    Guests::iter().filter_map(move |path| {
        let name = path.strip_prefix(directory)?.strip_prefix('/')?;
        Some((name.to_owned(), Guests::get(&path)?.data))
    })
}

fn unhidden(file: &str) -> String {
    match file.strip_prefix("dot-") {
        Some(rest) => format!(".{rest}"),
        None => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_what_a_project_needs() {
        for language in Language::value_variants() {
            let template = language.template();
            let has = |name: &str| template.iter().any(|(own, _)| own == name);
            for name in ["ron.toml", "README.md", ".gitignore"] {
                assert!(has(name), "{language:?} has no {name}");
            }
            let sdk = language.sdk();
            let has = |name: &str| sdk.iter().any(|(own, _)| own == name);
            assert!(has("wit/service.wit") && has("wit/stream/types.wit"), "{language:?}");
            assert!(sdk.len() > contract().count(), "{language:?} has no SDK");
            for (name, _) in template.iter().chain(&sdk) {
                let litter = ["node_modules", "__pycache__", ".venv", "target"];
                let part = name.split('/').find(|part| litter.contains(part));
                assert_eq!(part, None, "{language:?} has {name}");
            }
        }
    }
}
