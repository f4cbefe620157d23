//! Asks the container runtime whether it is ready for pods, and which network it has loaded.
//!
//! The disk does not show this. containerd 1.6 and 1.7 lose their watch when the configuration directory is deleted and
//! created again. From then on they miss every change until they are restarted. Any runtime may also have been
//! configured with other directories than the agent.

mod cri_messages;
mod error;
mod grpc;
mod loaded_network;
mod status_call;

pub use cri_messages::{CriCondition, CriStatus, LoadedCni, LoadedNetwork};
pub use error::{RuntimeError, StatusCallError};
pub use loaded_network::{ExpectedNetwork, compare_loaded_network};
pub use status_call::{query_runtime_status, real_dir};
