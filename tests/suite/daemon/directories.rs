//! Directories disappear: removed and made again, moved away, removed under a mount.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::agent::Agent;
use crate::support::namespace::{bind, in_private_mounts, unmount};
use crate::support::node::{BIN, CONF, CONFLIST, Node, STATE};
use crate::support::release::{PLUGINS, RELEASE, plugin};
use crate::support::tree::Tree;
use crate::support::without_asking::{IntactNode, has_spares, remove_tree};

const BRIDGE: &str = "opt/cni/bin/bridge";

/// Fails unless a change in the present directories is seen.
#[track_caller]
fn is_watched(agent: &Agent, node: &Node, right: &IntactNode) {
    for file in [BRIDGE, CONFLIST] {
        fs::remove_file(node.path(file)).unwrap();
        agent.repairs_by_itself(right, node);
    }
}

/// Fault 24: a package upgrade removes `/opt/cni/bin` and makes it again.
#[test]
fn fault_24_the_bin_directory_is_removed_and_made_again() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    for _ in 0..3 {
        remove_tree(&node.path(BIN));
        // The agent may have made it again already.
        let _ = fs::create_dir(node.path(BIN));
        agent.repairs_by_itself(&right, &node);
    }
    is_watched(&agent, &node, &right);
    agent.stop();
}

/// Fault 24: only the agent makes the directories again.
#[test]
fn fault_24_directories_that_stay_away() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    for dir in [BIN, CONF, "etc/cni", "etc"] {
        // At once, for the agent.
        agent.while_stopped(|| {
            fs::remove_dir_all(node.path(dir)).unwrap();
        });
        agent.repairs_by_itself(&right, &node);
        is_watched(&agent, &node, &right);
    }
    let drifts = agent.drift();
    let gone = drifts.iter().filter(|drift| drift["kind"] == "dir-missing");
    let paths: Vec<&str> = gone.map(|drift| drift["path"].as_str().unwrap()).collect();
    let (bin, conf) = (node.shown(BIN), node.shown(CONF));
    // An observation at the moment of the removal saw the files disappear instead.
    assert!(paths.contains(&&*conf), "{paths:?}");
    assert!(
        paths.iter().all(|path| [&*conf, &*bin].contains(path)),
        "{paths:?}"
    );
    assert_eq!(
        agent.metric("cni_keeper_downloads_total{result=\"ok\",reason=\"\"}"),
        0.0
    );
    agent.stop();
}

/// Fault 24: a directory is moved away and another one is made; the moved one is not touched any more.
#[test]
fn fault_24_directories_that_are_moved_away() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    for dir in [BIN, CONF] {
        let aside = node.config().with_file_name("aside");
        fs::rename(node.path(dir), &aside).unwrap();
        agent.until_without_asking("made again", || node.has(BRIDGE) && node.has(CONFLIST));
        agent.becomes_ready();
        let moved = Tree::of(&aside, |_| false);
        remove_tree(&node.path(dir));
        agent.until_without_asking("made again", || node.has(BRIDGE) && node.has(CONFLIST));
        agent.becomes_ready();
        assert_eq!(moved, Tree::of(&aside, |_| false));
        fs::remove_dir_all(&aside).unwrap();
    }
    is_watched(&agent, &node, &right);
    agent.stop();
}

/// Fault 24: with `/opt/cni` all copies and the ledger are gone; the source has the plugins.
#[test]
fn fault_24_the_state_directory_goes_as_well() {
    let node = Node::declared();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    for _ in 0..2 {
        remove_tree(&node.path("opt"));
        agent.repairs_by_itself(&right, &node);
        is_watched(&agent, &node, &right);
    }
    // It holds the lock of the new directory.
    let reported = format!("process {} holds it", agent.id());
    node.run("install").exits(2).says(&reported);
    agent.stop();
    node.run("verify").exits(0);
    node.run("uninstall").exits(0);
    assert!(!node.has(CONFLIST) && !node.has(BRIDGE), "the ledger knew");
}

