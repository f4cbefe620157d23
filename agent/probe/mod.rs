//! Questions to the outside that change nothing: gates, and the VERSION answers of plugins.

mod gates;
mod plugin_version;

pub use gates::{GateError, check_gate};
pub use plugin_version::{NoAnswer, VERSION_TIMEOUT, VersionAnswer, VersionError, ask_version};
