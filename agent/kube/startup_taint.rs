//! The startup taint that keeps pods off a node until it is ready. Pure: time is an argument.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::failure_pause::{FailurePause, spread_period};

/// The time between two checks whether the taint is back. A node that registers again gets it again.
const TAINT_CHECK_PERIOD: Duration = Duration::from_secs(300);

/// When to look for the taint and remove it.
#[derive(Debug, Default)]
pub struct StartupTaint {
    /// Since when the node has been ready.
    ready: Option<Instant>,
    next: Option<Instant>,
    pause: FailurePause,
}

impl StartupTaint {
    /// Records whether the node is ready. A node that is no longer ready does not get the taint back: it is for startup
    /// only.
    pub fn observe_ready(&mut self, is_ready: bool, now: Instant) {
        match is_ready {
            true => _ = self.ready.get_or_insert(now),
            false => self.ready = None,
        }
    }

    /// When to look for the taint; `None` while the node is not ready.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let ready = self.ready?;
        let next = self.next.map_or(ready, |next| next.max(ready));
        Some(self.pause.delay_until_allowed(next))
    }

    /// Records whether the taint is gone now. `random` spreads the checks of a cluster's nodes.
    pub fn record_outcome(&mut self, is_gone: bool, now: Instant, random: u64) {
        self.pause.record_outcome(is_gone, now, random);
        if is_gone {
            self.next = Some(now + spread_period(TAINT_CHECK_PERIOD, random));
        }
    }
}

/// A JSON patch that removes the taints with this key, and fails as a whole if the list has changed meanwhile. `None` if
/// no taint has the key.
#[must_use]
pub fn build_taint_patch(taints: &[Value], key: &str) -> Option<Value> {
    let ours = taints.iter().enumerate().rev();
    let ours = ours.filter(|(_, taint)| taint["key"] == key);
    // From the end, so that the indexes of the earlier taints do not change.
    let steps: Vec<Value> = ours
        .flat_map(|(index, taint)| {
            let path = format!("/spec/taints/{index}");
            [
                json!({"op": "test", "path": path, "value": taint}),
                json!({"op": "remove", "path": path}),
            ]
        })
        .collect();
    (!steps.is_empty()).then_some(Value::Array(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_for_once_the_node_is_ready_and_now_and_then_afterwards() {
        let now = Instant::now();
        let mut taint = StartupTaint::default();
        assert_eq!(taint.next_due(), None);
        taint.observe_ready(true, now);
        taint.observe_ready(true, now + Duration::from_secs(5));
        assert_eq!(taint.next_due(), Some(now));
        taint.record_outcome(false, now, u64::MAX);
        assert_eq!(taint.next_due(), Some(now + Duration::from_secs(1)));
        taint.record_outcome(true, now, 1 << 63);
        assert_eq!(taint.next_due(), Some(now + TAINT_CHECK_PERIOD));
        taint.observe_ready(false, now);
        assert_eq!(taint.next_due(), None);
    }

    #[test]
    fn only_taints_of_that_key_go_and_only_from_where_they_were_seen() {
        let other = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
        let ours = |effect: &str| json!({"key": "a/b", "effect": effect, "timeAdded": "x"});
        assert_eq!(build_taint_patch(std::slice::from_ref(&other), "a/b"), None);
        assert_eq!(build_taint_patch(&[], "a/b"), None);
        let patch =
            build_taint_patch(&[ours("NoSchedule"), other, ours("NoExecute")], "a/b").unwrap();
        assert_eq!(
            patch,
            json!([
                {"op": "test", "path": "/spec/taints/2", "value": ours("NoExecute")},
                {"op": "remove", "path": "/spec/taints/2"},
                {"op": "test", "path": "/spec/taints/0", "value": ours("NoSchedule")},
                {"op": "remove", "path": "/spec/taints/0"},
            ])
        );
    }
}
