//! The Kubernetes API: what it knows of this node, and what it is told of it.
//!
//! Every request is written by hand: one `get`, three kinds of `patch` and one `create` need no client library. Nothing
//! here is waited for by whoever keeps the node as it is declared.

mod api;
mod condition;
mod endpoint;
mod error;
mod events;
mod log;
mod node;
mod pause;
mod taint;

pub use api::Api;
pub use condition::Condition;
pub use error::KubeError;
pub use events::{Announcement, Events, NAMESPACE};
pub use log::{Log, Purpose};
pub use node::Node;
pub use taint::{Taint, removal};
