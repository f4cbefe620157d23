//! Faults 32 and 39: files that are larger than they may be, and files that a slow disk gives a piece at a time. Neither
//! keeps the agent, a command or the end of either.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use cni_keeper::model::LARGEST_PLUGIN;
use nix::sys::signal::Signal;
use nix::unistd::truncate;

use super::{BRIDGE, node, only_drift};
use crate::support::agent::Agent;
use crate::support::node::{CONFLIST, Node, behind, start};
use crate::support::release::{NETWORK, RELEASE, other_build, plugin};
use crate::support::strace;
use crate::support::without_asking::{IntactNode, spare_path};

const BINARY: u64 = LARGEST_PLUGIN;
const TERABYTE: u64 = 1 << 40;

/// Gives a file this size. What is added takes no space on the disk.
fn resize(path: &Path, size: u64) {
    truncate(path, size.try_into().unwrap()).unwrap();
}

/// Fault 32: whatever the size is, the file is put right at once, and the drift log says what was there.
#[test]
fn fault_32_a_file_of_any_size_is_put_right() {
    let sizes = [
        (BRIDGE, 64 << 20),
        (BRIDGE, (64 << 20) + 1),
        (BRIDGE, BINARY + 1),
        (BRIDGE, TERABYTE),
        (CONFLIST, 2 << 20),
        (CONFLIST, (2 << 20) + 1),
        (CONFLIST, TERABYTE),
    ];
    for (file, size) in sizes {
        let node = node();
        let right = node.tree();
        let agent = Agent::ready(&node);
        resize(&node.path(file), size);
        agent.becomes_ready();
        assert!(right.has_same_content(&node.tree()), "{file} of {size}");
        let reported = only_drift(&agent);
        assert_eq!((&*reported.kind, &*reported.outcome), ("content", "healed"));
        let was_read = size == 2 << 20 || size == 64 << 20;
        assert_eq!(reported.before == format!("{size} bytes"), !was_read);
        agent.stop();
    }
}

/// Fault 32: the same for the agent's own copies: neither is used, and neither fills the disk when it is copied.
#[test]
fn fault_32_copies_of_any_size_are_not_used() {
    for size in [BINARY, TERABYTE] {
        for parts in [&["store"][..], &["spare"], &["store", "spare"]] {
            let node = Node::declared();
            let right = {
                node.run("install").exits(0);
                IntactNode::of(&node)
            };
            let agent = Agent::with_spares(&node);
            for part in parts {
                resize(&spare_path(&node, part, &plugin("bridge")), size);
            }
            fs::remove_file(node.path(BRIDGE)).unwrap();
            agent.repairs_by_itself(&right, &node);
            agent.stop();
        }
    }
}

#[test]
fn commands_do_not_read_what_the_size_refutes() {
    let node = Node::declared();
    node.run("install").exits(0);
    let right = node.tree();
    resize(&node.path(BRIDGE), TERABYTE);
    resize(&node.path(CONFLIST), TERABYTE);
    let bytes = "has 1099511627776 bytes, more than it may have";
    let verified = node.run("verify");
    verified.exits(1).row("content", &node.shown(BRIDGE), bytes);
    verified.row("content", &node.shown(CONFLIST), bytes);
    node.run("plan").exits(1);
    node.run("install").exits(0);
    assert!(right.has_same_content(&node.tree()));

    resize(&node.path(BRIDGE), TERABYTE);
    resize(&node.path(CONFLIST), TERABYTE);
    let uninstalled = node.run("uninstall");
    for file in [BRIDGE, CONFLIST] {
        let reason = "it is larger than what was placed (1099511627776 bytes now)";
        uninstalled
            .exits(0)
            .row("spared", &node.shown(file), reason);
        assert_eq!(fs::metadata(node.path(file)).unwrap().len(), TERABYTE);
    }
}

/// A node whose own build of bridge stays, and takes minutes to be read.
fn slow_node() -> Node {
    let node = Node::empty();
    node.write(BRIDGE, &other_build("bridge"), 0o755);
    resize(&node.path(BRIDGE), BINARY);
    let mut artifact = RELEASE.artifact(&node.mirror("plugins.tgz", &RELEASE.bytes));
    artifact.more = "ifPresent: keep".to_owned();
    node.declare(&artifact, NETWORK);
    node
}

/// A command for which each piece of bridge takes a tenth of a second.
fn slowly(node: &Node, command: &Command) -> Command {
    let mut strace = Command::new("strace");
    strace
        .args(["-D", "-f", "-qq", "-o", "/dev/null", "-P"])
        .arg(node.path(BRIDGE))
        .args(["--trace=read", "--inject=read:delay_enter=100000"]);
    behind(strace, command)
}

/// Waits until a program reads a file.
fn wait_for_reader(pid: u32, file: &Path) {
    let start = Instant::now();
    let is_open = || {
        let open = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        let mut targets = open.flatten().map(|entry| fs::read_link(entry.path()));
        targets.any(|target| target.is_ok_and(|target| target == file))
    };
    while !is_open() {
        assert!(start.elapsed().as_secs() < 60, "{file:?} is not read");
        std::thread::yield_now();
    }
}

/// Fault 39: a reading that takes minutes ends when the program is to end.
#[test]
fn fault_39_a_signal_ends_a_slow_reading() {
    if !strace::available() {
        return;
    }
    let node = slow_node();
    let bridge = File::open(node.path(BRIDGE)).unwrap();
    for command in ["verify", "install"] {
        let running = start(&mut slowly(&node, &node.command(command)));
        wait_for_reader(running.id(), &node.path(BRIDGE));
        running.signal(Signal::SIGTERM);
        running.end().exits(2).says("stopped by a signal");
    }
    node.listen_anywhere();
    let agent = Agent::spawn(&mut slowly(&node, &node.command("run")));
    wait_for_reader(agent.id(), &node.path(BRIDGE));
    agent.stop();
    assert_eq!(bridge.metadata().unwrap().len(), BINARY);
}
