//! Asks the container runtime what it has loaded, beside passes and whenever something may have changed.
//!
//! No event tells that a runtime no longer notices changes. The agent finds this out when a view asks for the status,
//! or at the next full reading.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::config::Settings;
use crate::host::Host;
use crate::model::{Check, CheckName};
use crate::retry::{Backoff, Jitter};
use crate::runtime::{ExpectedNetwork, compare_loaded_network, query_runtime_status};

/// How long containerd gets to load a change on disk before it is asked.
const LOAD_TIME: Duration = Duration::from_millis(100);
/// For how long consecutive changes can delay the question.
const MAX_CHANGE_DELAY: Duration = Duration::from_millis(500);
/// How old an answer may be when a view asks. If it is older, the view waits for the next answer.
const MAX_ANSWER_AGE: Duration = Duration::from_secs(1);
/// How long a view waits for the answer. An answer takes a few milliseconds, and clients such as kubelet have short time
/// limits themselves.
pub(super) const MAX_VIEW_WAIT: Duration = Duration::from_millis(300);
/// The pauses before a runtime is asked again that has not loaded the declared network.
const RUNTIME_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15));

/// What is wrong according to the runtime, a sentence each.
type Reasons = Vec<String>;

/// The question to the container runtime and its last answer.
#[derive(Default)]
pub(super) struct RuntimeQuery {
    /// The runtime's socket; `None` if no runtime is declared.
    socket: Option<PathBuf>,
    expected: Option<ExpectedNetwork>,
    /// `None` before the first answer.
    last: Option<LastAnswer>,
    next: NextQuestion,
    running: RunningQuestion,
    retries: u32,
    /// Whether a view waits for the answer.
    is_view_waiting: bool,
}

struct LastAnswer {
    reasons: Reasons,
    asked_at: Instant,
}

/// The next question to the runtime. It can be due while another one is under way.
#[derive(Clone, Copy, Default)]
enum NextQuestion {
    /// Nothing calls for one.
    #[default]
    NotNeeded,
    /// The last answer is too old, or was not good.
    Due(Instant),
    /// There are changes that the runtime was not asked about, the first one from `changed_since`.
    DueAfterChange { at: Instant, changed_since: Instant },
}

impl NextQuestion {
    const fn due(self) -> Option<Instant> {
        match self {
            Self::NotNeeded => None,
            Self::Due(at) | Self::DueAfterChange { at, .. } => Some(at),
        }
    }

    /// Makes the question due at `at`; the first change stays known.
    const fn reschedule(&mut self, new: Instant) {
        match self {
            Self::DueAfterChange { at, .. } => *at = new,
            Self::NotNeeded | Self::Due(_) => *self = Self::Due(new),
        }
    }

    /// Records another change, which the runtime gets `delay` to load.
    fn record_change(&mut self, now: Instant, delay: Duration) {
        let changed_since = match *self {
            Self::DueAfterChange { changed_since, .. } => changed_since,
            Self::NotNeeded | Self::Due(_) => now,
        };
        *self = Self::DueAfterChange {
            at: (now + delay).min(changed_since + MAX_CHANGE_DELAY),
            changed_since,
        };
    }
}

/// The question under way.
#[derive(Default)]
enum RunningQuestion {
    #[default]
    Idle,
    Running {
        question: Pin<Box<dyn Future<Output = Reasons>>>,
        asked_at: Instant,
    },
}

impl RuntimeQuery {
    /// A question to the declared runtime, if one is declared.
    pub(super) fn new(settings: &Settings) -> Self {
        let declared = settings.runtime.as_ref();
        Self {
            socket: declared.map(|runtime| runtime.socket.clone()),
            ..Self::default()
        }
    }

    /// Starts over if another runtime is declared than before.
    pub(super) fn apply_settings(&mut self, settings: &Settings) {
        let new = Self::new(settings);
        if new.socket != self.socket {
            *self = new;
        }
    }

