//! What the container runtime itself has loaded: asked beside turns, when something may have changed.
//!
//! Nothing tells when a runtime goes blind, so that is noticed when views ask, at the next full reading, or not at all.

use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::host::Host;
use crate::model::Check;
use crate::probe::{Expected, ask_runtime, compare};

/// How long containerd gets to load what has changed on disk.
const LOADING: Duration = Duration::from_millis(100);
/// How old an answer may be when a view asks.
const STALE: Duration = Duration::from_secs(5);
/// The pause before a runtime is asked again that did not have it right; it doubles.
const AGAIN: Duration = Duration::from_millis(500);
/// What the doubling stops at.
const LONGEST: Duration = Duration::from_secs(15);

type Question = Pin<Box<dyn Future<Output = Vec<String>>>>;

/// The question to the runtime and its last answer.
#[derive(Default)]
pub(super) struct Runtime {
    /// What is wrong according to the last answer; `None` before the first one.
    reasons: Option<Vec<String>>,
    expected: Option<Expected>,
    asked: Option<Instant>,
    due: Option<Instant>,
    tries: u32,
    question: Option<Question>,
}

impl Runtime {
    /// A turn has found the disk so: `expected` is what the runtime must have loaded, where that can be said.
    /// `changed` if something has happened that the runtime may not have seen yet.
    pub(super) fn turned(&mut self, expected: Option<Expected>, changed: bool, now: Instant) {
        let is_new = expected.is_some() && expected != self.expected;
        self.expected = expected;
        if self.expected.is_none() {
            self.due = None;
        } else if is_new || changed {
            self.tries = 0;
            let delay = if self.reasons.is_none() && !changed {
                Duration::ZERO
            } else {
                LOADING
            };
            self.due = Some(now + delay);
        }
    }

    /// A view has asked.
    pub(super) fn viewed(&mut self, now: Instant) {
        let stale = self.asked.is_none_or(|asked| now - asked >= STALE);
        if stale && self.expected.is_some() && self.due.is_none() {
            self.due = Some(now);
        }
    }

    /// When it is to be asked.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| self.question.is_none())
    }

    /// Asks if that is due.
    pub(super) fn ask(&mut self, host: &Host, socket: &std::path::Path, now: Instant) {
        if self.question.is_some() || self.due.is_none_or(|due| now < due) {
            return;
        }
        let Some(expected) = self.expected.clone() else {
            return;
        };
        (self.due, self.asked) = (None, Some(now));
        let (host, socket) = (host.clone(), socket.to_owned());
        self.question = Some(Box::pin(async move {
            match ask_runtime(&host, &socket).await {
                Ok(answer) => compare(&answer, &expected),
                Err(error) => vec![error.to_string()],
            }
        }));
    }

    /// Ends with an answer, which is `true` if it is another one than before; never where nothing was asked.
    /// Cancel-safe: the question stays until it is answered.
    pub(super) async fn answered(&mut self) -> bool {
        let reasons = match &mut self.question {
            Some(question) => question.await,
            None => std::future::pending().await,
        };
        self.question = None;
        if !reasons.is_empty() && self.due.is_none() {
            let pause = AGAIN.saturating_mul(1 << self.tries.min(10)).min(LONGEST);
            self.due = Some(Instant::now() + pause);
            self.tries += 1;
        }
        let changed = self.reasons.as_ref() != Some(&reasons);
        self.reasons = Some(reasons);
        changed
    }

    /// What is known of it.
    pub(super) fn check(&self) -> Check {
        let mut check = Check::new("runtime");
        match &self.reasons {
            Some(reasons) => check.failures.clone_from(reasons),
            None => check.failures.push("not asked yet".to_owned()),
        }
        check
    }
}
