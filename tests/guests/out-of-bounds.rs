//! Told to die, reads through a pointer past the end of its memory.

test_guests::mortal!(|_| {
    let wild = core::ptr::without_provenance::<u8>(0xffff_fff0);
    #[allow(unsafe_code, reason = "the trap is the point: Rust's own check would panic first")]
    let byte = unsafe { wild.read_volatile() };
    std::hint::black_box(byte);
});
