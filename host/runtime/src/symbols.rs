//! From the stack of a trap to lines that a person reads.
//!
//! The trap itself costs its service the capture of offsets and names. Places in
//! the source are looked up later, by whoever writes the crash down, in the
//! component's file, which is read again: neither its bytes nor what is parsed
//! of them are kept, because a host runs thousands of components and few crash.
//! What was found is remembered, so a crash loop reads the file once.
//!
//! Rejected: the engine's own symbols. It looks them up before the trap returns,
//! and parses all of the module's debug information anew for each frame: 30 ms
//! for the stack of a panic.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;

use addr2line::Context;
use addr2line::gimli::{self, Dwarf, EndianSlice, LittleEndian};
use parking_lot::Mutex;
use thiserror::Error;
use wasmparser::{Encoding, Parser, Payload};
use wasmtime::WasmBacktrace;

use crate::component::{Source, SourceError};
use crate::digest::Digest;

/// Frames kept of a stack; recursion has many more.
pub(crate) const FRAMES: usize = 64;
/// Functions shown of one frame, inlined into each other.
const INLINED: usize = 32;
/// Characters of a function's name. Generic arguments can make one longer than
/// the rest of the report together.
const NAME: usize = 100;
/// Characters of a path, of its end.
const PATH: usize = 200;
/// Frames that are remembered, of all components.
const REMEMBERED: usize = 4096;
/// Bytes of a module's debug information that are looked at: 64 MiB.
const DEBUG: usize = 64 << 20;
/// Levels of inlined functions. `addr2line` follows them by recursion, and what
/// a component says of itself must not overflow the host's stack.
const NESTED: usize = 128;
/// Ranges of addresses in a module. Functions can share a list of them, and
/// `addr2line` has a copy for each.
const RANGES: usize = 1 << 20;

type Slice<'b> = EndianSlice<'b, LittleEndian>;

/// Where code was when it trapped, innermost first.
#[derive(Debug)]
pub(crate) struct Stack {
    frames: Vec<Frame>,
    more: bool,
}

#[derive(Debug)]
struct Frame {
    /// Of the instruction, from the beginning of the component.
    offset: Option<usize>,
    name: String,
}

impl Stack {
    pub(crate) fn of(backtrace: &WasmBacktrace) -> Self {
        let frames = backtrace.frames();
        let more = frames.len() > FRAMES;
        let frames = frames.iter().take(FRAMES).map(|frame| Frame {
            offset: frame.module_offset(),
            name: frame
                .func_name()
                .map_or_else(|| format!("wasm function {}", frame.func_index()), demangle),
        });
        Self { frames: frames.collect(), more }
    }

    /// A line a frame: its function.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lines(|_| None)
    }

    /// A line for each function of a frame in `places`, or for the frame.
    fn lines(&self, places: impl Fn(&Frame) -> Option<Arc<[String]>>) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for frame in &self.frames {
            let places = places(frame).unwrap_or_default();
            let own = if places.is_empty() { std::slice::from_ref(&frame.name) } else { &places };
            for line in own {
                lines.push(format!("{}: {line}", lines.len()));
            }
        }
        if self.more {
            lines.push("... and more frames".into());
        }
        lines
    }
}

/// The places in the source that were looked up. A clone is the same memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Symbols(Arc<Mutex<Found>>);

/// By component and offset: a line for each function there, the innermost first.
/// None where nothing is known, which is remembered too.
type Found = HashMap<(Digest, usize), Arc<[String]>>;

