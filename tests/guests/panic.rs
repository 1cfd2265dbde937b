//! Told to die, panics with the payload for its message.

test_guests::mortal!(|message| panic!("{}", String::from_utf8_lossy(&message.payload)));
