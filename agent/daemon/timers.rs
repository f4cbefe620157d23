//! When the agent turns by itself. Pure: the time is handed in.

use std::time::{Duration, Instant};

use crate::retry::{Backoff, Jitter};

/// The pauses before something is tried again that did not work.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
/// The time between two looks where the kernel cannot tell of changes.
pub(super) const POLL: Duration = Duration::from_secs(2);
/// The shortest time between two looks that views ask for: a flood of questions shares them.
const ASKED: Duration = Duration::from_millis(10);
/// For how many times its own length the agent rests after a turn that found nothing to do, and at most how long: a
/// flood of events that mean nothing costs a fifth of a core.
const REST: u32 = 4;
const LONGEST_REST: Duration = Duration::from_millis(250);
/// Without any other reason.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Every time at which the agent wants to be woken.
#[derive(Debug)]
pub(super) struct Timers {
    resync_every: Duration,
    resync: Instant,
    retry: Option<Instant>,
    retries: u32,
    poll: Option<Instant>,
    held: Option<Instant>,
    peace: Option<Instant>,
    refetch: Option<Instant>,
    /// A turn that was put off.
    postponed: Option<Instant>,
    resting_until: Instant,
    last_turn: Instant,
}

/// What is due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// A turn.
    pub(super) turn: bool,
    /// A full reading.
    pub(super) resync: bool,
    /// Another try at what did not work.
    pub(super) retry: bool,
    /// A look in place of the events that do not come.
    pub(super) poll: bool,
}

impl Timers {
    pub(super) fn new(now: Instant, resync_every: Duration) -> Self {
        Self {
            resync_every,
            resync: now + resync_every,
            retry: None,
            retries: 0,
            poll: None,
            held: None,
            peace: None,
            refetch: None,
            postponed: None,
            resting_until: now,
            last_turn: now,
        }
    }

    /// Another time between two full readings is declared.
    pub(super) fn resync_every(&mut self, now: Instant, every: Duration) {
        self.resync_every = every;
        self.resync = self.resync.min(now + every);
    }

    /// The earliest time at which something is due.
    pub(super) fn next(&self) -> Instant {
        let others = [
            self.retry,
            self.poll,
            self.held,
            self.peace,
            self.refetch,
            self.postponed,
        ];
        let others = others.into_iter().flatten();
        others
            .chain([self.resync])
            .min()
            .unwrap_or(self.last_turn + FOREVER)
    }

