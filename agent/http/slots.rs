//! Who is being served, and who has to go when more want to be.

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::Limits;

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not sent a whole request so far.
    Silent {
        /// Since it was taken in.
        since: Instant,
    },
    /// A request is being answered.
    Answering,
    /// It was answered and may ask again. Its last answer may still be on the way.
    Answered {
        /// Since then.
        since: Instant,
    },
}

/// Where a connection says what it is at.
#[derive(Debug)]
pub(super) struct Activity(Mutex<Phase>);

/// The connections being served.
#[derive(Debug)]
pub(super) struct Slots {
    limits: Limits,
    tasks: JoinSet<()>,
    taken: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    activity: Arc<Activity>,
    task: AbortHandle,
}

impl Activity {
    /// Of a connection that was just taken in.
    pub(super) fn new() -> Self {
        let since = Instant::now();
        Self(Mutex::new(Phase::Silent { since }))
    }

    /// What it is at.
    pub(super) fn phase(&self) -> Phase {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins to be answered.
    pub(super) fn answering(&self) {
        self.set(Phase::Answering);
    }

    /// The answer is made.
    pub(super) fn answered(&self) {
        let since = Instant::now();
        self.set(Phase::Answered { since });
    }

    fn set(&self, phase: Phase) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Since when it could have asked for something and has not.
    fn waiting_since(&self) -> Option<Instant> {
        match self.phase() {
            Phase::Silent { since } | Phase::Answered { since } => Some(since),
            Phase::Answering => None,
        }
    }
}

impl Slots {
    /// No connections so far.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            tasks: JoinSet::new(),
            taken: Vec::new(),
        }
    }

    /// Serves one connection more, in a task of its own.
    pub(super) fn fill(
        &mut self,
        activity: Arc<Activity>,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.tasks.spawn(connection);
        self.taken.push(Slot { activity, task });
    }

    /// Waits for a free slot; where all are taken, the connection that has kept silent longest is cut off. One that
    /// is being answered never is: that takes a second at most.
    pub(super) async fn free(&mut self) {
        self.forget_ended();
        while self.taken.len() >= self.limits.connections {
            let wait = match self.longest_waiting() {
                Some((slot, since)) => {
                    let wait = self.limits.grace.saturating_sub(since.elapsed());
                    if wait.is_zero() {
                        self.cut_off(slot);
                        return;
                    }
                    wait
                }
                None => self.limits.grace,
            };
            let _ = timeout(wait, self.tasks.join_next()).await;
            self.forget_ended();
        }
    }

    /// Cuts off the connection that has kept silent longest, if one did for longer than the grace: its
    /// descriptor is needed.
    pub(super) fn thin(&mut self) {
        self.forget_ended();
        if let Some((slot, since)) = self.longest_waiting()
            && since.elapsed() >= self.limits.grace
        {
            self.cut_off(slot);
        }
    }

    /// Waits until a connection ends; where there is none, forever.
    pub(super) async fn ended(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until all have ended, and cuts off those that have not in time.
    pub(super) async fn finish(mut self, within: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(within, all).await;
    }

    fn forget_ended(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.taken.retain(|slot| !slot.task.is_finished());
    }

    fn longest_waiting(&self) -> Option<(usize, Instant)> {
        let waiting = |(index, slot): (usize, &Slot)| Some((index, slot.activity.waiting_since()?));
        let waiting = self.taken.iter().enumerate().filter_map(waiting);
        waiting.min_by_key(|(_, since)| *since)
    }

    fn cut_off(&mut self, slot: usize) {
        self.taken.swap_remove(slot).task.abort();
    }
}
