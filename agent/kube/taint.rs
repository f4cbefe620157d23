//! The startup taint that keeps pods off a node until it is ready. Pure: the time is handed in.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::pause::{Pause, spread_period};

/// The time between two looks whether it is there again: a node that registers anew has it again.
const LOOK: Duration = Duration::from_secs(300);

/// When to look for the taint.
#[derive(Debug, Default)]
pub struct Taint {
    /// Since when the node has been ready.
    ready: Option<Instant>,
    next: Option<Instant>,
    pause: Pause,
}

impl Taint {
    /// Takes in how the node stands. The taint is for startup: a node that is not ready any more does not get it back.
    pub fn see(&mut self, is_ready: bool, now: Instant) {
        match is_ready {
            true => _ = self.ready.get_or_insert(now),
            false => self.ready = None,
        }
    }

    /// When to look for it; never while the node is not ready.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let ready = self.ready?;
        let next = self.next.map_or(ready, |next| next.max(ready));
        Some(self.pause.not_before(next))
    }

    /// Takes in whether it is gone now. `random` spreads the looks of a cluster's nodes.
    pub fn ended(&mut self, is_gone: bool, now: Instant, random: u64) {
        self.pause.ended(is_gone, now, random);
        if is_gone {
            self.next = Some(now + spread_period(LOOK, random));
        }
    }
}

/// A JSON patch that takes the taints of this key away, and does nothing at all where the list has become another one
/// meanwhile; `None` where there is none.
#[must_use]
pub fn removal(taints: &[Value], key: &str) -> Option<Value> {
    let ours = taints.iter().enumerate().rev();
    let ours = ours.filter(|(_, taint)| taint["key"] == key);
    // From the end, so that the places of those before do not move.
    let steps: Vec<Value> = ours
        .flat_map(|(place, taint)| {
            let path = format!("/spec/taints/{place}");
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
        let mut taint = Taint::default();
        assert_eq!(taint.due(), None);
        taint.see(true, now);
        taint.see(true, now + Duration::from_secs(5));
        assert_eq!(taint.due(), Some(now));
        taint.ended(false, now, u64::MAX);
        assert_eq!(taint.due(), Some(now + Duration::from_secs(1)));
        taint.ended(true, now, 1 << 63);
        assert_eq!(taint.due(), Some(now + LOOK));
        taint.see(false, now);
        assert_eq!(taint.due(), None);
    }

    #[test]
    fn only_taints_of_that_key_go_and_only_from_where_they_were_seen() {
        let other = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
        let ours = |effect: &str| json!({"key": "a/b", "effect": effect, "timeAdded": "x"});
        assert_eq!(removal(std::slice::from_ref(&other), "a/b"), None);
        assert_eq!(removal(&[], "a/b"), None);
        let patch = removal(&[ours("NoSchedule"), other, ours("NoExecute")], "a/b").unwrap();
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
