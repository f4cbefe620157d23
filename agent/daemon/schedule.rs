//! The schedule: every time at which the event loop wants to wake up by itself. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::retry::{Backoff, Jitter};

/// The pauses before a pass is repeated because something did not work or is awaited.
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
/// The time between two passes while the kernel cannot report changes.
pub(super) const POLL_PERIOD: Duration = Duration::from_secs(2);
/// The shortest time between two passes that views ask for. More requests than that share a pass.
const MIN_REQUEST_PERIOD: Duration = Duration::from_millis(10);
/// After a pass that found nothing to do, the loop rests for this many times the length of the pass, and at most for
/// [`MAX_REST`]. So a flood of events without meaning costs at most a fifth of a core.
const REST_FACTOR: u32 = 4;
const MAX_REST: Duration = Duration::from_millis(250);
/// How long the loop sleeps if nothing is scheduled.
const NOTHING_SCHEDULED: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a wake-up is for. There is at most one of each kind at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A full reading of all files.
    Resync,
    /// Another pass, since something did not work or is awaited.
    Retry,
    /// Another pass, because the kernel reports no events.
    Poll,
    /// A file may be repaired again whose repairs were undone.
    FileBackoffEnds,
    /// A conflict with another writer counts as over.
    ConflictEnds,
    /// A download may be tried again.
    Download,
    /// A plugin may be asked again whose answer to VERSION could not be had.
    PluginQuestion,
    /// A link that is missing is to be told.
    AwaitedLink,
    /// A pass that was requested and postponed.
    RequestedPass,
    /// A question to the container runtime is due.
    RuntimeQuery,
    /// A question to the Kubernetes API about the node is due.
    NodeQuery,
}

/// The times at which the event loop wakes up.
#[derive(Debug)]
pub(super) struct Schedule {
    resync_period: Duration,
    /// How many retries in a row there were.
    retries: u32,
    resting_until: Instant,
    last_pass: Instant,
    timers: BTreeMap<Timer, Instant>,
}

/// What is due now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DueWork {
    /// A pass, for any of the reasons.
    pub(super) pass: bool,
    /// A full reading.
    pub(super) resync: bool,
    /// Another try at what did not work.
    pub(super) retry: bool,
    /// An observation, because the kernel reports no events.
    pub(super) poll: bool,
}

impl Schedule {
    pub(super) fn new(now: Instant, resync_period: Duration) -> Self {
        Self {
            resync_period,
            retries: 0,
            resting_until: now,
            last_pass: now,
            timers: BTreeMap::from([(Timer::Resync, now + resync_period)]),
        }
    }

    /// Changes the time between two full readings. If one is due earlier, it keeps its time.
    pub(super) fn set_resync_period(&mut self, now: Instant, period: Duration) {
        self.resync_period = period;
        self.set_if_earlier(Timer::Resync, now + period);
    }

    /// Sets or clears a timer.
    pub(super) fn set_timer(&mut self, timer: Timer, at: Option<Instant>) {
        match at {
            Some(at) => _ = self.timers.insert(timer, at),
            None => _ = self.timers.remove(&timer),
        }
    }

    fn set_if_earlier(&mut self, timer: Timer, at: Instant) {
        let timer = self.timers.entry(timer).or_insert(at);
        *timer = at.min(*timer);
    }

    /// The earliest time at which anything is due.
    pub(super) fn next_wakeup(&self) -> Instant {
        let next = self.timers.values().min().copied();
        next.unwrap_or(self.last_pass + NOTHING_SCHEDULED)
    }

    /// Removes the timers that are due and returns what they are for. The next full reading is scheduled at once.
    pub(super) fn take_due_work(&mut self, now: Instant) -> DueWork {
        let mut due = DueWork::default();
        self.timers.retain(|timer, at| {
            if *at > now {
                return true;
            }
            match timer {
                Timer::Resync => due.resync = true,
                Timer::Retry => due.retry = true,
                Timer::Poll => due.poll = true,
                Timer::FileBackoffEnds
                | Timer::ConflictEnds
                | Timer::Download
                | Timer::PluginQuestion
                | Timer::AwaitedLink
                | Timer::RequestedPass
                | Timer::RuntimeQuery
                | Timer::NodeQuery => {}
            }
            // The questions are asked beside passes and need no pass.
            due.pass |= !matches!(timer, Timer::RuntimeQuery | Timer::NodeQuery);
            false
        });
        if due.resync {
            self.set_timer(Timer::Resync, Some(now + self.resync_period));
        }
        due
    }

    /// Schedules a pass at once.
    pub(super) fn request_pass_now(&mut self) {
        self.request_pass_by(self.last_pass);
    }

    /// Schedules a pass at `at`, unless there is one before.
    pub(super) fn request_pass_by(&mut self, at: Instant) {
        self.set_if_earlier(Timer::RequestedPass, at);
    }

