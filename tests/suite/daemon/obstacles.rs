//! One file that cannot be repaired: no other file waits for it, and it is not tried again and again.

use std::fs;

use super::faults::{Immutable, TO_UNLOCK, chattr, temps};
use crate::support::agent::Agent;
use crate::support::node::{CONF, CONFLIST, Node};
use crate::support::release::{NETWORK, Release, plugin};
use crate::support::skipped;
use crate::support::without_asking::IntactNode;

/// A plugin that comes first in every list, and that the conflist does not need.
const FIRST: &str = "opt/cni/bin/bandwidth";
const OTHERS: [&str; 3] = ["opt/cni/bin/bridge", "opt/cni/bin/host-local", CONFLIST];

fn node() -> Node {
    let release = Release::new(&["bandwidth", "bridge", "host-local", "loopback"], plugin);
    let node = Node::empty();
    let source = node.mirror("plugins.tgz", &release.bytes);
    node.declare(&release.artifact(&source), NETWORK);
    node.run("install").exits(0);
    node
}

/// What keeps a plugin from being placed, until it is dropped.
enum Obstacle {
    Immutable(#[allow(dead_code, reason = "it is dropped")] Immutable),
    Directory,
}

impl Obstacle {
    fn put_at(node: &Node, is_immutable: bool) -> Option<Self> {
        let path = node.path(FIRST);
        if is_immutable {
            fs::write(&path, "theirs").unwrap();
            return Immutable::new(&path).map(Self::Immutable);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("theirs"), "").unwrap();
        Some(Self::Directory)
    }

    fn remove_from(self, node: &Node) {
        if let Self::Directory = self {
            fs::remove_dir_all(node.path(FIRST)).unwrap();
        }
    }
}

#[test]
fn a_plugin_that_cannot_be_placed_keeps_nothing_else_from_it() {
    for is_immutable in [true, false] {
        let node = node();
        let agent = Agent::without_capability(&node, TO_UNLOCK);
        agent.becomes_ready();
        let right = IntactNode::of(&node);
        let mut obstacle = None;
        agent.while_stopped(|| {
            obstacle = Obstacle::put_at(&node, is_immutable);
            for other in OTHERS {
                fs::remove_file(node.path(other)).unwrap();
            }
        });
        let Some(obstacle) = obstacle else {
            return skipped("this file system knows no immutable files");
        };
        agent.until_without_asking("the others", || OTHERS.iter().all(|other| node.has(other)));
        agent.becomes_unready("binaries: ");
        let told = agent.get("/readyz/binaries?verbose").body;
        assert!(told.contains("bandwidth"), "{told}");
        obstacle.remove_from(&node);
        agent.repairs_by_itself(&right, &node);
        agent.stop();
    }
}

/// `install` does what it can as well, and fails.
#[test]
fn an_install_that_meets_an_obstacle_places_the_others() {
    let node = node();
    let obstacle = Obstacle::put_at(&node, false).unwrap();
    for other in OTHERS {
        fs::remove_file(node.path(other)).unwrap();
    }
    node.run("install").exits(2).says("bandwidth");
    for other in OTHERS {
        assert!(node.has(other), "{other}");
    }
    obstacle.remove_from(&node);
    node.run("install").exits(0);
}

/// A foreign conflist that cannot be renamed does not protect those after it.
#[test]
fn a_rival_that_cannot_be_set_aside_does_not_keep_the_next_one() {
    let node = node();
    node.declare_more("drift: {foreignConflists: disable}\n");
    let agent = Agent::ready(&node);
    let right = IntactNode::of(&node);
    let rivals = [
        "etc/cni/net.d/00-first.conf",
        "etc/cni/net.d/01-second.conf",
    ];
    let text = br#"{"cniVersion":"1.0.0","name":"theirs","type":"bridge"}"#;
    let mut held = None;
    agent.while_stopped(|| {
        for rival in rivals {
            node.write(rival, text, 0o644);
        }
        held = Immutable::new(&node.path(rivals[0]));
    });
    let Some(held) = held else {
        return skipped("this file system knows no immutable files");
    };
    agent.until_without_asking("the second one is set aside", || !node.has(rivals[1]));
    agent.becomes_unready("precedence: ");
    drop(held);
    agent.until_without_asking("the first one is set aside", || !node.has(rivals[0]));
    agent.becomes_ready();
    assert!(right.is_intact());
    agent.stop();
}

/// Whoever asks, and however often: a repair that fails is tried after pauses, and leaves nothing behind.
#[test]
fn questions_do_not_make_a_failing_repair_more_frequent() {
    let node = node();
    let agent = Agent::without_capability(&node, TO_UNLOCK);
    agent.becomes_ready();
    let right = IntactNode::of(&node);
    let mut held = None;
    agent.while_stopped(|| held = Obstacle::put_at(&node, true));
    let Some(held) = held else {
        return skipped("this file system knows no immutable files");
    };
    agent.becomes_unready("binaries: ");
    let failed = || agent.metric("cni_keeper_repairs_total{result=\"failed\"}");
    let (before, began) = (failed(), std::time::Instant::now());
    for _ in 0..500 {
        assert!(!agent.is_ready());
    }
    let tries = failed() - before;
    // The pauses begin with half a second and double.
    let seconds = began.elapsed().as_secs_f64();
    assert!(tries <= 2.0 + seconds, "{tries} tries in {seconds} s");
    let told = agent.get("/readyz?verbose").body;
    assert!(told.contains("lsattr"), "the reason stays: {told}");
    drop(held);
    agent.repairs_by_itself(&right, &node);
    agent.stop();
}

/// In an append-only directory a temp can be made, but neither renamed nor removed.
#[test]
fn an_append_only_directory_gets_one_temp_and_no_more() {
    let node = node();
    let agent = Agent::ready(&node);
    let right = IntactNode::of(&node);
    let conf = node.path(CONF);
    let mut is_held = false;
    agent.while_stopped(|| {
        fs::write(node.path(CONFLIST), "theirs").unwrap();
        is_held = chattr("+a", &conf);
    });
    if !is_held {
        return skipped("this file system knows no append-only directories");
    }
    agent.becomes_unready("conflist: ");
    let failed = || agent.metric("cni_keeper_repairs_total{result=\"failed\"}");
    agent.until("tried again", |_| failed() >= 3.0);
    let left = temps(&node);
    chattr("-a", &conf);
    assert!(left.len() <= 1, "{left:?}");
    agent.repairs_by_itself(&right, &node);
    assert_eq!(temps(&node), Vec::<String>::new());
    agent.stop();
}

/// The pause of a fight leaves a file to the other writer. Where that one leaves nothing, it would leave the node
/// without a network: with the usual pauses the last of these rounds would take a minute.
#[test]
fn what_is_deleted_again_and_again_comes_back_soon() {
    for file in [CONFLIST, "opt/cni/bin/bridge"] {
        let node = node();
        let agent = Agent::with_spares(&node);
        for round in 0..14 {
            agent.until_without_asking(&format!("{file} in round {round}"), || node.has(file));
            fs::remove_file(node.path(file)).unwrap();
        }
        agent.until_without_asking(file, || node.has(file));
        agent.becomes_unready("conflict: ");
        agent.stop();
    }
}
