//! Every input has its own fate: what is wrong with one keeps nothing else from being healed, and is told where it belongs.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use serde_json::Value;

use super::BRIDGE;
use crate::support::agent::Agent;
use crate::support::node::{BIN, CONF, CONFLIST, Node};
use crate::support::release::{NETWORK, RELEASE};
use crate::support::without_asking::IntactNode;

const FACTS: &str = "run/facts.env";

/// Puts something at a path at which nothing is.
type Make = fn(&Path);

/// What can stand in the place of an envFile, and a part of the line that tells it.
const BROKEN_FILES: [(Make, &str); 6] = [
    (|path| fs::create_dir(path).unwrap(), "it is a directory"),
    (
        |path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap(),
        "it is a device, socket or FIFO",
    ),
    (
        |path| drop(UnixListener::bind(path).unwrap()),
        "it is a device, socket or FIFO",
    ),
    (
        |path| symlink(path.file_name().unwrap(), path).unwrap(),
        "Too many symbolic links",
    ),
    (
        |path| symlink("facts.env/below", path).unwrap(),
        "Too many symbolic links",
    ),
    (
        |path| fs::write(path, vec![b'#'; (64 << 10) + 1]).unwrap(),
        "it is larger than the 65536 bytes allowed",
    ),
];

/// What somebody else does to the node at the same moment.
const DAMAGES: [fn(&Node); 3] = [
    |node| fs::remove_file(node.path(BRIDGE)).unwrap(),
    |node| fs::remove_file(node.path(CONFLIST)).unwrap(),
    |node| {
        fs::remove_file(node.path(BRIDGE)).unwrap();
        fs::remove_file(node.path(CONFLIST)).unwrap();
    },
];

/// A node whose bridge has the MTU of the envFile, which overrides another one.
fn node() -> Node {
    let node = Node::empty();
    let source = node.mirror("plugins.tgz", &RELEASE.bytes);
    let facts = format!("network:\n  facts: [{{values: {{MTU: 1280}}}}, {{envFile: /{FACTS}}}]\n");
    let network = NETWORK.replace("network:\n", &facts);
    let network = network.replace("bridge: cni0", "bridge: cni0\n        mtu: ${MTU}");
    node.declare(&RELEASE.artifact(&source), &network);
    node.write(FACTS, b"MTU=1450\n", 0o644);
    node.run("install").exits(0);
    node.remove_mirror();
    node
}

/// Puts something else in the place of a path, in one step.
fn replace(node: &Node, inside: &str, make: Make) {
    let (path, new) = (node.path(inside), node.path("new"));
    fs::create_dir_all(&new).unwrap();
    let new = new.join(path.file_name().unwrap());
    make(&new);
    exchange(&new, &path);
}

/// Takes back what [`replace`] did.
fn restore(node: &Node, inside: &str) {
    let path = node.path(inside);
    let dir = node.path("new");
    exchange(&dir.join(path.file_name().unwrap()), &path);
    fs::remove_dir_all(dir).unwrap();
}

fn exchange(one: &Path, other: &Path) {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).unwrap();
}

/// The failures of a check.
fn failures(agent: &Agent, check: &str) -> Vec<String> {
    let status = agent.json("/status");
    let checks = status["checks"].as_array().unwrap();
    let check = checks.iter().find(|one| one["name"] == check).unwrap();
    let failures = check["failures"].as_array().unwrap();
    let text = |failure: &Value| failure.as_str().unwrap().to_owned();
    failures.iter().map(text).collect()
}

