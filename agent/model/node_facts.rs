//! The Node object of the Kubernetes API, and the facts of it that a conflist can use.
//!
//! This is where `${node.podCIDR}` gets its value: [`NodeObject::into_facts`] takes `spec.podCIDR` from the object, and
//! [`NodeFacts::named_facts`] gives it its name. The other `${node.…}` of the object are here as well. `kube` requests
//! the object, `store` saves the facts, and `reconcile/conflist_facts.rs` adds them to the facts of a conflist.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const POD_CIDR: &str = "node.podCIDR";
const POD_CIDRS: &str = "node.podCIDRs";
const DEFAULT_ROUTES: &str = "node.defaultRoutes";

/// The facts of one source, with those that follow from them:
///
/// - `node.podCIDR` is the first of `node.podCIDRs`, as in the node's object, and the only one where there is no list;
/// - `node.defaultRoutes` has a route to everywhere for each family of `node.podCIDRs`, as an IPAM plugin wants it.
#[must_use]
pub fn with_related_facts(mut facts: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let text = |value: &Value| {
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let ranges: Vec<String> = match facts.get(POD_CIDRS) {
        Some(Value::Array(listed)) => listed.iter().filter_map(text).collect(),
        Some(Value::String(listed)) => {
            let parts = listed.split(',').map(|part| part.trim().to_owned());
            parts.filter(|part| !part.is_empty()).collect()
        }
        _ => facts.get(POD_CIDR).and_then(text).into_iter().collect(),
    };
    let Some(first) = ranges.first() else {
        return facts;
    };
    facts
        .entry(POD_CIDR.to_owned())
        .or_insert_with(|| first.as_str().into());
    let is_ipv6 = |range: &&String| range.contains(':');
    let mut routes = Vec::new();
    if ranges.iter().any(|range| !is_ipv6(&range)) {
        routes.push(json!({"dst": "0.0.0.0/0"}));
    }
    if ranges.iter().any(|range| is_ipv6(&range)) {
        routes.push(json!({"dst": "::/0"}));
    }
    facts
        .entry(DEFAULT_ROUTES.to_owned())
        .or_insert(Value::Array(routes));
    facts
        .entry(POD_CIDRS.to_owned())
        .or_insert_with(|| ranges.into());
    facts
}

/// The last answer of the Kubernetes API about a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFacts {
    /// The node's name, so that facts about another node are not used here.
    pub node: String,
    /// `spec.podCIDR`, if the node has one.
    pub pod_cidr: Option<String>,
    /// `spec.podCIDRs`, one of each family.
    pub pod_cidrs: Vec<String>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
}

impl NodeFacts {
    /// Whether a fact of this name comes from the Kubernetes API.
    #[must_use]
    pub fn is_node_fact(name: &str) -> bool {
        matches!(name, POD_CIDR | POD_CIDRS | DEFAULT_ROUTES)
            || name.starts_with("node.labels.")
            || name.starts_with("node.annotations.")
    }

    /// All known facts, each with its name.
    pub fn named_facts(&self) -> impl Iterator<Item = (String, Value)> {
        let named = |prefix: &'static str, values: &BTreeMap<String, String>| {
            let named = values
                .iter()
                .map(move |(key, value)| (format!("{prefix}{key}"), Value::from(value.as_str())));
            named.collect::<Vec<_>>()
        };
        let cidr = self.pod_cidr.as_deref().map(Value::from);
        let cidrs = Some(&self.pod_cidrs).filter(|cidrs| !cidrs.is_empty());
        let cidrs = cidrs.map(|cidrs| Value::from(cidrs.as_slice()));
        let own = [(POD_CIDR, cidr), (POD_CIDRS, cidrs)];
        own.into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .chain(named("node.labels.", &self.labels))
            .chain(named("node.annotations.", &self.annotations))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_does_not_have_is_no_fact() {
        let mut node = NodeFacts {
            node: "a".to_owned(),
            ..NodeFacts::default()
        };
        assert_eq!(node.named_facts().count(), 0);
        node.pod_cidr = Some("10.244.1.0/24".to_owned());
        node.pod_cidrs = vec!["10.244.1.0/24".to_owned(), "fd00::/64".to_owned()];
        node.labels
            .insert("topology.kubernetes.io/zone".to_owned(), "b".to_owned());
        node.annotations.insert("x".to_owned(), "y".to_owned());
        let facts: Vec<String> = node
            .named_facts()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            facts,
            [
                r#"node.podCIDR="10.244.1.0/24""#,
                r#"node.podCIDRs=["10.244.1.0/24","fd00::/64"]"#,
                r#"node.labels.topology.kubernetes.io/zone="b""#,
                r#"node.annotations.x="y""#,
            ]
        );
        assert!(
            node.named_facts()
                .all(|(name, _)| NodeFacts::is_node_fact(&name))
        );
        assert!(
            !NodeFacts::is_node_fact("node.name") && !NodeFacts::is_node_fact("env.node.labels.x")
        );
    }
}
