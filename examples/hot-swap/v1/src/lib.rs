//! The counter, v1.

#[path = "../../counter.rs"]
mod counter;

const VERSION: &str = "v1";
const CRASHES: bool = false;
