//! Each trap that WebAssembly knows is told by a code of its own: in the log, and in
//! `service_crashes_total{reason}`. Those that a program in Rust dies of are in
//! `ways_to_die.rs`; the others are jobs of a few lines here.

use std::fs;

use crate::harness::deployment::{deployment, start, write};

/// How one job dies.
struct Trap {
    name: &'static str,
    /// What the core module has besides `run`.
    items: &'static str,
    /// What `run` does.
    body: &'static str,
    /// What is said of it.
    text: &'static str,
}

const TRAPS: &[Trap] = &[
    Trap {
        name: "table-out-of-bounds",
        items: "(table 1 funcref)",
        body: "i32.const 7 call_indirect (result i32)",
        text: "wasm trap: undefined element: out of bounds table access",
    },
    Trap {
        name: "indirect-call-to-null",
        items: "(table 1 funcref)",
        body: "i32.const 0 call_indirect (result i32)",
        text: "wasm trap: uninitialized element",
    },
    Trap {
        name: "bad-signature",
        items: "(table 1 funcref) (func $other) (elem (i32.const 0) $other)",
        body: "i32.const 0 call_indirect (result i32)",
        text: "wasm trap: indirect call type mismatch",
    },
    Trap {
        name: "integer-overflow",
        items: "",
        body: "i32.const 0x80000000 i32.const -1 i32.div_s",
        text: "wasm trap: integer overflow",
    },
    Trap {
        name: "bad-conversion-to-integer",
        items: "",
        body: "f32.const nan i32.trunc_f32_s",
        text: "wasm trap: invalid conversion to integer",
    },
    Trap {
        name: "component-model",
        items: "",
        // A result is good or bad, 0 or 1.
        body: "i32.const 2",
        text: "invalid expected discriminant",
    },
];

impl Trap {
    /// A component that exports `wasi:cli/run`.
    fn component(&self) -> Vec<u8> {
        let Self { items, body, .. } = self;
        let text = format!(
            r#"(component
                (core module $module {items} (func (export "run") (result i32) {body}))
                (core instance $core (instantiate $module))
                (func $run (result (result)) (canon lift (core func $core "run")))
                (instance $exports (export "run" (func $run)))
                (export "wasi:cli/run@0.2.6" (instance $exports)))"#
        );
        wat::parse_str(text).expect("a component")
    }
}

#[test]
fn each_trap_has_a_code_of_its_own() {
    let directory = deployment("trap-codes", &[], "");
    let mut text = String::from("log.format = 'json'\ndefaults.critical = false\n");
    text += "defaults.restart.policy = 'never'\n";
    for trap in TRAPS {
        let name = trap.name;
        fs::write(directory.join(format!("{name}.wasm")), trap.component()).expect("written");
        text += &format!("[service.{name}]\ncomponent = '{name}.wasm'\n");
    }
    write(&directory, "ron.toml", &text);
    let host = start(&directory, "", &[]);
    for Trap { name, text, .. } in TRAPS {
        let crash = host.log(|record| record["service"] == *name && record["level"] == "ERROR");
        assert_eq!(crash["reason"], format!("trap-{name}"), "{crash:#}");
        let message = crash["message"].as_str().unwrap_or_default();
        assert!(message.starts_with(&format!("crashed: {text}")), "{crash:#}");
        let crashes = format!("service_crashes_total{{reason=\"trap-{name}\",service=\"{name}\"}}");
        assert_eq!(host.metrics().value(&crashes), 1.0);
    }
}
