//! The Kubernetes API: what it knows about this node, and what the agent reports to it.
//!
//! All requests are written by hand: one `get`, three kinds of `patch` and one `create` need no client library. The
//! event loop never waits for a request.

mod api_endpoint;
mod client;
mod condition_reporter;
mod error;
mod event_reporter;
mod failure_pause;
mod request_log;
mod startup_taint;

pub use client::KubeClient;
pub use condition_reporter::ConditionReporter;
pub use error::KubeError;
pub use event_reporter::{EVENT_NAMESPACE, EventReporter, EventRequest};
pub use request_log::{RequestLog, RequestPurpose};
pub use startup_taint::{StartupTaint, build_taint_patch};
