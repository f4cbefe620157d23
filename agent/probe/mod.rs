//! Questions to the outside that change nothing: gates, and the plugins' own VERSION answers.

mod gates;
mod version;

pub use gates::{GateError, check as check_gate};
pub use version::{VersionAnswer, VersionError, ask as ask_version};
