//! Asks the Kubernetes API for the node's facts (`${node.podCIDR}` and others). This runs beside passes: at the start,
//! at each full reading, and repeatedly while the conflist waits for them.
//!
//! After a failed request, earlier facts stay known.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::kube::{KubeClient, KubeError, RequestPurpose};
use crate::model::NodeFacts;
use crate::reconcile::{Context, KnownNode};
use crate::retry::{Backoff, Jitter};

/// The pauses between requests while the conflist waits for facts. A whole cluster may wait for its pod CIDRs.
const WAITING_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// The same while nothing waits.
const IDLE_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));

type NodeAnswer = Result<NodeFacts, KubeError>;

/// The question about the node.
#[derive(Debug)]
pub(super) struct NodeQuery {
    /// `None` if the conflist does not depend on the answer.
    client: Option<KubeClient>,
    known: KnownNode,
    request: NodeRequest,
    retries: u32,
    /// Whether the conflist waits for facts.
    waits: bool,
}

/// The next request to the API.
#[derive(Debug)]
enum NodeRequest {
    /// None is scheduled.
    Idle,
    /// It is sent at this time.
    Due(Instant),
    /// It is under way.
    Running {
        task: JoinHandle<NodeAnswer>,
        /// Whether a newer answer was asked for meanwhile.
        is_outdated: bool,
    },
}

impl NodeQuery {
    /// A question that is due at once if the conflist depends on it. The answer is recorded in `known`.
    pub(super) fn new(
        context: &Context,
        client: KubeClient,
        known: KnownNode,
        now: Instant,
    ) -> Self {
        let client = context.needs_node_facts().then_some(client);
        Self {
            request: match client {
                Some(_) => NodeRequest::Due(now),
                None => NodeRequest::Idle,
            },
            client,
            known,
            retries: 0,
            waits: false,
        }
    }

    /// What is known about the node, shared with the context that renders the conflist.
    pub(super) fn known(&self) -> KnownNode {
        self.known.clone()
    }

    /// When the next request is due; `None` while one is under way.
    pub(super) const fn next_due(&self) -> Option<Instant> {
        match self.request {
            NodeRequest::Due(at) => Some(at),
            NodeRequest::Idle | NodeRequest::Running { .. } => None,
        }
    }

    /// Sends the request if it is due.
    pub(super) fn start_if_due(&mut self, now: Instant) {
        let Some(client) = self
            .client
            .clone()
            .filter(|_| self.next_due().is_some_and(|due| due <= now))
        else {
            return;
        };
        let task = tokio::spawn(async move {
            let name = client.node_name().ok_or(KubeError::NoName)?.to_owned();
            let node = client.get_node(RequestPurpose::NodeFacts).await?;
            Ok(node.into_facts(name))
        });
        self.request = NodeRequest::Running {
            task,
            is_outdated: false,
        };
    }

    /// Waits for the answer; for ever if there is no request. `true` if it differs from the last one. Cancel-safe: the
    /// request stays until it is answered.
    pub(super) async fn wait_for_answer(&mut self) -> bool {
        let NodeRequest::Running { task, is_outdated } = &mut self.request else {
            return std::future::pending().await;
        };
        let answer = task.await.unwrap_or_else(|error| Err(error.into()));
        let now = Instant::now();
        self.request = match *is_outdated {
            true => NodeRequest::Due(now),
            false => NodeRequest::Idle,
        };
        self.record_answer(answer, now, fastrand::u64(..))
    }

    fn record_answer(&mut self, answer: NodeAnswer, now: Instant, random: u64) -> bool {
        match answer {
            Ok(facts) => {
                let is_news = self.known.record_answer(Ok(facts));
                if is_news || !self.waits {
                    self.retries = 0;
                } else {
                    self.schedule_retry(now, random);
                }
                is_news
            }
            Err(failure) => {
                self.schedule_retry(now, random);
                self.known.record_answer(Err(failure.to_string()))
            }
        }
    }

    /// Records whether the conflist waits for values after a pass.
    pub(super) fn record_pass(&mut self, waits: bool, now: Instant, random: u64) {
        self.waits = waits;
        if waits && self.client.is_some() && matches!(self.request, NodeRequest::Idle) {
            self.schedule_retry(now, random);
        }
    }

    /// Makes the request due now, for the full reading, because labels may have changed.
    pub(super) fn ask_now(&mut self, now: Instant) {
        match &mut self.request {
            NodeRequest::Running { is_outdated, .. } => *is_outdated = true,
            NodeRequest::Idle | NodeRequest::Due(_) if self.client.is_some() => {
                self.request = NodeRequest::Due(now);
            }
            NodeRequest::Idle | NodeRequest::Due(_) => {}
        }
    }

    /// Schedules the next request after a pause. `random` shortens it by up to half, so that the nodes of a cluster do not
    /// all come back at the same moment.
    fn schedule_retry(&mut self, now: Instant, random: u64) {
        let backoff = if self.waits {
            WAITING_BACKOFF
        } else {
            IDLE_BACKOFF
        };
        let pause = backoff.pause(self.retries, Jitter::UpperHalf(random));
        self.request = NodeRequest::Due(now + pause);
        self.retries = self.retries.saturating_add(1);
    }
}

impl Drop for NodeQuery {
    fn drop(&mut self) {
        if let NodeRequest::Running { task, .. } = &self.request {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(now: Instant) -> NodeQuery {
        NodeQuery {
            client: Some(KubeClient::new(
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
            request: NodeRequest::Due(now),
            retries: 0,
            waits: false,
        }
    }

    fn facts(cidr: Option<&str>) -> NodeFacts {
        NodeFacts {
            pod_cidr: cidr.map(str::to_owned),
            ..NodeFacts::default()
        }
    }

    /// What [`NodeQuery::start_if_due`] and an answer do, without an API server.
    fn answer(node: &mut NodeQuery, answer: NodeAnswer, now: Instant) -> bool {
        node.request = NodeRequest::Idle;
        node.record_answer(answer, now, u64::MAX)
    }

    /// The pauses between so many answers.
    fn pauses(node: &mut NodeQuery, mut now: Instant, of: impl Fn() -> NodeAnswer) -> Vec<u64> {
        let mut pauses = Vec::new();
        for _ in 0..12 {
            answer(node, of(), now);
            let due = node.next_due().unwrap();
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
        node.record_pass(true, now, u64::MAX);
        let pauses = pauses(&mut node, now, || Ok(facts(None)));
        assert_eq!(pauses[..4], [2, 4, 8, 16]);
        assert_eq!(pauses.last(), Some(&WAITING_BACKOFF.max.as_secs()));
        assert!(answer(&mut node, Ok(facts(Some("10.244.1.0/24"))), now));
        node.record_pass(false, now, u64::MAX);
        assert_eq!(node.next_due(), None, "the next full reading asks");
        node.ask_now(now);
        assert_eq!(node.next_due(), Some(now));
    }

    #[test]
    fn an_outage_is_waited_for_with_less_hurry_once_the_facts_are_known() {
        let now = Instant::now();
        let mut node = node(now);
        answer(&mut node, Ok(facts(Some("10.244.1.0/24"))), now);
        let pauses = pauses(&mut node, now, || Err(KubeError::NoServer));
        assert_eq!(pauses.last(), Some(&IDLE_BACKOFF.max.as_secs()));
        assert!(node.known().facts().is_some());
    }
}
