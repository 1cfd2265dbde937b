//! The counter, v3.

const VERSION: &str = "v3";
const CRASHES: bool = true;

include!("../../counter.rs");
