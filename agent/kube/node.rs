//! A node object, as far as it matters here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::model::NodeFacts;

/// What is read of a node object; everything else is skipped.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Node {
    /// Names, labels and annotations.
    #[serde(default)]
    pub metadata: Metadata,
    /// Ranges and taints.
    #[serde(default)]
    pub spec: Spec,
    /// Conditions.
    #[serde(default)]
    pub status: Status,
}

/// `metadata`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Metadata {
    /// The node's name.
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
pub struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs", default)]
    pod_cidrs: Vec<String>,
    /// The taints as they stand there: a test for one has to name all of its fields.
    #[serde(default)]
    pub taints: Vec<Value>,
}

/// `status`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Status {
    /// All conditions, whoever writes them.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Since when it has been that.
    pub last_transition_time: Option<String>,
}

impl Node {
    /// What a conflist may depend on, of the node of this name.
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
