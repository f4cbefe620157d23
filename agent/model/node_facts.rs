//! The facts of a node that come from its object in the Kubernetes API: which field gives `${node.podCIDR}` and the
//! other `${node.…}` of a conflist their values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
        matches!(name, "node.podCIDR" | "node.podCIDRs")
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
        let own = [("node.podCIDR", cidr), ("node.podCIDRs", cidrs)];
        own.into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .chain(named("node.labels.", &self.labels))
            .chain(named("node.annotations.", &self.annotations))
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
