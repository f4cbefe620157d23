//! How the agent's use of the Kubernetes API goes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Timestamp;

/// How requests to the Kubernetes API ended. They never decide whether the node is ready.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ApiUse {
    /// By what it was for: `node-facts`, `condition`, `events` or `taint`.
    pub purposes: BTreeMap<&'static str, ApiOutcome>,
    /// Requests by verb (`get`, `patch`, `create`) and result (`ok`, or a failure's stable label).
    #[serde(skip)]
    pub requests: BTreeMap<(&'static str, &'static str), u64>,
}

/// How the requests for one purpose end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ApiOutcome {
    /// When one last worked.
    pub succeeded: Option<Timestamp>,
    /// Why the last one did not work, and how to fix that; `None` if it did.
    pub failure: Option<String>,
}
