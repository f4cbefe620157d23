//! What came of every request, for the views.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::KubeError;
use crate::model::{ApiUse, Timestamp};

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To learn what the conflist depends on.
    NodeFacts,
    /// To tell whether the node is ready.
    Condition,
    /// To tell what happened.
    Events,
    /// To let pods onto the node.
    Taint,
}

impl Purpose {
    /// Its name in `/status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NodeFacts => "node-facts",
            Self::Condition => "condition",
            Self::Events => "events",
            Self::Taint => "taint",
        }
    }
}

/// The record of all requests. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<ApiUse>>);

impl Log {
    /// What came of them so far.
    #[must_use]
    pub fn so_far(&self) -> ApiUse {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes in how one ended. A failure is logged when it is another one than before.
    pub(super) fn ended(&self, purpose: Purpose, verb: &'static str, failure: Option<&KubeError>) {
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
