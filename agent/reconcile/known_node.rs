//! What the Kubernetes API answered about the node. The conflist's `${node.…}` get their values from here.

use std::sync::{Arc, Mutex, PoisonError};

use crate::model::NodeFacts;

/// The last answer of the API about the node, or why there was none. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct KnownNode(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    facts: Option<NodeFacts>,
    failure: Option<String>,
}

impl KnownNode {
    /// Records an answer of the API, or why there was none. Earlier facts stay if there was none. Returns `true` if
    /// this changes what is known.
    pub fn record_answer(&self, answer: Result<NodeFacts, String>) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(facts) => {
                state.failure = None;
                state.facts.replace(facts) != state.facts
            }
            Err(failure) => {
                let is_news = state.facts.is_none() && state.failure.as_ref() != Some(&failure);
                state.failure = Some(failure);
                is_news
            }
        }
    }

    /// Uses facts that an earlier run saved, unless the API has answered already.
    pub(super) fn restore_saved(&self, facts: NodeFacts) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.facts.get_or_insert(facts);
    }

    /// The facts, if they are known.
    #[must_use]
    pub fn facts(&self) -> Option<NodeFacts> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.facts.clone()
    }

    /// Why the facts with these names are not known, and how to set them. [`NodeFacts::is_node_fact`] must hold for
    /// each name.
    pub(super) fn explain_unknown(&self, names: &[&str]) -> String {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (&state.facts, &state.failure) {
            (Some(facts), _) => {
                let mut reasons: Vec<String> = names
                    .iter()
                    .map(|name| explain_missing_fact(&facts.node, name))
                    .collect();
                reasons.dedup();
                reasons.join("; ")
            }
            (None, Some(failure)) => format!("{} is not known yet: {failure}", names.join(", ")),
            (None, None) => format!(
                "{} is not known yet: the Kubernetes API has not answered",
                names.join(", ")
            ),
        }
    }
}

/// Which field the node lacks, and how to set it.
fn explain_missing_fact(node: &str, name: &str) -> String {
    if let Some(key) = name.strip_prefix("node.labels.") {
        return format!(
            "node {node} has no label {key}; set it: kubectl label node {node} {key}=VALUE"
        );
    }
    if let Some(key) = name.strip_prefix("node.annotations.") {
        return format!(
            "node {node} has no annotation {key}; set it: kubectl annotate node {node} {key}=VALUE"
        );
    }
    format!(
        "node {node} has no podCIDR; where no controller assigns one, give it a range of its own: \
         kubectl patch node {node} -p '{{\"spec\":{{\"podCIDR\":\"RANGE\"}}}}'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(cidr: Option<&str>) -> NodeFacts {
        NodeFacts {
            node: "a".to_owned(),
            pod_cidr: cidr.map(str::to_owned),
            ..NodeFacts::default()
        }
    }

    #[test]
    fn a_failure_takes_nothing_back() {
        let known = KnownNode::default();
        assert!(known.record_answer(Err("refused".to_owned())));
        assert!(!known.record_answer(Err("refused".to_owned())));
        assert!(
            known
                .explain_unknown(&["node.podCIDR"])
                .ends_with(": refused")
        );
        assert!(known.record_answer(Ok(facts(None))));
        assert!(known.record_answer(Ok(facts(Some("10.244.1.0/24")))));
        assert!(!known.record_answer(Ok(facts(Some("10.244.1.0/24")))));
        assert!(!known.record_answer(Err("refused".to_owned())));
        assert_eq!(known.facts(), Some(facts(Some("10.244.1.0/24"))));
    }

    #[test]
    fn what_was_written_down_gives_way_to_an_answer_and_is_none_itself() {
        let known = KnownNode::default();
        known.record_answer(Err("refused".to_owned()));
        known.restore_saved(facts(Some("10.244.1.0/24")));
        assert_eq!(known.facts(), Some(facts(Some("10.244.1.0/24"))));
        assert!(known.record_answer(Ok(facts(Some("10.244.2.0/24")))));
        known.restore_saved(facts(Some("10.244.1.0/24")));
        assert_eq!(known.facts(), Some(facts(Some("10.244.2.0/24"))));
    }

    #[test]
    fn what_a_node_lacks_is_said_with_the_command_that_gives_it() {
        let known = KnownNode::default();
        let why = known.explain_unknown(&["node.podCIDR"]);
        assert_eq!(
            why,
            "node.podCIDR is not known yet: the Kubernetes API has not answered"
        );
        known.record_answer(Ok(facts(None)));
        let why = known.explain_unknown(&["node.podCIDR", "node.podCIDRs", "node.labels.rack"]);
        assert_eq!(
            why,
            "node a has no podCIDR; where no controller assigns one, give it a range of its own: \
             kubectl patch node a -p '{\"spec\":{\"podCIDR\":\"RANGE\"}}'; \
             node a has no label rack; set it: kubectl label node a rack=VALUE"
        );
    }
}
