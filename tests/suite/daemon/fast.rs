//! Fault 36: another writer is as fast as the agent.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{BRIDGE, drifts, node};
use crate::support::agent::Agent;
use crate::support::node::CONFLIST;

/// How many questions are asked while the file is deleted again and again.
const QUESTIONS: u32 = 40;

/// A file that is deleted as soon as it is there: the agent is never ready while it is missing, and repairs it at last.
fn outlives_a_delete_loop(file: &str) {
    let node = node();
    let right = node.tree();
    let agent = Agent::ready(&node);
    let path = node.path(file);
    let (over, deleted) = (AtomicBool::new(false), Mutex::new(0));
    let look = || {
        let deleted = deleted.lock().unwrap();
        (*deleted, path.exists())
    };
    let mut missing_throughout = 0;
    thread::scope(|scope| {
        // Also if an assertion fails; otherwise the scope would wait for ever.
        let ends = Ends(&over);
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                if path.exists() {
                    let mut deleted = deleted.lock().unwrap();
                    fs::remove_file(&path).unwrap();
                    *deleted += 1;
                }
            }
        });
        for _ in 0..QUESTIONS {
            let before = look();
            let answer = agent.get("/readyz?exclude=conflict");
            let after = look();
            // It was gone before and is gone afterwards, and nobody took it away in between: it was never there.
            if before == after && !after.1 {
                assert_eq!(answer.status, 503, "it is missing: {answer:?}");
                missing_throughout += 1;
            }
        }
        drop(ends);
    });
    assert!(missing_throughout > 0, "there was nothing to lie about");
    agent.until("repaired after the loop", |agent| {
        agent.get("/readyz?exclude=conflict").status == 200
    });
    assert!(right.has_same_content(&node.tree()));
    let reported = drifts(&agent);
    assert!(
        reported
            .iter()
            .all(|drift| drift.kind == "missing" && drift.outcome == "healed")
    );
    // Each try costs twice the patience of the one before: there are few.
    let repairs = deleted.into_inner().unwrap();
    assert_eq!(reported.len() as u64, repairs);
    assert!((2..20).contains(&repairs), "{repairs} repairs");
    assert_eq!(reported[0].times, repairs, "{:?}", reported[0]);
    agent.stop();
}

/// Ends the deletions when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn fault_36_a_plugin_deleted_again_and_again() {
    outlives_a_delete_loop(BRIDGE);
}

#[test]
fn fault_36_a_conflist_deleted_again_and_again() {
    outlives_a_delete_loop(CONFLIST);
}
