//! Questions to the outside that change nothing: gates, and the VERSION answers of plugins, with the processes that
//! these leave behind.

mod gates;
mod orphans;
mod plugin_version;

pub use gates::{GateError, check_gate};
pub use orphans::reap_orphans;
pub use plugin_version::{NoAnswer, VERSION_TIMEOUT, VersionAnswer, VersionError, ask_version};
