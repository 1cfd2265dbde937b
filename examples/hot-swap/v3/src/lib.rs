//! The counter, v3.

#[path = "../../counter.rs"]
mod counter;

const VERSION: &str = "v3";
const CRASHES: bool = true;