/// Why a backtrace has the names of functions alone.
#[derive(Debug, Error)]
enum Unknown {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the component cannot be parsed again")]
    Parse(#[from] wasmparser::BinaryReaderError),
    #[error("its debug information is damaged")]
    Dwarf(#[from] gimli::Error),
    #[error("{0} bytes of debug information; at most {DEBUG} are looked at")]
    TooLarge(usize),
    #[error("more than {NESTED} levels of inlined functions")]
    TooDeep,
    #[error("more than {RANGES} ranges of addresses")]
    TooManyRanges,
}

impl Symbols {
    /// The stack with its places in the source, if any is found. Takes
    /// milliseconds for a component that did not crash there before. One look-up
    /// at a time: others wait.
    pub(crate) fn places(&self, source: &Source, stack: &Stack) -> Option<Vec<String>> {
        let mut found = self.0.lock();
        if found.len() + stack.frames.len() > REMEMBERED {
            found.clear();
        }
        let digest = source.digest;
        let frames = stack.frames.iter().filter_map(|frame| Some((frame.offset?, &*frame.name)));
        // Recursion is in the same place many times.
        let new: BTreeMap<usize, &str> =
            frames.filter(|(offset, _)| !found.contains_key(&(digest, *offset))).collect();
        if !new.is_empty() {
            let mut places = HashMap::new();
            if let Err(unknown) = look_up(source, &new, &mut places) {
                tracing::debug!(%digest, "a backtrace has names alone: {unknown}");
            }
            for offset in new.into_keys() {
                let lines = places.remove(&offset).unwrap_or_default();
                found.insert((digest, offset), lines.into());
            }
        }
        let known = |frame: &Frame| found.get(&(digest, frame.offset?)).cloned();
        let any = stack.frames.iter().any(|frame| known(frame).is_some_and(|p| !p.is_empty()));
        any.then(|| stack.lines(known))
    }
}

/// Puts what the file knows of the code at those offsets, in functions that the
/// engine calls so, into `places`.
fn look_up(
    source: &Source,
    offsets: &BTreeMap<usize, &str>,
    places: &mut HashMap<usize, Vec<String>>,
) -> Result<(), Unknown> {
    let component = source.read()?;
    for module in modules(&component)? {
        let mut offsets = offsets.range(module.code.clone()).peekable();
        if offsets.peek().is_none() || module.debug.is_empty() {
            continue;
        }
        let context = module.context()?;
        for (offset, name) in offsets {
            // DWARF counts from the beginning of the code section.
            let address = (offset - module.code.start) as u64;
            // What is damaged in one place may be whole in another.
            places.insert(*offset, functions(&context, address, name).unwrap_or_default());
        }
    }
    Ok(())
}

/// A line for each function that the code at `address` is of.
fn functions(
    context: &Context<Slice<'_>>,
    address: u64,
    name: &str,
) -> Result<Vec<String>, gimli::Error> {
    let mut lines = Vec::new();
    let mut frames = context.find_frames(address).skip_all_loads()?;
    while let Some(frame) = frames.next()?
        && lines.len() < INLINED
    {
        let own = frame.function.as_ref().and_then(|function| function.raw_name().ok());
        let mut line = own.map_or_else(|| name.to_owned(), |own| demangle(&own));
        if let Some((file, number)) = frame.location.and_then(|at| Some((at.file?, at.line?))) {
            line += &format!(" at {}:{number}", end_of(file));
        }
        lines.push(line);
    }
    Ok(lines)
}

/// A core module within a component.
#[derive(Debug, Default)]
struct Module<'b> {
    /// Its code section.
    code: Range<usize>,
    /// Its sections of debug information, by name.
    debug: HashMap<&'b str, &'b [u8]>,
}

/// The core modules of a component, those of components within it too.
fn modules(component: &[u8]) -> Result<Vec<Module<'_>>, wasmparser::BinaryReaderError> {
    let mut done = Vec::new();
    // What encloses the section at hand; components are not looked at.
    let mut open: Vec<Option<Module<'_>>> = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { encoding, .. } => {
                open.push((encoding == Encoding::Module).then(Module::default));
            }
            Payload::End(_) => done.extend(open.pop().flatten()),
            Payload::CodeSectionStart { range, .. } => {
                if let Some(Some(module)) = open.last_mut() {
                    module.code = range;
                }
            }
            Payload::CustomSection(section) if section.name().starts_with(".debug_") => {
                if let Some(Some(module)) = open.last_mut() {
                    module.debug.insert(section.name(), section.data());
                }
            }
            _ => {}
        }
    }
    Ok(done)
}

impl<'b> Module<'b> {
    fn context(&self) -> Result<Context<Slice<'b>>, Unknown> {
        let size = self.debug.values().map(|section| section.len()).sum();
        if size > DEBUG {
            return Err(Unknown::TooLarge(size));
        }
        let dwarf = Dwarf::load(|id| {
            let section = self.debug.get(id.name()).copied().unwrap_or_default();
            Ok::<_, gimli::Error>(EndianSlice::new(section, LittleEndian))
        })?;
        check_bounds(&dwarf)?;
        Ok(Context::from_dwarf(dwarf)?)
    }
}

/// Refuses what would cost the host its stack or its memory.
fn check_bounds(dwarf: &Dwarf<Slice<'_>>) -> Result<(), Unknown> {
    let mut ranges = 0;
    let mut units = dwarf.units();
    while let Some(unit) = units.next()? {
        let Ok(unit) = dwarf.unit(unit) else { continue };
        let unit = unit.unit_ref(dwarf);
        let mut entries = unit.entries_raw(None)?;
        // The depths of the inlined functions around the entry at hand.
        let mut around: Vec<isize> = Vec::new();
        while !entries.is_empty() {
            let depth = entries.next_depth();
            let Some(entry) = entries.read_abbreviation()? else { continue };
            while around.pop_if(|outer| *outer >= depth).is_some() {}
            if entry.tag() == gimli::DW_TAG_inlined_subroutine {
                around.push(depth);
                if around.len() > NESTED {
                    return Err(Unknown::TooDeep);
                }
            }
            for attribute in entry.attributes() {
                let attribute = entries.read_attribute(*attribute)?;
                if attribute.name() != gimli::DW_AT_ranges {
                    continue;
                }
                let Some(list) = unit.attr_ranges_offset(attribute.value())? else { continue };
                let mut list = unit.ranges(list)?;
                while let Ok(Some(_)) = list.next() {
                    ranges += 1;
                    if ranges > RANGES {
                        return Err(Unknown::TooManyRanges);
                    }
                }
            }
        }
    }
    Ok(())
}