/// Fault 24: if the source is gone too, the agent lives, says what is missing, and goes on when the source is back.
#[test]
fn fault_24_nothing_is_left_of_it_anywhere() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    remove_tree(&node.path("opt"));
    let bin = node.shown(BIN);
    // Also in the short form, which may be a condition's message: what is wrong, and why it is not repaired.
    agent.becomes_unready(&format!(
        "binaries: {bin} does not exist, so its 3 plugins are missing; cannot fetch cni-plugins: "
    ));
    agent.becomes_unready("plugins.tgz");
    assert_eq!(agent.get("/livez").status, 200);
    assert!(!agent.is_ready());
    fs::create_dir(node.config().with_file_name("mirror")).unwrap();
    node.mirror("plugins.tgz", &RELEASE.bytes);
    agent.repairs_by_itself(&right, &node);
    agent.stop();
}

/// Fault 24: only the agent's own directory is removed. What is in place stays right and ready, and no source is
/// needed: the agent knows what it placed, and makes its copies anew.
#[test]
fn fault_24_only_the_state_directory_goes() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    let ways: [(&str, &dyn Fn()); 4] = [
        ("removed", &|| remove_tree(&node.path(STATE))),
        ("moved away", &|| {
            fs::rename(node.path(STATE), node.config().with_file_name("aside")).unwrap();
        }),
        ("emptied", &|| {
            for entry in fs::read_dir(node.path(STATE)).unwrap() {
                let path = entry.unwrap().path();
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
        }),
        ("without its lock", &|| {
            fs::remove_file(node.path(STATE).join("lock")).unwrap();
        }),
    ];
    for (way, remove) in ways {
        remove();
        assert!(
            agent.is_ready(),
            "{way}: {}",
            agent.get("/readyz?verbose").body
        );
        agent.until(way, |_| has_spares(&node));
        let reported = format!("process {} holds it", agent.id());
        node.run("install").exits(2).says(&reported);
        is_watched(&agent, &node, &right);
    }
    assert_eq!(
        agent.metric("cni_keeper_downloads_total{result=\"ok\",reason=\"\"}"),
        0.0
    );
    agent.stop();
    fs::remove_dir_all(node.config().with_file_name("aside")).unwrap();
    node.run("verify").exits(0);
}

/// Fault 24: an upgrade exchanges a link in the path of both directories in two steps, as k3s and snapd do, forty times.
/// The agent makes no directory where the link belongs, and each new directory gets what is declared.
#[test]
fn fault_24_a_link_is_exchanged_in_two_steps() {
    let node = Node::empty();
    node.declare_release();
    // The link is the directory itself, or leads to what it is in.
    for dir in [BIN, "etc/cni"] {
        fs::create_dir_all(node.path("data/first").join(dir)).unwrap();
        fs::create_dir_all(node.path(dir).parent().unwrap()).unwrap();
        symlink(format!("/data/first/{dir}"), node.path(dir)).unwrap();
    }
    let agent = Agent::with_spares(&node);
    node.remove_mirror();
    for round in 0..40 {
        for dir in [BIN, "etc/cni"] {
            let current = node.path(dir);
            let previous = current.with_extension("previous");
            let new = format!("data/{round}/{dir}");
            fs::create_dir_all(node.path(&new)).unwrap();
            let _ = fs::remove_file(&previous);
            fs::rename(&current, &previous).unwrap();
            // Every third time, the agent has looked at the disk in between.
            if round % 3 == 0 {
                agent.becomes_unready(&format!("{} was a link to ", node.shown(dir)));
            }
            if let Err(error) = symlink(format!("/{new}"), &current) {
                agent.fail(&format!("round {round}: {dir}: {error}"));
            }
        }
        agent.until_without_asking("the new directories have everything", || {
            let new = node.path("data").join(round.to_string());
            let bin = new.join(BIN);
            PLUGINS.iter().all(|name| bin.join(name).exists()) && new.join(CONFLIST).exists()
        });
    }
    agent.becomes_ready();
    agent.stop();
}