/// The agent heals everything, and the file stays told under the conflist until it is right again.
#[test]
fn a_broken_env_file_keeps_nothing_from_being_mended() {
    let node = node();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    for (make, told) in BROKEN_FILES {
        for damage in DAMAGES {
            agent.while_stopped(|| {
                replace(&node, FACTS, make);
                damage(&node);
            });
            agent.until_without_asking(told, || right.is_intact());
            agent.becomes_unready("conflist: network.facts: ");
            let [failure] = &failures(&agent, "conflist")[..] else {
                agent.fail(told);
            };
            for part in [
                told,
                &node.shown(FACTS),
                "a readable file of at most 64 KiB",
            ] {
                assert!(failure.contains(part), "{failure}");
            }
            assert_eq!(failures(&agent, "binaries"), Vec::<String>::new());
            assert!(right.is_intact(), "{told}");
            agent.while_stopped(|| restore(&node, FACTS));
            agent.repairs_by_itself(&right, &node);
        }
    }
    agent.stop();
}

/// A process that has never read the file does not take the values that the file overrides: what is in force stays.
#[test]
fn an_agent_that_starts_with_a_broken_env_file_mends_the_plugins() {
    let node = node();
    let right = IntactNode::of(&node);
    for (make, told) in BROKEN_FILES {
        replace(&node, FACTS, make);
        fs::remove_file(node.path(BRIDGE)).unwrap();
        node.run("install")
            .exits(2)
            .says(told)
            .says("conflist: network.facts: ");
        assert!(right.is_intact(), "install: {told}");
        node.run("verify")
            .exits(1)
            .says("conflist")
            .does_not_say("binaries: ");

        fs::remove_file(node.path(BRIDGE)).unwrap();
        let agent = Agent::start(&node);
        agent.until_without_asking(told, || right.is_intact());
        agent.becomes_unready("conflist: network.facts: ");
        assert!(right.is_intact(), "run: {told}");
        restore(&node, FACTS);
        agent.repairs_by_itself(&right, &node);
        agent.stop();
    }
}

/// A value that does not fit is an input as well: no plugin waits until it is corrected.
#[test]
fn an_env_file_with_a_wrong_value_keeps_no_plugin_from_being_mended() {
    let node = node();
    let right = IntactNode::of(&node);
    node.write(FACTS, b"MTU=large\n", 0o644);
    fs::remove_file(node.path(BRIDGE)).unwrap();
    node.run("install")
        .exits(2)
        .says("the fact 'MTU' is not what is wanted here");
    assert!(right.is_intact());
    node.write(FACTS, b"MTU=1450\n", 0o644);
    node.run("install").exits(0);
}

/// Directories that are none. The plugins are healed without the configuration directory, and each fault is told in the
/// check of its directory.
#[test]
fn a_file_in_the_place_of_one_directory_keeps_the_other_from_nothing() {
    let damages: [fn(&Path); 2] = [
        |path| fs::write(path, "no directory").unwrap(),
        |path| symlink(path.file_name().unwrap(), path).unwrap(),
    ];
    let node = node();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    for make in damages {
        for is_running in [true, false] {
            let deed = || {
                replace(&node, CONF, make);
                fs::remove_file(node.path(BRIDGE)).unwrap();
            };
            match is_running {
                true => agent.while_stopped(deed),
                false => deed(),
            }
            agent.until_without_asking("the plugin", || node.has(BRIDGE));
            agent.becomes_unready("conflist: ");
            let told = failures(&agent, "conflist");
            assert!(told[0].contains(&node.shown(CONF)), "{told:?}");
            assert_eq!(failures(&agent, "binaries"), Vec::<String>::new());
            restore(&node, CONF);
            agent.repairs_by_itself(&right, &node);

            // Without plugins no conflist is written; the one in place stays, and its mode is set right when they are back.
            agent.while_stopped(|| replace(&node, BIN, make));
            agent.becomes_unready("binaries: ");
            let told = failures(&agent, "binaries");
            assert!(
                told.len() == 1 && told[0].contains(&node.shown(BIN)),
                "{told:?}"
            );
            assert!(node.has(CONFLIST));
            restore(&node, BIN);
            agent.repairs_by_itself(&right, &node);
        }
    }
    agent.stop();
}
