//! The counter, v1.

const VERSION: &str = "v1";
const CRASHES: bool = false;

include!("../../counter.rs");
