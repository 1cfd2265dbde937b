//! A component that is no service: it exports `acme:elsewhere/thing@0.1.0` alone.

#![allow(unsafe_code, reason = "the canonical ABI passes raw pointers")]

wit_bindgen::generate!({
    inline: "
        package acme:elsewhere@0.1.0;
        interface thing { act: func(); }
        world other { export thing; }
    ",
});

struct Other;

impl exports::acme::elsewhere::thing::Guest for Other {
    fn act() {}
}

export!(Other);
