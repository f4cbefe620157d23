//! How every request ended, for the views.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::error::KubeError;
use crate::model::{ApiUse, Timestamp, label_enum};

label_enum! {
    /// What a request is for.
    pub enum RequestPurpose {
        /// To learn the values of the conflist that depend on the node.
        NodeFacts = "node-facts",
        /// To report whether the node is ready.
        Condition = "condition",
        /// To report drift and conflicts.
        Events = "events",
        /// To remove the startup taint.
        Taint = "taint",
    }
}

/// The record of all requests. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct RequestLog(Arc<Mutex<ApiUse>>);

impl RequestLog {
    /// How all requests ended so far.
    #[must_use]
    pub fn snapshot(&self) -> ApiUse {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Records how a request ended. A failure is logged if the last one was different.
    pub(super) fn record(
        &self,
        purpose: RequestPurpose,
        verb: &'static str,
        failure: Option<&KubeError>,
    ) {
        let result = failure.map_or("ok", KubeError::kind);
        let failure = failure.map(ToString::to_string);
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *uses.requests.entry((verb, result)).or_default() += 1;
        let outcome = uses.purposes.entry(purpose.as_str()).or_default();
        match &failure {
            Some(what) if outcome.failure != failure => {
                tracing::warn!(purpose = purpose.as_str(), "Kubernetes API: {what}");
            }
            None if outcome.failure.is_some() => {
                tracing::info!(purpose = purpose.as_str(), "Kubernetes API: works again");
            }
            _ => {}
        }
        if failure.is_none() {
            outcome.succeeded = Some(Timestamp(SystemTime::now()));
        }
        outcome.failure = failure;
    }
}
