//! Told to die, never returns from its handler.

test_guests::mortal!(|_| loop {
    std::hint::spin_loop();
});
