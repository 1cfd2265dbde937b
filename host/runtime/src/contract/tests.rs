//! Each kind of type, the contract's and those that it does not have, beside what
//! may stand in its place.

use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use super::types::{CONTRACT, Contract, Function, Interface, Type};
use super::{Problem, Side, against, numbers, sentence, track};
use crate::host;

fn kept<T>(values: Vec<T>) -> &'static [T] {
    Box::leak(values.into_boxed_slice())
}

/// An interface with two resources and a function.
fn interface(
    parameters: Vec<(&'static str, Type)>,
    result: Option<Type>,
    is_async: bool,
) -> &'static [Interface] {
    let function = Function { name: "f", is_async, parameters: kept(parameters), result };
    kept(vec![Interface {
        name: "t:t/i",
        version: "1.2.0",
        resources: &["r", "s"],
        functions: kept(vec![function]),
    }])
}

/// What is told of a component.
fn told(contract: &Contract, component: &str) -> String {
    let engine = Engine::default();
    let bytes = wat::parse_str(component).unwrap_or_else(|e| panic!("{component}: {e}"));
    let component = Component::new(&engine, bytes).expect("a valid component");
    sentence(&against(contract, &engine, &component.component_type()))
}

/// Imports an interface with these items.
fn imports(items: &str) -> String {
    format!("(component (import \"t:t/i@1.2.0\" (instance {items})))")
}

/// The contract's parameter `p` beside the type `ty` of a component that defines
/// `items`.
#[track_caller]
fn check(expected: Type, items: &str, ty: &str, told_of_it: &str) {
    let contract =
        Contract { imports: interface(vec![("p", expected)], None, false), exports: &[] };
    let component = imports(&format!("{items} (export \"f\" (func (param \"q\" {ty})))"));
    let head = "t:t/i@1.2.0#f: ";
    let expected =
        if told_of_it.is_empty() { String::new() } else { format!("{head}{told_of_it}") };
    assert_eq!(told(&contract, &component), expected);
}

#[test]
fn every_primitive_is_itself_alone() {
    let all = || {
        [
            Type::Bool,
            Type::U8,
            Type::U16,
            Type::U32,
            Type::U64,
            Type::S8,
            Type::S16,
            Type::S32,
            Type::S64,
            Type::F32,
            Type::F64,
            Type::Char,
            Type::String,
        ]
    };
    for (n, expected) in all().into_iter().enumerate() {
        let name = expected.to_string();
        check(expected, "", &name, "");
        let other = all().into_iter().nth((n + 1) % all().len()).expect("one").to_string();
        let expected = all().into_iter().nth(n).expect("one");
        check(expected, "", &other, &format!("parameter \"p\" is {other}, expected {name}"));
    }
}

#[test]
fn types_without_a_name_are_told_whole() {
    let whole = |expected, ty: &str, written: &str| {
        let told = match written {
            "" => String::new(),
            _ => format!("parameter \"p\" is {written}"),
        };
        check(expected, "", ty, &told);
    };
    whole(Type::List(&Type::U8), "(list u8)", "");
    whole(Type::List(&Type::U8), "(list string)", "list<string>, expected list<u8>");
    whole(
        Type::List(&Type::Option(&Type::U8)),
        "(list (option s8))",
        "list<option<s8>>, expected list<option<u8>>",
    );
    whole(Type::Option(&Type::Char), "char", "char, expected option<char>");
    const PAIR: Type = Type::Tuple(&[Type::U8, Type::Bool]);
    whole(PAIR, "(tuple u8 bool)", "");
    whole(PAIR, "(tuple bool bool)", "tuple<bool, bool>, expected tuple<u8, bool>");
    whole(PAIR, "(tuple u8)", "tuple<u8>, expected tuple<u8, bool>");
    const ENDS: Type = Type::Result(Some(&Type::U8), None);
    whole(ENDS, "(result u8)", "");
    whole(ENDS, "(result)", "result, expected result<u8>");
    whole(ENDS, "(result u8 (error s8))", "result<u8, s8>, expected result<u8>");
    whole(ENDS, "(result (error u8))", "result<_, u8>, expected result<u8>");
}

