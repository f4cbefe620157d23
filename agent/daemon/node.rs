//! What the Kubernetes API knows of the node, asked beside turns: at the start, at each full reading, and again and
//! again as long as the conflist waits for it.
//!
//! No answer takes nothing back: what was known before stays known.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::kube::{KubeClient, KubeError, RequestPurpose};
use crate::model::NodeFacts;
use crate::reconcile::{Context, KnownNode};
use crate::retry::{Backoff, Jitter};

/// The pauses before it is asked again while the conflist waits: a whole cluster may, for somebody to assign ranges.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// The same while nothing waits.
const BACKOFF_IDLE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));

type Answer = Result<NodeFacts, KubeError>;

/// The question to the API server.
#[derive(Debug)]
pub(super) struct Node {
    /// Whom to ask; `None` where the conflist does not depend on the answer.
    api: Option<KubeClient>,
    known: KnownNode,
    asking: Option<JoinHandle<Answer>>,
    due: Option<Instant>,
    tries: u32,
    /// Whether the conflist waits for facts.
    waits: bool,
}

impl Node {
    /// A question that is due at once, where one is declared. The answer is told to `known`.
    pub(super) fn of(keeper: &Context, api: KubeClient, known: KnownNode, now: Instant) -> Self {
        let api = keeper.needs_node_facts().then_some(api);
        Self {
            due: api.is_some().then_some(now),
            api,
            known,
            asking: None,
            tries: 0,
            waits: false,
        }
    }

    /// What is known, shared with whoever renders the conflist.
    pub(super) fn known(&self) -> KnownNode {
        self.known.clone()
    }

    /// When the API server is to be asked.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| self.asking.is_none())
    }

    /// Asks if that is due.
    pub(super) fn ask(&mut self, now: Instant) {
        let Some(api) = self
            .api
            .clone()
            .filter(|_| self.due().is_some_and(|due| due <= now))
        else {
            return;
        };
        self.due = None;
        self.asking = Some(tokio::spawn(async move {
            let name = api.node_name().ok_or(KubeError::NoName)?.to_owned();
            let node = api.get_node(RequestPurpose::NodeFacts).await?;
            Ok(node.into_facts(name))
        }));
    }

    /// Ends with an answer, which is `true` if it is news; never where nothing was asked. Cancel-safe: the question
    /// stays until it is answered.
    pub(super) async fn answered(&mut self) -> bool {
        let answer = match &mut self.asking {
            Some(asking) => asking.await,
            None => std::future::pending().await,
        };
        self.asking = None;
        let answer = answer.unwrap_or_else(|error| Err(error.into()));
        self.learned(answer, Instant::now(), fastrand::u64(..))
    }

    fn learned(&mut self, answer: Answer, now: Instant, random: u64) -> bool {
        match answer {
            Ok(facts) => {
                let is_news = self.known.record_answer(Ok(facts));
                if is_news || !self.waits {
                    self.tries = 0;
                } else {
                    self.ask_again(now, random);
                }
                is_news
            }
            Err(failure) => {
                self.ask_again(now, random);
                self.known.record_answer(Err(failure.to_string()))
            }
        }
    }

    /// A turn was taken. Whether the conflist waits for facts, ours may be among them.
    pub(super) fn turned(&mut self, waits: bool, now: Instant, random: u64) {
        self.waits = waits;
        if waits && self.api.is_some() && self.asking.is_none() && self.due.is_none() {
            self.ask_again(now, random);
        }
    }

    /// Time for a full reading: labels may be others by now.
    pub(super) fn doubted(&mut self, now: Instant) {
        if self.api.is_some() {
            self.due = Some(now);
        }
    }

    /// Has it asked again after a pause, of which `random` takes up to the half: a cluster's nodes do not come back
    /// together.
    fn ask_again(&mut self, now: Instant, random: u64) {
        let backoff = if self.waits { BACKOFF } else { BACKOFF_IDLE };
        self.due = Some(now + backoff.pause(self.tries, Jitter::UpperHalf(random)));
        self.tries = self.tries.saturating_add(1);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(now: Instant) -> Node {
        Node {
            api: Some(KubeClient::new(
                crate::config::KubernetesSettings {
                    condition: false,
                    events: false,
                    remove_taint: None,
                    server: None,
                    ca_file: "/ca".into(),
                    token_file: "/token".into(),
                },
                None,
                crate::kube::RequestLog::default(),
            )),
            known: KnownNode::default(),
            asking: None,
            due: Some(now),
            tries: 0,
            waits: false,
        }
    }

    fn facts(cidr: Option<&str>) -> NodeFacts {
        NodeFacts {
            pod_cidr: cidr.map(str::to_owned),
            ..NodeFacts::default()
        }
    }

    /// What [`Node::ask`] and an answer do, without an API server.
    fn answer(node: &mut Node, answer: Answer, now: Instant) -> bool {
        node.due = None;
        node.learned(answer, now, u64::MAX)
    }

    /// The pauses between so many answers.
    fn pauses(node: &mut Node, mut now: Instant, of: impl Fn() -> Answer) -> Vec<u64> {
        let mut pauses = Vec::new();
        for _ in 0..12 {
            answer(node, of(), now);
            let due = node.due().unwrap();
            pauses.push((due - now).as_secs());
            now = due;
        }
        pauses
    }

    #[test]
    fn a_node_without_its_range_is_asked_for_again_and_again() {
        let now = Instant::now();
        let mut node = node(now);
        assert!(answer(&mut node, Ok(facts(None)), now));
        node.turned(true, now, u64::MAX);
        let pauses = pauses(&mut node, now, || Ok(facts(None)));
        assert_eq!(pauses[..4], [2, 4, 8, 16]);
        assert_eq!(pauses.last(), Some(&BACKOFF.max.as_secs()));
        assert!(answer(&mut node, Ok(facts(Some("10.244.1.0/24"))), now));
        node.turned(false, now, u64::MAX);
        assert_eq!(node.due(), None, "the next full reading asks");
        node.doubted(now);
        assert_eq!(node.due(), Some(now));
    }

    #[test]
    fn an_outage_is_waited_for_with_less_hurry_once_the_facts_are_known() {
        let now = Instant::now();
        let mut node = node(now);
        answer(&mut node, Ok(facts(Some("10.244.1.0/24"))), now);
        let pauses = pauses(&mut node, now, || Err(KubeError::NoServer));
        assert_eq!(pauses.last(), Some(&BACKOFF_IDLE.max.as_secs()));
        assert!(node.known().facts().is_some());
    }
}
