//! What the container runtime itself has loaded: asked beside turns, when something may have changed.
//!
//! Nothing tells when a runtime goes blind, so that is noticed when views ask, at the next full reading, or not at all.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::config::Settings;
use crate::host::Host;
use crate::model::{Check, CheckName};
use crate::retry::{Backoff, Jitter};
use crate::runtime::{ExpectedNetwork, compare_loaded_network, query_runtime_status};

/// How long containerd gets to load what has changed on disk.
const LOADING: Duration = Duration::from_millis(100);
/// For how long changes that follow each other put the question off.
const PUT_OFF: Duration = Duration::from_millis(500);
/// How old an answer may be when a view asks; with an older one the view waits for the next.
const STALE: Duration = Duration::from_secs(1);
/// For how long it waits: an answer takes a few milliseconds, and a client of ours has little patience itself.
pub(super) const AWAITED: Duration = Duration::from_millis(300);
/// The pauses before a runtime is asked again that did not have it right.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15));

type Question = Pin<Box<dyn Future<Output = Vec<String>>>>;

/// The question to the runtime and its last answer.
#[derive(Default)]
pub(super) struct Runtime {
    /// Whom to ask; `None` asks nobody.
    socket: Option<PathBuf>,
    /// What is wrong according to the last answer; `None` before the first one.
    reasons: Option<Vec<String>>,
    expected: Option<ExpectedNetwork>,
    asked: Option<Instant>,
    due: Option<Instant>,
    /// Since when there is a change that the runtime was not asked about.
    owed: Option<Instant>,
    tries: u32,
    question: Option<Question>,
    /// Whether a view waits for the answer.
    awaited: bool,
}

impl Runtime {
    /// The runtime that is declared, if one is; not asked yet.
    pub(super) fn of(settings: &Settings) -> Self {
        let declared = settings.runtime.as_ref();
        Self {
            socket: declared.map(|runtime| runtime.socket.clone()),
            ..Self::default()
        }
    }

    /// Starts over where another runtime is declared than before.
    pub(super) fn declared_anew(&mut self, settings: &Settings) {
        let new = Self::of(settings);
        if new.socket != self.socket {
            *self = new;
        }
    }

    /// A turn has found the disk so: `expected` is what the runtime must have loaded, where that can be said.
    /// `changed` if something has happened that the runtime may not have seen yet.
    pub(super) fn turned(
        &mut self,
        expected: Option<ExpectedNetwork>,
        changed: bool,
        now: Instant,
    ) {
        if self.socket.is_none() {
            return;
        }
        let is_new = expected.is_some() && expected != self.expected;
        self.expected = expected;
        if self.expected.is_none() {
            (self.due, self.owed) = (None, None);
        } else if is_new || changed {
            self.tries = 0;
            let delay = if self.reasons.is_none() && !changed {
                Duration::ZERO
            } else {
                LOADING
            };
            let owed = *self.owed.get_or_insert(now);
            self.due = Some((now + delay).min(owed + PUT_OFF));
        }
    }

    /// Time for a full reading: what was last known may be outdated.
    pub(super) fn doubted(&mut self, now: Instant) {
        if self.expected.is_some() {
            self.due.get_or_insert(now);
        }
    }

    /// A view has asked; `true` if it has to wait for an answer that is about to come, since the last one is too old.
    pub(super) fn viewed(&mut self, now: Instant) -> bool {
        if self.expected.is_none() {
            return false;
        }
        let soon = self.due.is_some_and(|due| due <= now + LOADING);
        if self.question.is_none() && !soon {
            if self.asked.is_some_and(|asked| now - asked < STALE) {
                return false;
            }
            self.due = Some(now);
        }
        self.awaited = true;
        true
    }

