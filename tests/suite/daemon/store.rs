//! Spare copies that are damaged or missing: a repair uses an intact copy or none.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::agent::Agent;
use crate::support::node::{CONFLIST, Node};
use crate::support::release::{NETWORK, PLUGINS, RELEASE, plugin};
use crate::support::without_asking::{IntactNode, has_spares, spare_path};

const BRIDGE: &str = "opt/cni/bin/bridge";
const DIRS: [&str; 2] = ["store", "spare"];

/// Writes other bytes over the first ones; the size stays.
fn corrupt(path: &PathBuf) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(b"corrupt").unwrap();
}

/// Waits until there are two intact copies of every plugin.
#[track_caller]
fn restocks(agent: &Agent, node: &Node) {
    agent.until_without_asking("two copies of each plugin", || has_spares(node));
}

/// Runs `body` while a thread reads a plugin all the time; fails if it ever had other bytes.
fn never_wrong(node: &Node, body: impl FnOnce()) {
    let stop = Arc::new(AtomicBool::new(false));
    let (path, reported) = (node.path(BRIDGE), Arc::clone(&stop));
    let right = plugin("bridge");
    let observer = thread::spawn(move || {
        let mut seen = 0_u32;
        while !reported.load(Ordering::Relaxed) {
            // A plugin is executable from the moment it has its name.
            let state = fs::metadata(&path).map(|metadata| metadata.mode() & 0o777);
            assert!(state.is_err() || state.is_ok_and(|mode| mode == 0o755));
            if let Ok(bytes) = fs::read(&path) {
                assert!(bytes == right, "wrong bytes were visible");
                seen += 1;
            }
        }
        seen
    });
    body();
    stop.store(true, Ordering::Relaxed);
    assert!(observer.join().unwrap() > 0);
}

/// One of the copies is damaged in place: a lost plugin is repaired nevertheless, wrong bytes are never visible, and
/// afterwards there are two intact copies again.
#[test]
fn one_copy_is_damaged() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    never_wrong(&node, || {
        for dir in DIRS {
            for _ in 0..3 {
                corrupt(&spare_path(&node, dir, &plugin("bridge")));
                fs::remove_file(node.path(BRIDGE)).unwrap();
                agent.repairs_by_itself(&right, &node);
                restocks(&agent, &node);
            }
        }
    });
    assert!(
        agent
            .get("/metrics")
            .body
            .contains("cni_keeper_downloads_total{result=\"ok\",reason=\"\"} 0\n")
    );
    agent.stop();
}

/// A copy that is damaged while nothing is to be repaired is found and replaced at the next full reading.
#[test]
fn a_damaged_spare_is_found_by_the_resync() {
    let node = Node::installed();
    node.declare_more("drift: {resync: 1s}\n");
    let agent = Agent::with_spares(&node);
    restocks(&agent, &node);
    corrupt(&spare_path(&node, "spare", &plugin("bridge")));
    restocks(&agent, &node);
    fs::remove_file(spare_path(&node, "store", &plugin("bridge"))).unwrap();
    restocks(&agent, &node);
    agent.stop();
}

/// Both copies are damaged, and the source is gone: nothing wrong is placed, the reason is reported, and the agent
/// lives. When the source is back, everything is repaired.
#[test]
fn both_copies_are_damaged() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    never_wrong(&node, || {
        agent.while_stopped(|| {
            for dir in DIRS {
                corrupt(&spare_path(&node, dir, &plugin("bridge")));
            }
            fs::remove_file(node.path(BRIDGE)).unwrap();
        });
        agent.becomes_unready("bridge is missing");
        agent.until("reported", |agent| {
            agent.get("/readyz?verbose").body.contains("plugins.tgz")
        });
        assert!(!node.has(BRIDGE));
        // The other files are repaired as before.
        for file in ["opt/cni/bin/loopback", "opt/cni/bin/host-local"] {
            fs::remove_file(node.path(file)).unwrap();
            agent.until_without_asking("repaired", || node.has(file));
        }
        comes_back(&node);
        agent.repairs_by_itself(&right, &node);
    });
    restocks(&agent, &node);
    agent.stop();
}

/// One file under two names, downloaded again by `install`: the first name takes the copy that was just proven, and
/// what is left for the second is a damaged one of long ago.
#[test]
fn a_damaged_copy_beside_a_proven_one() {
    let node = Node::empty();
    let mut artifact = RELEASE.artifact(&node.mirror("plugins.tgz", &RELEASE.bytes));
    artifact.plugins = "[{member: bridge, as: another}, bridge, host-local, loopback]".to_owned();
    node.declare(&artifact, NETWORK);
    Agent::with_spares(&node).stop();
    corrupt(&spare_path(&node, "spare", &plugin("bridge")));
    fs::remove_file(spare_path(&node, "store", &plugin("bridge"))).unwrap();
    for dir in DIRS {
        fs::remove_file(spare_path(&node, dir, &plugin("loopback"))).unwrap();
    }
    for name in ["another", "bridge", "loopback"] {
        fs::remove_file(node.path("opt/cni/bin").join(name)).unwrap();
    }
    node.run("install").exits(0).says("downloaded");
    for name in ["another", "bridge"] {
        let bytes = fs::read(node.path("opt/cni/bin").join(name)).unwrap();
        assert!(bytes == plugin("bridge"), "wrong bytes in {name}");
    }
}

/// All copies and every source are gone: a lost plugin is reported with the reason, and the agent lives. When the
/// source is back, the plugin is repaired.
#[test]
fn nothing_to_repair_with() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    agent.while_stopped(|| {
        for (dir, name) in PLUGINS.iter().flat_map(|name| DIRS.map(|dir| (dir, name))) {
            fs::remove_file(spare_path(&node, dir, &plugin(name))).unwrap();
        }
        fs::remove_file(node.path(BRIDGE)).unwrap();
    });
    agent.becomes_unready("bridge is missing");
    agent.until("reported", |agent| {
        agent.get("/readyz?verbose").body.contains("plugins.tgz")
    });
    assert_eq!(agent.get("/livez").status, 200);
    assert!(!node.has(BRIDGE) && node.has(CONFLIST));
    comes_back(&node);
    agent.repairs_by_itself(&right, &node);
    restocks(&agent, &node);
    agent.stop();
}

/// Puts the mirror back.
fn comes_back(node: &Node) {
    fs::create_dir(node.config().with_file_name("mirror")).unwrap();
    node.mirror("plugins.tgz", &RELEASE.bytes);
}
