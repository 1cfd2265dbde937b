//! The counter, v2.

#[path = "../../counter.rs"]
mod counter;

const VERSION: &str = "v2";
const CRASHES: bool = false;
