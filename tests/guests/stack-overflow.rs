//! Told to die, recurses until the Wasm stack is used up.

use std::hint::black_box;

test_guests::mortal!(|_| {
    black_box(deeper(black_box(0)));
});

/// Keeps its value over the call, so it cannot become a loop, and keeps it out
/// of linear memory, whose own stack would end in an out-of-bounds access.
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { deeper(depth + 1).rotate_left(1) ^ depth }
}
