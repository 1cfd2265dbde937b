//! Told to die, publishes to `flood.NAME` for ever, refused or not.

use ron_guest::{bus, identity};

test_guests::mortal!(|_| {
    let topic = format!("flood.{}", identity::get().service);
    loop {
        let _ = bus::publish(&topic, "drop");
    }
});
