//! Another writer that undoes every repair.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use cni_keeper::model::Sha256;
use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::node::{CONFLIST, Node};
use crate::support::release::{other_build, plugin};
use crate::support::without_asking::IntactNode;

const BRIDGE: &str = "opt/cni/bin/bridge";
const THEIRS: &[u8] = br#"{"cniVersion":"1.0.0","name":"theirs","plugins":[{"type":"bridge"}]}"#;

/// Another program that puts its own file in place of ours, again and again. It stops when dropped.
struct OtherWriter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl OtherWriter {
    fn at(path: &Path, content: &[u8], owner: Option<u32>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (path, content, reported) = (path.to_owned(), content.to_vec(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut writes = 0;
            let new = path.with_extension("theirs");
            while !reported.load(Ordering::Relaxed) {
                if fs::read(&path).ok().as_ref() != Some(&content) {
                    fs::write(&new, &content).unwrap();
                    if owner.is_some() {
                        chown(&new, owner, owner).unwrap();
                    }
                    fs::rename(&new, &path).unwrap();
                    writes += 1;
                }
                thread::yield_now();
            }
            writes
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Ends it, and returns how often it wrote.
    fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for OtherWriter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The drifts of a file in the log, newest first.
fn drifts(agent: &Agent, path: &str) -> Vec<Value> {
    let mut drifts = agent.drift();
    drifts.retain(|drift| drift["path"] == path);
    drifts
}

/// Fault 29: a writer that keeps undoing a repair is named with the file, and the repairs become rarer. No other file
/// waits for that. When the writer stops, the node becomes right by itself.
#[test]
fn fault_29_a_fight_over_the_conflist() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    let ours = Sha256::of(&node.read(CONFLIST));
    let path = node.shown(CONFLIST);
    let other = OtherWriter::at(&node.path(CONFLIST), THEIRS, None);
    let reported = format!(
        "keeps undoing what cni-keeper (pid {}) does to {path}",
        agent.id()
    );
    agent.until("named", |agent| {
        let answer = agent.get("/readyz/conflict");
        answer.status == 503 && answer.body.contains(&reported)
    });
    let named = agent.get("/readyz/conflict").body;
    assert!(
        named.starts_with("conflict: another writer (uid "),
        "{named}"
    );
    assert_eq!(agent.metric("cni_keeper_conflist_conflicts_total"), 1.0);

    // Both digests are reported, and that the repair waits.
    let fought = drifts(&agent, &path);
    let theirs = format!("sha256 {}", Sha256::of(THEIRS).short());
    let healed = fought
        .iter()
        .find(|drift| drift["kind"] == "content" && drift["outcome"]["state"] == "healed")
        .unwrap();
    assert_eq!(healed["before"], theirs, "{healed:#}");
    assert_eq!(
        healed["after"],
        format!("sha256 {}", ours.short()),
        "{healed:#}"
    );
    assert!(fought[0]["times"].as_u64().unwrap() >= 5, "{:#}", fought[0]);
    let waits = |agent: &Agent| {
        let newest = drifts(agent, &path).remove(0);
        let waiting = newest["outcome"]["waiting"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        waiting.starts_with("another writer keeps undoing the repair; the next one is in ")
    };
    agent.until("waiting", waits);

    // Another file is repaired between two repairs of this one.
    let healed_before = |agent: &Agent| drifts(agent, &path).len();
    agent.find("repaired meanwhile", |agent| {
        let before = healed_before(agent);
        fs::remove_file(node.path(BRIDGE)).unwrap();
        agent.until_without_asking("repaired", || node.has(BRIDGE));
        (healed_before(agent) == before).then_some(())
    });

    let writes = other.stop();
    // 20 ms, 40 ms, 80 ms …: fifteen doublings are eleven minutes.
    assert!((5..15).contains(&writes), "{writes} repairs were undone");
    agent.until_without_asking("repaired for good", || right.is_intact());
    assert!(
        agent.get("/readyz/conflict").status == 503,
        "it could go on at any moment"
    );
    agent.stop();
}

/// Fault 29: a fight over a plugin names its writer by the owner of the file; it ends when a repair has lasted.
#[test]
fn fault_29_a_fight_over_a_plugin_ends_after_some_quiet() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    let other = OtherWriter::at(&node.path(BRIDGE), &other_build("bridge"), Some(1234));
    let reported = format!(
        "another writer (uid 1234) keeps undoing what cni-keeper (pid {}) does to {}; find it and stop one of the two; \
         /drift shows what it does",
        agent.id(),
        node.shown(BRIDGE)
    );
    agent.until("named", |agent| {
        agent.get("/readyz?verbose").body.contains(&reported)
    });
    other.stop();
    agent.until_without_asking("repaired for good", || right.is_intact());
    assert_eq!(node.read(BRIDGE), plugin("bridge"));
    agent.becomes_ready();
    assert!(
        agent
            .get("/readyz?verbose")
            .body
            .contains("[+]conflict ok\n")
    );
    agent.stop();
}