    /// When it is to be asked.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| self.question.is_none())
    }

    /// Asks if that is due.
    pub(super) fn ask(&mut self, host: &Host, now: Instant) {
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        let (Some(expected), Some(socket)) = (self.expected.clone(), self.socket.clone()) else {
            return;
        };
        (self.due, self.owed, self.asked) = (None, None, Some(now));
        let host = host.clone();
        self.question = Some(Box::pin(async move {
            match query_runtime_status(&host, &socket).await {
                Ok(answer) => compare_loaded_network(&answer, &expected),
                Err(error) => vec![error.to_string()],
            }
        }));
    }

    /// Ends with an answer, which is `true` if it is another one than before or a view waits for it; never where
    /// nothing was asked. Cancel-safe: the question stays until it is answered.
    pub(super) async fn answered(&mut self) -> bool {
        let reasons = match &mut self.question {
            Some(question) => question.await,
            None => std::future::pending().await,
        };
        self.question = None;
        self.learned(reasons, Instant::now())
    }

    fn learned(&mut self, reasons: Vec<String>, now: Instant) -> bool {
        if !reasons.is_empty() && self.due.is_none() && self.expected.is_some() {
            self.due = Some(now + BACKOFF.pause(self.tries, Jitter::None));
            self.tries = self.tries.saturating_add(1);
        }
        let changed = self.reasons.as_ref() != Some(&reasons);
        self.reasons = Some(reasons);
        std::mem::take(&mut self.awaited) || changed
    }

    /// What is known of it.
    pub(super) fn check(&self) -> Check {
        let mut check = Check::new(CheckName::Runtime);
        match &self.reasons {
            Some(reasons) => check.failures.clone_from(reasons),
            None => check.failures.push("not asked yet".to_owned()),
        }
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(text: &str) -> Option<ExpectedNetwork> {
        Some(ExpectedNetwork {
            file: "10-x.conflist".to_owned(),
            network: "pods".to_owned(),
            chain: vec!["bridge".to_owned()],
            text: text.to_owned(),
            conf_dir: "/etc/cni/net.d".into(),
            bin_dir: "/opt/cni/bin".into(),
        })
    }

    /// A runtime that was found right.
    fn found_right(now: Instant) -> Runtime {
        let mut runtime = Runtime {
            socket: Some("/run/cri.sock".into()),
            ..Runtime::default()
        };
        runtime.turned(expected("a"), false, now);
        assert_eq!(
            runtime.due(),
            Some(now),
            "the first time nothing is awaited"
        );
        answer(&mut runtime, now, Vec::new());
        runtime
    }

    /// What [`Runtime::ask`] and an answer do, without a runtime.
    fn answer(runtime: &mut Runtime, now: Instant, reasons: Vec<String>) -> bool {
        (runtime.due, runtime.owed, runtime.asked) = (None, None, Some(now));
        runtime.learned(reasons, now)
    }

    fn blind() -> Vec<String> {
        vec!["containerd is blind".to_owned()]
    }

    /// A time in the past at which nobody asks would wake the agent again and again.
    #[test]
    fn nothing_is_due_where_no_runtime_is_declared() {
        let (mut runtime, now) = (Runtime::default(), Instant::now());
        runtime.turned(expected("a"), true, now);
        assert!(!runtime.viewed(now));
        assert_eq!(runtime.due(), None);
    }

    #[test]
    fn nothing_is_due_while_the_disk_is_wrong() {
        let now = Instant::now();
        let mut runtime = found_right(now);
        runtime.turned(expected("a"), true, now);
        runtime.turned(None, true, now);
        assert!(!runtime.viewed(now + STALE));
        assert_eq!(runtime.due(), None);
        answer(&mut runtime, now, blind());
        assert_eq!(runtime.due(), None, "an answer that came late");
    }

    #[test]
    fn a_change_is_given_time_to_be_loaded_but_changes_without_end_are_not() {
        let start = Instant::now();
        let mut runtime = found_right(start);
        runtime.turned(expected("a"), false, start);
        assert_eq!(runtime.due(), None, "nothing has changed");
        for millis in (0..1000).step_by(20) {
            let now = start + Duration::from_millis(millis);
            runtime.turned(expected("a"), true, now);
            let last = start + PUT_OFF;
            assert_eq!(runtime.due(), Some((now + LOADING).min(last)));
        }
    }

    #[test]
    fn a_view_waits_for_an_answer_that_is_newer_than_the_last_change() {
        let start = Instant::now();
        let mut runtime = found_right(start);
        let soon = start + LOADING / 2;
        assert!(
            !runtime.viewed(soon),
            "the answer is young, nothing changed"
        );
        runtime.turned(expected("a"), true, soon);
        assert!(runtime.viewed(soon));
        assert_eq!(
            runtime.due(),
            Some(soon + LOADING),
            "and does not hasten it"
        );
        assert!(answer(&mut runtime, soon + LOADING, Vec::new()), "told");
        assert!(!answer(&mut runtime, soon + LOADING, Vec::new()), "once");
        let later = soon + LOADING + STALE;
        assert!(runtime.viewed(later));
        assert_eq!(runtime.due(), Some(later));
    }

    #[test]
    fn a_full_reading_asks_as_well() {
        let now = Instant::now();
        let mut runtime = found_right(now);
        runtime.doubted(now);
        assert_eq!(runtime.due(), Some(now));
        answer(&mut runtime, now, Vec::new());
        runtime.turned(None, true, now);
        runtime.doubted(now);
        assert_eq!(runtime.due(), None, "the disk is wrong");
    }

    /// Whoever has restarted the runtime and looks again must not be told what was true before.
    #[test]
    fn a_view_does_not_wait_for_the_next_try() {
        let mut now = Instant::now();
        let mut runtime = found_right(now);
        for _ in 0..10 {
            answer(&mut runtime, now, blind());
            now = runtime.due().unwrap();
        }
        answer(&mut runtime, now, blind());
        assert_eq!(runtime.due(), Some(now + BACKOFF.max));
        assert!(runtime.viewed(now + STALE));
        assert_eq!(runtime.due(), Some(now + STALE));
    }
}
