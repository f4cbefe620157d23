//! The Kubernetes API: what it knows of this node, and what it is told of it.
//!
//! Every request is written by hand: one `get`, three kinds of `patch` and one `create` need no client library. Nothing
//! here is waited for by whoever keeps the node as it is declared.

mod api;
mod endpoint;
mod error;
mod log;
mod node;

pub use api::Api;
pub use error::KubeError;
pub use log::{Log, Purpose};
pub use node::Node;
