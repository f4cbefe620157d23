//! Commands that are stopped half-way, and two at once.

use nix::sys::signal::Signal;

use crate::support::node::{BIN, CONF, Node, STATE, start};
use crate::support::release::{NETWORK, NEXT_RELEASE, PLUGINS, RELEASE};
use crate::support::server::{Reply, Server};
use crate::support::tree::Tree;

/// A mirror that stops in the middle of the archive.
fn stalling(bytes: &[u8]) -> Server {
    let server = Server::http();
    server.on("/p.tgz", [Reply::silent_after(bytes, bytes.len() / 2)]);
    server
}

fn temps(tree: &Tree) -> Vec<&str> {
    let mut paths = tree.paths();
    paths.retain(|path| path.contains(".tmp") || path.contains(".cni-keeper-"));
    paths
}

/// Fault 7: SIGTERM or SIGINT in the middle of a download ends it at once, and nothing is left of it.
#[test]
fn fault_7_a_signal_in_the_middle_of_a_download() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = stalling(&RELEASE.bytes);
        let node = Node::empty();
        node.declare(&RELEASE.artifact(&server.url("/p.tgz")), NETWORK);
        let install = start(&mut node.command("install"));
        server.wait_for("/p.tgz");
        install.signal(signal);
        let outcome = install.end();
        outcome.exits(2);
        assert_eq!(
            outcome.errors(),
            [
                "stopped by a signal; every file in place is complete; run the command again to continue"
            ]
        );
        assert_eq!(temps(&node.whole_tree()), [""; 0]);
        assert!(!node.has(BIN) && !node.has(CONF));

        // The next run works as if nothing had happened.
        server.on("/p.tgz", [Reply::ok(&RELEASE.bytes)]);
        node.run("install").exits(0);
    }
}

/// Fault 7: an upgrade that is stopped leaves the release before it in place.
#[test]
fn fault_7_a_stopped_upgrade_leaves_the_old_release() {
    let node = Node::installed();
    let before = node.tree();
    let server = stalling(&NEXT_RELEASE.bytes);
    node.declare(&NEXT_RELEASE.artifact(&server.url("/p.tgz")), NETWORK);
    let install = start(&mut node.command("install"));
    server.wait_for("/p.tgz");
    install.signal(Signal::SIGTERM);
    install.end().exits(2);
    assert_eq!(before, node.tree());
    assert_eq!(temps(&node.whole_tree()), [""; 0]);
}

/// Fault 6: the second agent touches nothing and names the first. Commands that only read work meanwhile.
#[test]
fn fault_6_two_agents_at_once() {
    let server = stalling(&RELEASE.bytes);
    let node = Node::empty();
    node.declare(&RELEASE.artifact(&server.url("/p.tgz")), NETWORK);
    let first = start(&mut node.command("install"));
    server.wait_for("/p.tgz");
    let before = node.whole_tree();
    let reported = format!(
        "error: cannot lock {}/lock: process {} holds it; two must not work there at once, wait for it or stop it\n",
        node.shown(STATE),
        first.id()
    );
    node.run("install").exits(2).says(&reported);
    node.run("verify").exits(1);
    node.run("plan").exits(1);
    assert_eq!(before, node.whole_tree());
    assert_eq!(server.count("/p.tgz"), 1);

    // A killed holder keeps no other agent out.
    first.signal(Signal::SIGKILL);
    assert_eq!(first.end().code, None);
    server.on("/p.tgz", [Reply::ok(&RELEASE.bytes)]);
    node.run("install").exits(0);
}

/// Fault 6: uninstall does not wait for the lock either.
#[test]
fn fault_6_uninstall_during_an_install() {
    let node = Node::installed();
    let before = node.tree();
    let server = stalling(&NEXT_RELEASE.bytes);
    node.declare(&NEXT_RELEASE.artifact(&server.url("/p.tgz")), NETWORK);
    let first = start(&mut node.command("install"));
    server.wait_for("/p.tgz");
    node.run("uninstall")
        .exits(2)
        .says(&format!("process {} holds it", first.id()));
    assert_eq!(before, node.tree());
    first.signal(Signal::SIGTERM);
    first.end().exits(2);
}

/// Fault 8: temporary files of a killed run are removed; similar files that are not ours stay.
#[test]
fn fault_8_own_temps_are_removed_and_foreign_ones_kept() {
    let node = Node::installed();
    let right = node.tree();
    let own = ".cni-keeper-0123456789abcdef.tmp";
    for dir in [BIN, CONF, STATE, &format!("{STATE}/tmp")] {
        node.write(&format!("{dir}/{own}"), b"half", 0o600);
    }
    let foreign = ["bridge.tmp", ".cni-keeper-mine.tmp", ".bridge.swp"];
    for name in foreign {
        node.write(&format!("{BIN}/{name}"), b"theirs", 0o600);
    }
    node.run("verify").exits(0);
    assert_eq!(
        temps(&node.whole_tree()).len(),
        4 + foreign.len() - 1,
        "verify sweeps nothing"
    );
    node.run("install").exits(0).says("nothing to do");
    let mut left = right.changes(&node.tree());
    left.sort();
    assert_eq!(
        left,
        foreign
            .map(|name| format!("{BIN}/{name}"))
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );
    assert_eq!(node.names(&format!("{STATE}/tmp")), [""; 0]);
    assert_eq!(node.names(BIN).len(), PLUGINS.len() + foreign.len());
}
