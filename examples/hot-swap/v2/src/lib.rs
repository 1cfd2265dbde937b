//! The counter, v2.

const VERSION: &str = "v2";
const CRASHES: bool = false;

include!("../../counter.rs");
