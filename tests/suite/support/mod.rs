//! What the rooms of the suite share.
#![allow(clippy::unwrap_used)]

pub(crate) mod archive;
pub(crate) mod server;
pub(crate) mod tls;