    /// Records the result of a pass. `expected` is what the runtime must have loaded; `None` while the conflist is not in
    /// place. `changed`: something has happened that the runtime may not have loaded yet.
    pub(super) fn record_pass(
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
            self.next = NextQuestion::NotNeeded;
        } else if is_new || changed {
            self.retries = 0;
            let delay = if self.last.is_none() && !changed {
                Duration::ZERO
            } else {
                LOAD_TIME
            };
            self.next.record_change(now, delay);
        }
    }

    /// Makes the question due now, for the full reading: the last answer may be outdated.
    pub(super) fn ask_now(&mut self, now: Instant) {
        if self.expected.is_some() && self.next.due().is_none() {
            self.next = NextQuestion::Due(now);
        }
    }

    /// A view has asked for the status. `true` if it has to wait for the next answer, because the last one is too old.
    pub(super) fn is_view_to_wait(&mut self, now: Instant) -> bool {
        if self.expected.is_none() {
            return false;
        }
        let soon = self.next.due().is_some_and(|due| due <= now + LOAD_TIME);
        if !self.is_running() && !soon {
            let is_young = |last: &LastAnswer| now - last.asked_at < MAX_ANSWER_AGE;
            if self.last.as_ref().is_some_and(is_young) {
                return false;
            }
            self.next.reschedule(now);
        }
        self.is_view_waiting = true;
        true
    }

    /// When the question is due; `None` while it is being asked.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.next.due().filter(|_| !self.is_running())
    }

    const fn is_running(&self) -> bool {
        matches!(self.running, RunningQuestion::Running { .. })
    }

    /// Asks the runtime if that is due.
    pub(super) fn start_if_due(&mut self, host: &Host, now: Instant) {
        if self.next_due().is_none_or(|due| now < due) {
            return;
        }
        let (Some(expected), Some(socket)) = (self.expected.clone(), self.socket.clone()) else {
            return;
        };
        self.next = NextQuestion::NotNeeded;
        let host = host.clone();
        let question = Box::pin(async move {
            match query_runtime_status(&host, &socket).await {
                Ok(answer) => compare_loaded_network(&answer, &expected),
                Err(error) => vec![error.to_string()],
            }
        });
        self.running = RunningQuestion::Running {
            question,
            asked_at: now,
        };
    }

    /// Waits for the answer; for ever if there is no question. `true` if it differs from the last one or a view waits
    /// for it. Cancel-safe: the question stays until it is answered.
    pub(super) async fn wait_for_answer(&mut self) -> bool {
        let RunningQuestion::Running { question, asked_at } = &mut self.running else {
            return std::future::pending().await;
        };
        let answer = LastAnswer {
            reasons: question.await,
            asked_at: *asked_at,
        };
        self.running = RunningQuestion::Idle;
        self.record_answer(answer, Instant::now())
    }

    fn record_answer(&mut self, answer: LastAnswer, now: Instant) -> bool {
        if !answer.reasons.is_empty() && self.next.due().is_none() && self.expected.is_some() {
            self.next = NextQuestion::Due(now + RUNTIME_BACKOFF.pause(self.retries, Jitter::None));
            self.retries = self.retries.saturating_add(1);
        }
        let is_same = |last: &LastAnswer| last.reasons == answer.reasons;
        let changed = !self.last.as_ref().is_some_and(is_same);
        self.last = Some(answer);
        std::mem::take(&mut self.is_view_waiting) || changed
    }

    /// The check `runtime`.
    pub(super) fn check(&self) -> Check {
        let mut check = Check::new(CheckName::Runtime);
        match &self.last {
            Some(last) => check.failures.clone_from(&last.reasons),
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
            rival: None,
            conf_dir: "/etc/cni/net.d".into(),
            bin_dir: "/opt/cni/bin".into(),
        })
    }

    /// A runtime that was found right.
    fn found_right(now: Instant) -> RuntimeQuery {
        let mut runtime = RuntimeQuery {
            socket: Some("/run/cri.sock".into()),
            ..RuntimeQuery::default()
        };
        runtime.record_pass(expected("a"), false, now);
        assert_eq!(
            runtime.next_due(),
            Some(now),
            "the first time nothing is awaited"
        );
        answer(&mut runtime, now, Vec::new());
        runtime
    }

    /// What [`RuntimeQuery::start_if_due`] and an answer do, without a runtime.
    fn answer(runtime: &mut RuntimeQuery, now: Instant, reasons: Vec<String>) -> bool {
        runtime.next = NextQuestion::NotNeeded;
        let asked_at = now;
        runtime.record_answer(LastAnswer { reasons, asked_at }, now)
    }

    fn blind() -> Vec<String> {
        vec!["containerd is blind".to_owned()]
    }

    /// A time in the past at which nobody asks would wake the agent again and again.
    #[test]
    fn nothing_is_due_where_no_runtime_is_declared() {
        let (mut runtime, now) = (RuntimeQuery::default(), Instant::now());
        runtime.record_pass(expected("a"), true, now);
        assert!(!runtime.is_view_to_wait(now));
        assert_eq!(runtime.next_due(), None);
    }

    #[test]
    fn nothing_is_due_while_the_disk_is_wrong() {
        let now = Instant::now();
        let mut runtime = found_right(now);
        runtime.record_pass(expected("a"), true, now);
        runtime.record_pass(None, true, now);
        assert!(!runtime.is_view_to_wait(now + MAX_ANSWER_AGE));
        assert_eq!(runtime.next_due(), None);
        answer(&mut runtime, now, blind());
        assert_eq!(runtime.next_due(), None, "an answer that came late");
    }

    #[test]
    fn a_change_is_given_time_to_be_loaded_but_changes_without_end_are_not() {
        let start = Instant::now();
        let mut runtime = found_right(start);
        runtime.record_pass(expected("a"), false, start);
        assert_eq!(runtime.next_due(), None, "nothing has changed");
        for millis in (0..1000).step_by(20) {
            let now = start + Duration::from_millis(millis);
            runtime.record_pass(expected("a"), true, now);
            let last = start + MAX_CHANGE_DELAY;
            assert_eq!(runtime.next_due(), Some((now + LOAD_TIME).min(last)));
        }
    }

    #[test]
    fn a_view_waits_for_an_answer_that_is_newer_than_the_last_change() {
        let start = Instant::now();
        let mut runtime = found_right(start);
        let soon = start + LOAD_TIME / 2;
        assert!(
            !runtime.is_view_to_wait(soon),
            "the answer is young, nothing changed"
        );
        runtime.record_pass(expected("a"), true, soon);
        assert!(runtime.is_view_to_wait(soon));
        assert_eq!(
            runtime.next_due(),
            Some(soon + LOAD_TIME),
            "and does not hasten it"
        );
        assert!(
            answer(&mut runtime, soon + LOAD_TIME, Vec::new()),
            "the view that waits"
        );
        assert!(!answer(&mut runtime, soon + LOAD_TIME, Vec::new()), "once");
        let later = soon + LOAD_TIME + MAX_ANSWER_AGE;
        assert!(runtime.is_view_to_wait(later));
        assert_eq!(runtime.next_due(), Some(later));
    }

    #[test]
    fn a_full_reading_asks_as_well() {
        let now = Instant::now();
        let mut runtime = found_right(now);
        runtime.ask_now(now);
        assert_eq!(runtime.next_due(), Some(now));
        answer(&mut runtime, now, Vec::new());
        runtime.record_pass(None, true, now);
        runtime.ask_now(now);
        assert_eq!(runtime.next_due(), None, "the disk is wrong");
    }

    /// Whoever has restarted the runtime and looks again must not get an outdated answer.
    #[test]
    fn a_view_does_not_wait_for_the_next_try() {
        let mut now = Instant::now();
        let mut runtime = found_right(now);
        for _ in 0..10 {
            answer(&mut runtime, now, blind());
            now = runtime.next_due().unwrap();
        }
        answer(&mut runtime, now, blind());
        assert_eq!(runtime.next_due(), Some(now + RUNTIME_BACKOFF.max));
        assert!(runtime.is_view_to_wait(now + MAX_ANSWER_AGE));
        assert_eq!(runtime.next_due(), Some(now + MAX_ANSWER_AGE));
    }
}