const RECORD: Type = Type::Record("row", &[("a", Type::U8), ("b", Type::List(&Type::U8))]);
const VARIANT: Type = Type::Variant("choice", &[("a", None), ("b", Some(Type::U8))]);
const ENUM: Type = Type::Enum("colour", &["a", "b"]);
const FLAGS: Type = Type::Flags("rights", &["a", "b"]);

#[test]
fn members_are_told_by_name() {
    let named = |expected, ty: &str, told: &str| {
        let items = format!("(type $t {ty}) (export \"t\" (type $e (eq $t)))");
        let told = if told.is_empty() { String::new() } else { format!("parameter \"p\"{told}") };
        check(expected, &items, "$e", &told);
    };
    named(RECORD, r#"(record (field "a" u8) (field "b" (list u8)))"#, "");
    named(
        RECORD,
        r#"(record (field "a" s8) (field "b" string))"#,
        ": field \"a\" is s8, expected u8; \
         t:t/i@1.2.0#f: parameter \"p\": field \"b\" is string, expected list<u8>",
    );
    named(
        RECORD,
        r#"(record (field "c" u8) (field "b" (list u8)) (field "d" u8))"#,
        " lacks field \"a\" and has unknown field \"c\", \"d\"",
    );
    named(
        RECORD,
        r#"(record (field "b" (list u8)) (field "a" u8))"#,
        " has its fields in the order b, a, expected a, b",
    );
    named(ENUM, r#"(enum "a" "b")"#, "");
    named(ENUM, r#"(enum "a" "b" "c")"#, " has unknown case \"c\"");
    named(ENUM, r#"(enum "b" "a")"#, " has its cases in the order b, a, expected a, b");
    named(ENUM, r#"(flags "a" "b")"#, " is flags { a, b }, expected enum colour");
    named(FLAGS, r#"(flags "a" "b")"#, "");
    named(FLAGS, r#"(flags "a")"#, " lacks flag \"b\"");
    named(FLAGS, r#"(record (field "a" u8))"#, " is record { a }, expected flags rights");
    named(VARIANT, r#"(variant (case "a") (case "b" u8))"#, "");
    named(
        VARIANT,
        r#"(variant (case "a" u8) (case "b"))"#,
        ": case \"a\" is u8, expected nothing; \
         t:t/i@1.2.0#f: parameter \"p\": case \"b\" is nothing, expected u8",
    );
    named(VARIANT, r#"(enum "a" "b")"#, " is enum { a, b }, expected variant choice");
    named(RECORD, r#"(variant (case "a"))"#, " is variant { a }, expected record row");
}

#[test]
fn the_way_leads_into_what_has_a_name() {
    let items = "(type $t (record (field \"a\" u8) (field \"b\" string))) \
                 (export \"t\" (type $e (eq $t)))";
    let at = |expected, ty: &str, way: &str| {
        let told = format!("parameter \"p\": {way}: field \"b\" is string, expected list<u8>");
        check(expected, items, ty, &told);
    };
    at(Type::List(&RECORD), "(list $e)", "element");
    at(Type::Option(&RECORD), "(option $e)", "value");
    at(Type::Result(Some(&RECORD), None), "(result $e)", "ok");
    at(Type::Result(None, Some(&RECORD)), "(result (error $e))", "error");
    at(Type::Tuple(&[Type::U8, RECORD]), "(tuple u8 $e)", "item 1");
    at(Type::List(&Type::Option(&RECORD)), "(list (option $e))", "element: value");
    // Beside something that has none.
    check(
        Type::Tuple(&[Type::U8, RECORD]),
        items,
        "(tuple s8 $e)",
        "parameter \"p\": item 0 is s8, expected u8; \
         t:t/i@1.2.0#f: parameter \"p\": item 1: field \"b\" is string, expected list<u8>",
    );
}

#[test]
fn resources_are_known_by_their_names() {
    let items = "(export \"r\" (type $r (sub resource)))";
    check(Type::Own("r"), items, "(own $r)", "");
    check(Type::Borrow("r"), items, "(borrow $r)", "");
    let told = "parameter \"p\" is own<resource>, expected borrow<r>";
    check(Type::Borrow("r"), items, "(own $r)", told);
    let items = "(export \"r\" (type (sub resource))) (export \"s\" (type $s (sub resource)))";
    check(Type::Own("s"), items, "(own $s)", "");
    let told = "parameter \"p\" is own<resource>, expected own<r>";
    check(Type::Own("r"), items, "(own $s)", told);
    let told = format!("{told}; t:t/i@1.2.0#z: is imported, this host's 1.2.0 lacks it");
    check(Type::Own("r"), "(export \"z\" (type $z (sub resource)))", "(own $z)", &told);
}

#[test]
fn functions_are_told_from_outside() {
    let contract = |is_async| Contract {
        imports: interface(vec![("p", RECORD)], Some(Type::U8), is_async),
        exports: &[],
    };
    let told = |is_async, items: &str| told(&contract(is_async), &imports(items));
    assert_eq!(told(false, ""), "", "it need not import it");
    assert_eq!(
        told(false, "(export \"f\" (func (param \"x\" u8) (param \"y\" (list u8)) (result u8)))"),
        "t:t/i@1.2.0#f: has the parameters (x: u8, y: list<u8>), expected (p: row)"
    );
    assert_eq!(
        told(false, "(export \"f\" (func))"),
        "t:t/i@1.2.0#f: has the parameters (), expected (p: row); \
         t:t/i@1.2.0#f: result is nothing, expected u8"
    );
    assert_eq!(
        told(false, "(export \"f\" (instance)) (export \"g\" (func))"),
        "t:t/i@1.2.0#f: is an interface, expected a function; \
         t:t/i@1.2.0#g: is imported, this host's 1.2.0 lacks it"
    );
    let text = told(true, "(export \"f\" (func (param \"p\" u8) (result u8)))");
    assert!(
        text.starts_with("t:t/i@1.2.0#f: is synchronous, expected an async function"),
        "{text}"
    );
}

#[test]
fn what_is_exported_must_be_whole() {
    let contract = Contract { imports: &[], exports: interface(Vec::new(), None, false) };
    let function = "(core module $m (func (export \"f\"))) (core instance $c (instantiate $m)) \
                    (func $f (canon lift (core func $c \"f\")))";
    let export = |named: &str, versions: &[&str]| {
        let instance = format!("(instance $i (export \"{named}\" (func $f)))");
        let export = |version| format!("(export \"t:t/i@{version}\" (instance $i))");
        let exports: String = versions.iter().map(export).collect();
        told(&contract, &format!("(component {function} {instance} {exports})"))
    };
    assert_eq!(export("f", &["1.2.0"]), "");
    assert_eq!(export("f", &[]), "", "it need not export it");
    assert_eq!(export("g", &["1.2.0"]), "t:t/i@1.2.0#f: is not exported");
    // Of several versions, the one that the host calls.
    assert_eq!(export("f", &["1.9.0"]), "");
    assert_eq!(export("f", &["2.0.0", "1.0.0"]), "");
    assert_eq!(export("g", &["1.3.0", "1.10.0"]), "t:t/i@1.10.0#f: is not exported");
    assert_eq!(export("g", &["1.3.0", "1.2.0"]), "t:t/i@1.2.0#f: is not exported");
    assert_eq!(export("f", &["0.9.0", "2.0.0"]), "exports t:t/i@2.0.0, this host offers 1.2.0");
    let no_interface = format!("(component {function} (export \"t:t/i@1.2.0\" (func $f)))");
    assert_eq!(told(&contract, &no_interface), "t:t/i@1.2.0: is a function, expected an interface");
}

#[test]
fn versions_are_compatible_as_wasmtime_has_it() {
    for (version, expected) in [
        ("1.0.0", Some("1")),
        ("10.2.3", Some("10")),
        ("0.2.7", Some("0.2")),
        ("0.0.3", Some("0.0.3")),
        ("1.0.0+build-7", Some("1")),
        ("1.0.0-rc.1", None),
        ("", None),
    ] {
        assert_eq!(track(version), expected, "{version}");
    }
    assert!(numbers("1.10.0") > numbers("1.9.9"));
    let contract = Contract { imports: interface(Vec::new(), None, false), exports: &[] };
    let import =
        |name: &str| told(&contract, &format!("(component (import \"{name}\" (instance)))"));
    assert_eq!(import("t:t/i@1.7.0"), "");
    for other in ["t:t/i", "t:t/i@2.0.0", "t:t/i@1.2.0-rc.1"] {
        assert_eq!(import(other), format!("imports {other}, this host offers 1.2.0"));
    }
}

/// A type may be as large, and a name as long, as its author likes.
#[test]
fn a_component_makes_no_message_long() {
    // Each holds the one before it twice: 2^12 in all.
    let doubled = |n| format!("(type $t{} (tuple $t{n} $t{n}))", n + 1);
    let deep: String = (0..12).map(doubled).collect();
    let name = "n".repeat(500);
    let fields: String = (0..100).map(|n| format!("(field \"{name}-a{n}\" u8)")).collect();
    let items = format!(
        "(type $t0 (tuple u8 u8)) {deep} (type $r (record {fields})) \
         (export \"r\" (type $e (eq $r)))"
    );
    let contract = |ty| Contract { imports: interface(vec![("p", ty)], None, false), exports: &[] };
    for (ty, expected, longest) in [
        ("$t12", Type::U8, 400),
        ("$t12", RECORD, 400),
        ("$e", Type::U8, 500),
        ("$e", RECORD, 2000),
    ] {
        let component = imports(&format!("{items} (export \"f\" (func (param \"q\" {ty})))"));
        let text = told(&contract(expected), &component);
        assert!(text.contains("..."), "{text}");
        assert!(text.len() < longest, "{}: {text}", text.len());
    }
    let functions: String = (0..500).map(|n| format!("(export \"{name}-a{n}\" (func))")).collect();
    let text = told(&contract(Type::U8), &imports(&functions));
    assert!(text.ends_with("; and 480 more"), "{text}");
    assert!(text.len() < 4000, "{}", text.len());
}

#[test]
fn both_sides_are_told() {
    let one = interface(Vec::new(), None, false);
    let engine = Engine::default();
    let text =
        "(component (import \"t:t/i@2.0.0\" (instance $i)) (export \"t:t/i@3.0.0\" (instance $i)))";
    let component = Component::new(&engine, wat::parse_str(text).expect("text")).expect("valid");
    let contract = Contract { imports: one, exports: one };
    let all = against(&contract, &engine, &component.component_type());
    assert_eq!(all.iter().map(|one| one.side).collect::<Vec<_>>(), [Side::Export, Side::Import]);
}

/// A type of the contract as a component would have it, but for one place in it
/// where there is something else.
struct Written {
    /// Types that have a name.
    items: String,
    /// Places so far.
    places: usize,
    /// The one that is another.
    other: Option<usize>,
}

impl Written {
    /// The type, as text of a component.
    fn of(&mut self, ty: &Type) -> String {
        let place = self.places;
        self.places += 1;
        if self.other == Some(place) {
            return if matches!(ty, Type::Bool) { "u8" } else { "bool" }.to_owned();
        }
        match ty {
            Type::List(ty) => format!("(list {})", self.of(ty)),
            Type::Option(ty) => format!("(option {})", self.of(ty)),
            Type::Result(ok, err) => {
                let ok = ok.map_or_else(String::new, |ok| self.of(ok));
                let err = err.map_or_else(String::new, |err| format!("(error {})", self.of(err)));
                format!("(result {ok} {err})")
            }
            Type::Tuple(types) => {
                let types: Vec<String> = types.iter().map(|ty| self.of(ty)).collect();
                format!("(tuple {})", types.join(" "))
            }
            Type::Record(_, fields) => {
                let field = |(name, ty)| format!("(field \"{name}\" {})", self.of(ty));
                let fields: String =
                    fields.iter().map(|(name, ty)| (name, ty)).map(field).collect();
                self.named(&format!("(record {fields})"))
            }
            Type::Variant(_, cases) => {
                let mut case = |name: &str, ty: &Option<Type>| {
                    let ty = ty.as_ref().map_or_else(String::new, |ty| self.of(ty));
                    format!("(case \"{name}\" {ty})")
                };
                let cases: String = cases.iter().map(|(name, ty)| case(name, ty)).collect();
                self.named(&format!("(variant {cases})"))
            }
            Type::Enum(_, names) => self.named(&format!("(enum \"{}\")", names.join("\" \""))),
            Type::Flags(_, names) => self.named(&format!("(flags \"{}\")", names.join("\" \""))),
            Type::Own(name) => format!("(own {})", self.resource(name)),
            Type::Borrow(name) => format!("(borrow {})", self.resource(name)),
            primitive => primitive.to_string(),
        }
    }

    /// No function of the contract has one twice.
    fn resource(&mut self, name: &str) -> String {
        let n = self.items.len();
        self.items += &format!("(export \"{name}\" (type $r{n} (sub resource)))");
        format!("$r{n}")
    }

    fn named(&mut self, ty: &str) -> String {
        let n = self.items.len();
        self.items += &format!("(type $t{n} {ty}) (export \"t{n}\" (type $e{n} (eq $t{n})))");
        format!("$e{n}")
    }
}

#[test]
fn another_type_at_any_place_of_the_contract_is_told() {
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    host::add_to_linker(&mut linker).expect("all is linked once");
    let told = |interface: &'static Interface, function: &Function, other| {
        let mut written = Written { items: String::new(), places: 0, other };
        let parameters: String = function
            .parameters
            .iter()
            .map(|(name, ty)| format!("(param \"{name}\" {})", written.of(ty)))
            .collect();
        let result = function.result.as_ref();
        let result = result.map_or_else(String::new, |ty| format!("(result {})", written.of(ty)));
        let (name, version) = (interface.name, interface.version);
        let text = format!(
            "(component (import \"{name}@{version}\" (instance {} \
             (export \"{}\" (func {parameters} {result})))))",
            written.items, function.name
        );
        let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let component = Component::new(&engine, bytes).expect("a valid component");
        let contract = Contract { imports: std::slice::from_ref(interface), exports: &[] };
        let all = against(&contract, &engine, &component.component_type());
        if CONTRACT.imports.iter().any(|own| own.name == interface.name) {
            // wasmtime is of the same mind.
            let linked = linker.instantiate_pre(&component);
            assert_eq!(linked.is_ok(), all.is_empty(), "{all:?}, {:?}", linked.err());
        }
        (written.places, all)
    };
    for interface in CONTRACT.imports.iter().chain(CONTRACT.exports) {
        for function in interface.functions {
            let (places, all) = told(interface, function, None);
            assert_eq!(all, [], "{} as it is", function.name);
            for place in 0..places {
                let (_, all) = told(interface, function, Some(place));
                let [one] = &all[..] else { panic!("{}, {place}: {all:?}", function.name) };
                assert_eq!(one.function.as_deref(), Some(function.name));
                let Problem::Type { found, expected } = &one.problem else { panic!("{one}") };
                assert_ne!(found, expected, "{one}");
                assert!(found.contains("bool") || found.contains("u8"), "{one}");
            }
        }
    }
}
