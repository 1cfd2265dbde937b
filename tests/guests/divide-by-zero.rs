//! Told to die, divides by zero where Rust does not check, so that Wasm does.

use std::hint::{assert_unchecked, black_box};

test_guests::mortal!(|_| {
    let divisor = black_box(0_i32);
    // Takes away the check that would panic; Wasm's division traps on its own.
    #[allow(unsafe_code, reason = "the trap is the point")]
    unsafe {
        assert_unchecked(divisor != 0);
    }
    black_box(black_box(1) / divisor);
});
