//! Samples the disk and the agent's answers, as fast as it can, and compares them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use super::truth::Truth;
use crate::support::agent::get;

/// What does not count here. A conflict has its own tests and would hide every lie about files; that the machine
/// was too slow for an answer in time (`look`) is told as such and is no lie.
const QUESTION: &str = "/readyz?exclude=conflict";
const TOO_SLOW: &str = "[-]look failed";

/// A thread that watches the agent; fails the test if it was lied to.
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

/// What there was to see between two blows.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Something was wrong all the while, and the agent said so.
    pub(super) wrong: u32,
    /// Everything was right all the while, and the agent said so.
    pub(super) right: u32,
    /// It was mended between question and answer, so that either answer is true.
    pub(super) mended: u32,
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

    /// Does damage while the observer knows of it.
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

    /// Ends the watch, and fails if there was a lie.
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
        while !self.finished.load(Ordering::SeqCst) {
            self.sample(agent, truth, &mut seen);
            self.samples.fetch_add(1, Ordering::SeqCst);
        }
        std::mem::forget(fails);
        seen
    }

    /// Asks once. If no damage was done meanwhile, only the agent changed anything, and it never breaks what is right:
    /// what is wrong afterwards was wrong all the while.
    fn sample(&self, agent: SocketAddr, truth: &Truth, seen: &mut Seen) {
        let blows = *self.blows();
        let before = truth.lies();
        let answer = match get(agent, QUESTION) {
            Ok(answer) => answer,
            // Killed with the test that has failed, or has it ended by itself? The test will tell.
            Err(_) if self.finished.load(Ordering::SeqCst) => return,
            Err(error) => panic!("no answer: {error}"),
        };
        let after = truth.lies();
        if *self.blows() != blows {
            seen.disturbed += 1;
            return;
        }
        let broken: Vec<_> = after.iter().filter(|it| !before.contains(it)).collect();
        assert!(broken.is_empty(), "the agent itself broke {broken:?}");
        let ready = answer.status == 200;
        let too_slow = answer.body.contains(TOO_SLOW);
        match (before.is_empty(), after.is_empty()) {
            (_, false) => {
                assert!(
                    !ready,
                    "it said ready, and all the while this was wrong: {after:?}"
                );
                seen.wrong += 1;
            }
            (true, true) if too_slow => seen.slow += 1,
            (true, true) => {
                assert!(
                    ready,
                    "nothing was wrong all the while, and it said {answer:?}"
                );
                seen.right += 1;
            }
            (false, true) => seen.mended += 1,
        }
    }
}

/// Says so when it is dropped by a panic.
struct Failing<'a>(&'a AtomicBool);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
