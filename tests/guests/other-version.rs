//! A service of a contract that is not there yet, `ron:kernel@2.0.0`.

#![allow(unsafe_code, reason = "the canonical ABI passes raw pointers")]

wit_bindgen::generate!({
    inline: "
        package ron:kernel@2.0.0;

        interface bus { publish: func(topic: string); }
        interface lifecycle { start: func(); }

        world next {
            import bus;
            export lifecycle;
        }
    ",
});

struct Next;

impl exports::ron::kernel::lifecycle::Guest for Next {
    fn start() {
        ron::kernel::bus::publish("started");
    }
}

export!(Next);