/// Fault 24: a link is missing for long. Nothing is made in its place, the node is not ready and says why, and whoever
/// puts a directory there decides that it is one.
#[test]
fn fault_24_a_link_stays_away() {
    let node = Node::empty();
    node.declare_release();
    fs::create_dir_all(node.path("data/v1")).unwrap();
    fs::create_dir_all(node.path("opt/cni")).unwrap();
    symlink("/data/v1", node.path(BIN)).unwrap();
    let agent = Agent::with_spares(&node);
    fs::remove_file(node.path(BIN)).unwrap();
    let reported = format!(
        "{} was a link to /data/v1 and is missing; cni-keeper waits for it and makes no directory in its place",
        node.shown(BIN)
    );
    agent.becomes_unready(&reported);
    assert!(!node.has(BIN));
    assert!(agent.json("/status").to_string().contains(&reported));
    assert!(!agent.log().contains(&reported), "only after half a minute");
    fs::create_dir(node.path(BIN)).unwrap();
    agent.becomes_ready();
    // It is a plain directory now, so it is made again where it is missing.
    remove_tree(&node.path(BIN));
    agent.until_without_asking("made again", || node.has(BRIDGE));
    agent.stop();
}

/// A node whose `dir` is a mount of a directory elsewhere on the machine, as a DaemonSet has it.
fn mounted(base: &Path, dir: &str) -> (Node, std::path::PathBuf) {
    let node = Node::within(base);
    let host = base.join("machine");
    fs::create_dir_all(host.join("bin")).unwrap();
    fs::create_dir_all(node.path(dir)).unwrap();
    (node, host)
}

/// Fault 24: through a mounted parent directory the new directory is seen.
#[test]
fn fault_24_through_a_parent_mount() {
    in_private_mounts(&fault_24_through_a_parent_mount, |base| {
        let (node, host) = mounted(base, "opt/cni");
        bind(&host, &node.path("opt/cni"));
        node.declare_release();
        let agent = Agent::with_spares(&node);
        let right = IntactNode::of(&node);
        node.remove_mirror();
        remove_tree(&host.join("bin"));
        agent.repairs_by_itself(&right, &node);
        assert_eq!(fs::read(host.join("bin/bridge")).unwrap(), plugin("bridge"));
        is_watched(&agent, &node, &right);
        agent.stop();
    });
}

/// Fault 24: a mounted directory that is removed on the host is gone for good, whoever makes a new one in its place. The
/// agent says so in one line and ends, so that it is started again with a new mount. That repairs the node.
#[test]
fn fault_24_a_dead_mount() {
    in_private_mounts(&fault_24_a_dead_mount, |base| {
        for (number, dir) in [BIN, "opt/cni", STATE, CONF, "etc/cni", "run/peer"]
            .into_iter()
            .enumerate()
        {
            let base = base.join(number.to_string());
            fs::create_dir(&base).unwrap();
            let (node, host) = mounted(&base, dir);
            bind(&host, &node.path(dir));
            node.write("run/peer/env", b"MTU=1450\n", 0o644);
            node.declare_release();
            let text = fs::read_to_string(node.config()).unwrap();
            let fact = "network:\n  facts: [{envFile: /run/peer/env}]\n";
            node.redeclare(&text.replacen("network:\n", fact, 1));
            let agent = Agent::ready(&node);
            agent.while_stopped(|| {
                fs::remove_dir_all(&host).unwrap();
                fs::create_dir(&host).unwrap();
            });
            let (code, log) = agent.ends();
            assert_eq!(code, Some(2), "{dir}\n{log}");
            let reported = format!(
                "the agent ends, to be started again: cannot use {}: it was removed on the host",
                node.shown(dir)
            );
            let reports = log.lines().filter(|line| line.contains("was removed on"));
            let reports: Vec<&str> = reports.collect();
            assert!(
                reports.len() == 1 && reports[0].contains(&reported),
                "{dir}: {reported}\n{log}"
            );
            // A command says the same.
            let cannot_use = format!("cannot use {}", node.shown(dir));
            if dir != "run/peer" {
                node.run("install").exits(2).says(&cannot_use);
                node.run("verify").exits(2).says(&cannot_use);
                node.run("uninstall").exits(2).says(&cannot_use);
            }
            unmount(&node.path(dir));
            bind(&host, &node.path(dir));
            node.write("run/peer/env", b"MTU=1450\n", 0o644);
            Agent::ready(&node).stop();
        }
    });
}
