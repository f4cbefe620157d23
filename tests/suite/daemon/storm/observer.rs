//! Samples the disk and the agent's answers as fast as it can, and compares them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use super::truth::Truth;
use crate::support::agent::get;

/// Checks that do not count here. `conflict` has its own tests and would hide every wrong answer about files. `look`
/// only says that the machine was too slow for an answer in time.
const QUESTION: &str = "/readyz?exclude=conflict";
const TOO_SLOW: &str = "[-]look failed";

/// A thread that watches the agent, and fails the test after a wrong answer.
pub(super) struct Observer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Seen>>,
}

#[derive(Default)]
struct Shared {
    /// How often damage was done so far; held while it is done.
    blows: Mutex<u64>,
    samples: AtomicU64,
    finished: AtomicBool,
    failed: AtomicBool,
}

/// What was seen between two damages.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Something was wrong all the time, and the agent reported it.
    pub(super) wrong: u32,
    /// Everything was right all the time, and the agent reported that.
    pub(super) right: u32,
    /// It was repaired meanwhile, so that either answer is true.
    pub(super) repaired: u32,
    /// Damage was done between question and answer.
    pub(super) disturbed: u32,
    /// No answer came in time.
    pub(super) slow: u32,
}

impl Observer {
    pub(super) fn of(agent: SocketAddr, truth: Truth) -> Self {
        let shared = Arc::new(Shared::default());
        let thread = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.watch(agent, &truth))
        };
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Does damage, and tells the observer.
    pub(super) fn strike<T>(&self, damage: impl FnOnce() -> T) -> T {
        let mut blows = self.shared.blows();
        *blows += 1;
        damage()
    }

    /// Waits until so many more samples were taken.
    pub(super) fn takes(&self, samples: u64) {
        let enough = self.shared.samples.load(Ordering::SeqCst) + samples;
        while self.shared.samples.load(Ordering::SeqCst) < enough {
            assert!(!self.shared.failed.load(Ordering::SeqCst), "it was lied to");
            thread::yield_now();
        }
    }

    /// Ends the observation, and fails if an answer was wrong.
    pub(super) fn finish(mut self) -> Seen {
        self.shared.finished.store(true, Ordering::SeqCst);
        let thread = self.thread.take().unwrap();
        thread.join().expect("it was not lied to")
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.shared.finished.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn blows(&self) -> MutexGuard<'_, u64> {
        self.blows.lock().unwrap()
    }

    fn watch(&self, agent: SocketAddr, truth: &Truth) -> Seen {
        let fails = Failing(&self.failed);
        let mut seen = Seen::default();
        let mut before = None;
        while !self.finished.load(Ordering::SeqCst) {
            before = self.sample(agent, truth, before, &mut seen);
            self.samples.fetch_add(1, Ordering::SeqCst);
        }
        std::mem::forget(fails);
        seen
    }

    /// Asks the agent, and reads the disk afterwards. If no damage was done meanwhile, only the agent changed
    /// anything. It never breaks a right file, so what is wrong afterwards was wrong all the time.
    ///
    /// `before` is what was seen the last time; there is no time to look before asking, or all would be repaired by
    /// then.
    fn sample(
        &self,
        agent: SocketAddr,
        truth: &Truth,
        before: Option<Look>,
        seen: &mut Seen,
    ) -> Option<Look> {
        let blows = *self.blows();
        let answer = match get(agent, QUESTION) {
            Ok(answer) => answer,
            // Killed with the test, which has failed.
            Err(_) if self.finished.load(Ordering::SeqCst) => return None,
            Err(error) => panic!("no answer: {error}"),
        };
        let lies = truth.lies();
        if *self.blows() != blows {
            seen.disturbed += 1;
            return None;
        }
        let before = before.filter(|look| look.blows == blows);
        let was_wrong = |lie| before.as_ref().is_none_or(|look| look.lies.contains(lie));
        let broken: Vec<_> = lies.iter().filter(|lie| !was_wrong(lie)).collect();
        assert!(broken.is_empty(), "the agent itself broke {broken:?}");
        let is_ready = answer.status == 200;
        if !lies.is_empty() {
            assert!(
                !is_ready,
                "it reported ready, but all the time this was wrong: {lies:?}"
            );
            seen.wrong += 1;
        } else if before.is_none_or(|look| !look.lies.is_empty()) {
            seen.repaired += 1;
        } else if answer.body.contains(TOO_SLOW) {
            seen.slow += 1;
        } else {
            assert!(
                is_ready,
                "everything was right all the time, but it answered {answer:?}"
            );
            seen.right += 1;
        }
        Some(Look { blows, lies })
    }
}

/// The state of the disk.
struct Look {
    /// After how much damage.
    blows: u64,
    /// What was wrong.
    lies: Vec<String>,
}

/// Reports a panic when it is dropped by one.
struct Failing<'a>(&'a AtomicBool);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
