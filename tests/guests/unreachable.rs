//! Told to die, executes Wasm's `unreachable` without a word before.

test_guests::mortal!(|_| core::arch::wasm32::unreachable());