/// A name as its author wrote it, up to [`NAME`] characters of it.
fn demangle(name: &str) -> String {
    let mut short = Short::default();
    let _ = match rustc_demangle::try_demangle(name) {
        Ok(name) => write!(short, "{name:#}"),
        Err(_) => short.write_str(name),
    };
    short.text
}

/// A text that ends early: a short symbol can stand for a name without end.
#[derive(Default)]
struct Short {
    text: String,
    characters: usize,
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.characters == NAME {
                self.text.push_str("...");
                return Err(fmt::Error);
            }
            self.characters += 1;
            self.text.push(c);
        }
        Ok(())
    }
}

fn end_of(path: &str) -> &str {
    path.char_indices().nth_back(PATH - 1).map_or(path, |(at, _)| &path[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_end() {
        fn check(name: &str, expected: &str) {
            assert_eq!(demangle(name), expected);
        }
        check("on-message", "on-message");
        check("_ZN5hello5greet17h0123456789abcdefE", "hello::greet");
        check(&"x".repeat(NAME), &"x".repeat(NAME));
        check(&"ä".repeat(NAME + 1), &("ä".repeat(NAME) + "..."));
    }

    #[test]
    fn of_a_path_the_end_is_kept() {
        assert_eq!(end_of("src/lib.rs"), "src/lib.rs");
        assert_eq!(end_of(&("ä".repeat(PATH) + "/src/lib.rs")).chars().count(), PATH);
        assert!(end_of(&("/".repeat(PATH) + "src/lib.rs")).ends_with("/src/lib.rs"));
    }

    /// A unit of debug information with these entries.
    fn unit(entries: impl IntoIterator<Item = u8>) -> Vec<u8> {
        // Version 4, abbreviations at 0, addresses of 4 bytes.
        let unit: Vec<u8> = [4, 0, 0, 0, 0, 0, 4].into_iter().chain(entries).collect();
        let length = u32::try_from(unit.len()).expect("it is short");
        [&length.to_le_bytes()[..], &unit].concat()
    }

    #[test]
    fn debug_information_is_looked_at_within_bounds() {
        fn check(info: &[u8], ranges: &[u8], expected: Option<&str>) {
            let abbreviations = [
                // 1: DW_TAG_inlined_subroutine, with children, without attributes.
                &[1, 0x1d, 1, 0, 0][..],
                // 2: DW_TAG_subprogram, without children: DW_AT_ranges, DW_FORM_sec_offset.
                &[2, 0x2e, 0, 0x55, 0x17, 0, 0],
                &[0],
            ]
            .concat();
            let debug = [
                (".debug_info", info),
                (".debug_abbrev", &abbreviations),
                (".debug_ranges", ranges),
            ];
            let module = Module { code: 0..1, debug: debug.into() };
            let error = module.context().err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected);
        }
        let nested = |levels| unit([[1].repeat(levels), [0].repeat(levels)].concat());
        let deep = Some("more than 128 levels of inlined functions");
        check(&nested(1), &[], None);
        check(&nested(NESTED), &[], None);
        check(&nested(NESTED + 1), &[], deep);
        check(&nested(1 << 20), &[], deep);
        // Functions that share one list of ranges.
        let shared =
            |functions| unit([vec![1], [2, 0, 0, 0, 0].repeat(functions), vec![0]].concat());
        let ranges = [[1, 0, 0, 0, 2, 0, 0, 0].repeat(1 << 10), vec![0; 8]].concat();
        check(&shared(1 << 10), &ranges, None);
        check(&shared((1 << 10) + 1), &ranges, Some("more than 1048576 ranges of addresses"));
        check(&[0xff; 100], &[], Some("its debug information is damaged"));
    }

    #[test]
    fn only_core_modules_have_code_and_debug_information() {
        // A component with a module of an empty code section and a custom one,
        // and a custom section of its own.
        let module = b"\0asm\x01\0\0\0\x0a\x01\0\0\x0d\x0b.debug_infoA";
        let mut component = b"\0asm\x0d\0\x01\0\x01".to_vec();
        component.push(module.len() as u8);
        let inner = component.len();
        component.extend(module);
        component.extend(b"\0\x0d\x0b.debug_infoB");
        let modules = modules(&component).expect("it is a component");
        assert_eq!(modules.len(), 1);
        assert_eq!(modules[0].debug, [(".debug_info", &b"A"[..])].into());
        // After magic number, version, section id and size.
        assert_eq!(modules[0].code, inner + 10..inner + 11);
    }
}
