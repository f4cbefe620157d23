//! The fields of a Kubernetes Node object that the agent uses.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::model::NodeFacts;

/// A Node object. All other fields are skipped.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct NodeObject {
    #[serde(default)]
    pub metadata: NodeMetadata,
    #[serde(default)]
    pub spec: NodeSpec,
    #[serde(default)]
    pub status: NodeStatus,
}

/// `metadata`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct NodeMetadata {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// `spec`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs", default)]
    pod_cidrs: Vec<String>,
    /// The taints with all their fields: a `test` in a JSON patch has to name all of them.
    #[serde(default)]
    pub taints: Vec<Value>,
}

/// `status`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct NodeStatus {
    /// The conditions of all writers.
    #[serde(default)]
    pub conditions: Vec<NodeCondition>,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeCondition {
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Since when the status has been the same.
    pub last_transition_time: Option<String>,
}

impl NodeObject {
    /// The values on which a conflist may depend. `node` is the name of the node.
    #[must_use]
    pub fn into_facts(self, node: String) -> NodeFacts {
        NodeFacts {
            node,
            pod_cidr: self.spec.pod_cidr.filter(|cidr| !cidr.is_empty()),
            pod_cidrs: self.spec.pod_cidrs,
            labels: self.metadata.labels,
            annotations: self.metadata.annotations,
        }
    }
}
