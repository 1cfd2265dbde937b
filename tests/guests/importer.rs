//! A service that imports what no host offers, `acme:nowhere/thing@0.1.0`.

wit_bindgen::generate!({
    inline: "
        package acme:nowhere@0.1.0;
        interface thing { act: func(); }
        world importer { import thing; }
    ",
});

test_guests::mortal!(|_| acme::nowhere::thing::act());
