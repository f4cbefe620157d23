//! Questions to the outside that change nothing: gates, the plugins' own VERSION answers, and what the container
//! runtime has loaded.

mod gates;
mod runtime;
mod version;

pub use gates::{GateError, check as check_gate};
pub use runtime::{
    CniState, Condition, Expected, LoadedNetwork, NoAnswer, RuntimeAnswer, RuntimeError,
    ask_runtime, compare, real,
};
pub use version::{VersionAnswer, VersionError, ask as ask_version};