    /// What is due by now; what is due once is not due again.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        let passed = |timer: &mut Option<Instant>| timer.take_if(|at| *at <= now).is_some();
        let mut due = Due {
            retry: passed(&mut self.retry),
            poll: passed(&mut self.poll),
            ..Due::default()
        };
        let other = [
            passed(&mut self.held),
            passed(&mut self.peace),
            passed(&mut self.refetch),
            passed(&mut self.postponed),
        ];
        if self.resync <= now {
            self.resync = now + self.resync_every;
            due.resync = true;
        }
        due.turn = due.retry || due.poll || due.resync || other.contains(&true);
        due
    }

    /// Has the next turn follow at once.
    pub(super) fn at_once(&mut self) {
        self.postpone(self.last_turn);
    }

    /// Until when changes are left to add up. The first one after a turn that had something to do never is.
    pub(super) const fn resting_until(&self) -> Instant {
        self.resting_until
    }

    /// Whether a view's question is looked into at once; if not, soon.
    pub(super) fn asked(&mut self, now: Instant) -> bool {
        let due = self.last_turn + ASKED;
        if now >= due {
            return true;
        }
        self.postpone(due);
        false
    }

    /// Has a turn follow by then, if none does before.
    pub(super) fn in_time(&mut self, at: Instant) {
        self.postpone(at);
    }

    fn postpone(&mut self, at: Instant) {
        self.postponed = Some(self.postponed.map_or(at, |earlier| earlier.min(at)));
    }

    /// A turn was taken. `futile` if it was taken for a change and found nothing to do.
    pub(super) fn turned(&mut self, began: Instant, now: Instant, futile: bool) {
        self.last_turn = now;
        if futile {
            self.resting_until = now + (now - began).saturating_mul(REST).min(LONGEST_REST);
        }
        // What was put off is done with this turn, too.
        self.postponed = None;
    }

    /// Whether something is to be tried again.
    pub(super) fn retry(&mut self, now: Instant, wanted: bool) {
        if !wanted {
            (self.retry, self.retries) = (None, 0);
        } else if self.retry.is_none() {
            self.retry = Some(now + BACKOFF.pause(self.retries, Jitter::None));
            self.retries = self.retries.saturating_add(1);
        }
    }

    /// Whether the disk is to be looked at again and again.
    pub(super) fn poll(&mut self, now: Instant, wanted: bool) {
        // Turns that are taken for questions do not put it off: they do not read the configuration.
        self.poll = wanted.then(|| self.poll.unwrap_or(now + POLL));
    }

    /// When the first file may be mended again that is left alone for now.
    pub(super) const fn held(&mut self, until: Option<Instant>) {
        self.held = until;
    }

    /// When a conflict ends.
    pub(super) const fn peace(&mut self, at: Option<Instant>) {
        self.peace = at;
    }

    /// When there may be something to download again.
    pub(super) const fn refetch(&mut self, at: Option<Instant>) {
        self.refetch = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(300);

    #[test]
    fn idle_nothing_is_due_but_the_resync() {
        let now = Instant::now();
        let mut timers = Timers::new(now, EVERY);
        assert_eq!(timers.next(), now + EVERY);
        assert_eq!(timers.due(now), Due::default());
        let due = timers.due(now + EVERY);
        assert!(due.resync && due.turn && !due.retry && !due.poll);
        assert_eq!(timers.next(), now + 2 * EVERY);
    }

    #[test]
    fn a_retry_backs_off_and_starts_over_once_it_worked() {
        let mut now = Instant::now();
        let mut timers = Timers::new(now, EVERY);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            timers.retry(now, true);
            pauses.push(timers.next() - now);
            now = timers.next();
            assert!(timers.due(now).retry);
        }
        assert_eq!(pauses[..2], [BACKOFF.first, 2 * BACKOFF.first]);
        assert_eq!(pauses[6], BACKOFF.max);
        timers.retry(now, false);
        timers.retry(now, true);
        assert_eq!(timers.next() - now, BACKOFF.first);
    }

    #[test]
    fn only_after_a_turn_for_nothing_a_change_has_to_wait() {
        let start = Instant::now();
        let mut timers = Timers::new(start, EVERY);
        let now = start + Duration::from_millis(1);
        timers.turned(start, now, false);
        assert!(timers.resting_until() <= now);
        timers.turned(start, now, true);
        assert_eq!(timers.resting_until(), now + Duration::from_millis(4));
        timers.turned(start, start + Duration::from_secs(5), true);
        let longest = start + Duration::from_secs(5) + LONGEST_REST;
        assert_eq!(timers.resting_until(), longest);
    }

    #[test]
    fn a_question_neither_makes_a_change_wait_nor_cuts_a_rest_short() {
        let start = Instant::now();
        let mut timers = Timers::new(start, EVERY);
        let now = start + Duration::from_millis(10);
        timers.turned(start, now, true);
        let rested = timers.resting_until();
        timers.turned(now, now, false);
        assert_eq!(timers.resting_until(), rested);
    }

    #[test]
    fn a_flood_of_questions_shares_looks() {
        let now = Instant::now();
        let mut timers = Timers::new(now, EVERY);
        timers.turned(now, now, false);
        for _ in 0..1000 {
            assert!(!timers.asked(now));
        }
        assert!(timers.due(now + ASKED).turn);
        assert!(!timers.due(now + ASKED).turn);
        assert!(timers.asked(now + ASKED));
    }
}
