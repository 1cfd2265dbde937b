//! Told to die, takes memory, a MiB at a time, until it is refused.

test_guests::mortal!(|_| {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1_u8; 1 << 20]);
    }
});
