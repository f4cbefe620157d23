//! The one door to the host's file system.

mod error;

pub use error::HostError;