    /// Whether the pass that a view asks for may begin now. If not, it is scheduled for a little later.
    pub(super) fn allow_requested_pass(&mut self, now: Instant) -> bool {
        let due = self.last_pass + MIN_REQUEST_PERIOD;
        if now >= due {
            return true;
        }
        self.request_pass_by(due);
        false
    }

    /// Until when hints accumulate. The first hint after a pass that had something to do never waits.
    pub(super) const fn resting_until(&self) -> Instant {
        self.resting_until
    }

    /// Records that a pass ended at `now`. `futile`: a hint led to it and there was nothing to do.
    pub(super) fn record_pass(&mut self, began: Instant, now: Instant, futile: bool) {
        self.last_pass = now;
        if futile {
            let rest = (now - began).saturating_mul(REST_FACTOR);
            self.resting_until = now + rest.min(MAX_REST);
        }
        // This pass also answers the requests that came while it ran.
        self.set_timer(Timer::RequestedPass, None);
    }

    /// Schedules a retry after the back-off if one is `wanted`; otherwise the back-off starts over.
    pub(super) fn schedule_retry(&mut self, now: Instant, wanted: bool) {
        if !wanted {
            self.retries = 0;
            self.set_timer(Timer::Retry, None);
        } else if !self.timers.contains_key(&Timer::Retry) {
            let pause = RETRY_BACKOFF.pause(self.retries, Jitter::None);
            self.set_timer(Timer::Retry, Some(now + pause));
            self.retries = self.retries.saturating_add(1);
        }
    }

    /// Schedules the next poll if polling is `wanted`.
    pub(super) fn schedule_poll(&mut self, now: Instant, wanted: bool) {
        // A pass that a view requested does not delay the poll, because such a pass does not read the configuration.
        let scheduled = self.timers.get(&Timer::Poll).copied();
        let next = wanted.then(|| scheduled.unwrap_or(now + POLL_PERIOD));
        self.set_timer(Timer::Poll, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESYNC_PERIOD: Duration = Duration::from_secs(300);

    #[test]
    fn an_idle_agent_wakes_up_only_for_the_resync() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now, RESYNC_PERIOD);
        assert_eq!(schedule.next_wakeup(), now + RESYNC_PERIOD);
        assert_eq!(schedule.take_due_work(now), DueWork::default());
        let due = schedule.take_due_work(now + RESYNC_PERIOD);
        assert!(due.resync && due.pass && !due.retry && !due.poll);
        assert_eq!(schedule.next_wakeup(), now + 2 * RESYNC_PERIOD);
    }

    #[test]
    fn retries_back_off_and_start_over_after_a_success() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(now, RESYNC_PERIOD);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            schedule.schedule_retry(now, true);
            pauses.push(schedule.next_wakeup() - now);
            now = schedule.next_wakeup();
            assert!(schedule.take_due_work(now).retry);
        }
        assert_eq!(pauses[..2], [RETRY_BACKOFF.first, 2 * RETRY_BACKOFF.first]);
        assert_eq!(pauses[6], RETRY_BACKOFF.max);
        schedule.schedule_retry(now, false);
        schedule.schedule_retry(now, true);
        assert_eq!(schedule.next_wakeup() - now, RETRY_BACKOFF.first);
    }

    #[test]
    fn a_hint_waits_only_after_a_futile_pass() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, RESYNC_PERIOD);
        let now = start + Duration::from_millis(1);
        schedule.record_pass(start, now, false);
        assert!(schedule.resting_until() <= now);
        schedule.record_pass(start, now, true);
        assert_eq!(schedule.resting_until(), now + Duration::from_millis(4));
        schedule.record_pass(start, start + Duration::from_secs(5), true);
        let longest = start + Duration::from_secs(5) + MAX_REST;
        assert_eq!(schedule.resting_until(), longest);
    }

    #[test]
    fn a_requested_pass_neither_begins_nor_ends_a_rest() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, RESYNC_PERIOD);
        let now = start + Duration::from_millis(10);
        schedule.record_pass(start, now, true);
        let rested = schedule.resting_until();
        schedule.record_pass(now, now, false);
        assert_eq!(schedule.resting_until(), rested);
    }

    #[test]
    fn many_requests_share_a_pass() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now, RESYNC_PERIOD);
        schedule.record_pass(now, now, false);
        for _ in 0..1000 {
            assert!(!schedule.allow_requested_pass(now));
        }
        assert!(schedule.take_due_work(now + MIN_REQUEST_PERIOD).pass);
        assert!(!schedule.take_due_work(now + MIN_REQUEST_PERIOD).pass);
        assert!(schedule.allow_requested_pass(now + MIN_REQUEST_PERIOD));
    }
}
