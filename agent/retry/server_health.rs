//! Remembers which servers did not answer, so that a dead server costs one timeout and not one for each file.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::verdict::is_of_server;
use crate::model::FailureKind;

/// For how long a server that did not answer is asked last. It does not grow with repeated failures: `scripts/fleet`
/// shows that, if the next source is slow, nodes are ready later the longer they avoid a mirror that has come back.
const REST: Duration = Duration::from_secs(60);

/// Which servers are down, by `SCHEME://HOST:PORT`.
///
/// This only changes the order: a server that is down is asked after all others.
#[derive(Debug, Default)]
pub struct ServerHealth {
    /// Until when each of them is down.
    down: BTreeMap<String, Instant>,
}

impl ServerHealth {
    /// Records that a request to a server failed.
    pub fn record_failure(&mut self, server: &str, kind: FailureKind, now: Instant) {
        if is_of_server(kind) {
            self.down.insert(server.to_owned(), now + REST);
        }
    }

    /// Records that a server gave the requested file.
    pub fn record_success(&mut self, server: &str) {
        self.down.remove(server);
    }

    /// Whether other servers are asked first.
    #[must_use]
    pub fn is_down(&self, server: &str, now: Instant) -> bool {
        self.down.get(server).is_some_and(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIRROR: &str = "https://mirror.example:443";

    #[test]
    fn a_server_is_down_for_a_while_and_up_once_it_works() {
        let (mut health, start) = (ServerHealth::default(), Instant::now());
        assert!(!health.is_down(MIRROR, start));
        health.record_failure(MIRROR, FailureKind::Timeout, start);
        assert!(health.is_down(MIRROR, start));
        assert!(!health.is_down("https://other.example:443", start));
        let later = start + REST;
        assert!(!health.is_down(MIRROR, later), "it is worth a try again");
        for _ in 0..40 {
            health.record_failure(MIRROR, FailureKind::Timeout, later);
        }
        assert!(health.is_down(MIRROR, later));
        assert!(!health.is_down(MIRROR, later + REST), "as soon as before");
        health.record_failure(MIRROR, FailureKind::Timeout, later);
        health.record_success(MIRROR);
        assert!(!health.is_down(MIRROR, later));
    }

    #[test]
    fn a_server_that_answers_is_not_down_whatever_it_says() {
        let (mut health, now) = (ServerHealth::default(), Instant::now());
        for kind in [
            FailureKind::Status(404),
            FailureKind::Status(503),
            FailureKind::Auth,
            FailureKind::Digest,
            FailureKind::Truncated,
        ] {
            health.record_failure(MIRROR, kind, now);
            assert!(!health.is_down(MIRROR, now), "{kind:?}");
        }
    }
}
