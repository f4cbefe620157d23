//! Changes that are no drift cost nothing: no work, no write, no loss of readiness.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use super::{BRIDGE, drifts, node};
use crate::support::agent::Agent;
use crate::support::node::{CONFLIST, Node};
use crate::support::release::plugin;

/// The agent does nothing by itself if this many requests in a row each cost one observation. An agent that is woken by
/// its own writes observes all the time.
const QUIET: u64 = 20;

/// Waits until the agent observes only because of requests.
fn settles(agent: &Agent) {
    agent.until("quiet", |agent| {
        let before = agent.passes();
        (1..=QUIET).all(|looks| agent.passes() == before + looks)
    });
}

/// Fault 28: what the agent itself writes, at the start and to repair, wakes it at most once.
#[test]
fn fault_28_its_own_writes_do_not_keep_it_busy() {
    let node = Node::declared();
    let agent = Agent::ready(&node);
    settles(&agent);
    for file in [BRIDGE, CONFLIST] {
        fs::remove_file(node.path(file)).unwrap();
        agent.becomes_ready();
        settles(&agent);
    }
    assert_eq!(drifts(&agent).len(), 2, "nothing was repaired twice");
    // Placing a file for the first time is no repair.
    let log = agent.stop();
    assert_eq!(log.matches("healed: ").count(), 2, "{log}");
}

/// Fault 35: a hundred writes beside our files, each followed by a request to `/readyz`.
#[test]
fn fault_35_unrelated_files_cost_nothing() {
    let node = node();
    // The spares are made by now.
    let agent = Agent::ready(&node);
    settles(&agent);
    let right = node.whole_tree();
    let before = agent.passes();
    let files = [
        "opt/cni/bin/cilium-cni",
        "opt/cni/bin/.tmp-cilium-cni",
        "etc/cni/net.d/README",
        "etc/cni/net.d/calico-kubeconfig",
    ];
    for write in 0..100_u32 {
        for file in files {
            node.write(file, &write.to_le_bytes(), 0o600);
        }
        let answer = agent.get("/readyz");
        assert_eq!(answer.status, 200, "write {write}: {answer:?}");
    }
    assert_eq!(
        agent.passes(),
        before + 101,
        "it looks because it is asked, never because of them"
    );
    // A file that the runtimes read as well is observed, and nothing else happens.
    for write in 0..100_u32 {
        node.write("etc/cni/net.d/99-other.conf", &write.to_le_bytes(), 0o640);
        assert!(agent.is_ready(), "write {write}");
    }
    let changed = right.changes(&node.whole_tree());
    let others = |path: &&String| files.contains(&path.as_str()) || path.ends_with("99-other.conf");
    assert_eq!(changed.iter().find(|path| !others(path)), None);
    assert_eq!(drifts(&agent).len(), 0);
    agent.stop();
}

/// Fault 33: a file is written as `cp` does it: emptied, filled little by little, closed. Whenever the agent observes
/// it in between, there is one repair, and the writer goes on writing into a file that has no name any more.
#[test]
fn fault_33_a_slow_rewrite_in_place_is_one_heal() {
    for file in [BRIDGE, CONFLIST] {
        for asked_in_between in [false, true] {
            let node = node();
            let right = node.tree();
            let agent = Agent::ready(&node);
            let mut options = OpenOptions::new();
            options.write(true).truncate(true);
            let mut writer = options.open(node.path(file)).unwrap();
            if asked_in_between {
                agent.becomes_ready();
            }
            for chunk in plugin("host-local").chunks(1 << 20) {
                writer.write_all(chunk).unwrap();
            }
            drop(writer);
            agent.becomes_ready();
            settles(&agent);
            assert!(right.has_same_content(&node.tree()));
            let reported = super::only_drift(&agent);
            assert_eq!((&*reported.kind, &*reported.outcome), ("content", "healed"));
            agent.stop();
        }
    }
}
