//! A node image's own builds: replaced, or kept where that is asked for.

use std::fs;

use crate::support::node::{BIN, CONFLIST, Node};
use crate::support::release::{NETWORK, RELEASE, other_build, plugin};

const BRIDGE: &str = "opt/cni/bin/bridge";

/// A node whose image brought a build of bridge, for which a policy is declared.
fn node(if_present: &str) -> Node {
    let node = Node::empty();
    node.write(BRIDGE, &other_build("bridge"), 0o700);
    let mut artifact = RELEASE.artifact(&node.mirror("plugins.tgz", &RELEASE.bytes));
    artifact.more = format!("ifPresent: {if_present}");
    node.declare(&artifact, NETWORK);
    node
}

#[test]
fn replace_puts_the_declared_one_in_its_place() {
    let node = node("replace");
    node.run("plan")
        .exits(1)
        .row("compare", &node.shown(BRIDGE), "is there, but ");
    node.run("install")
        .exits(0)
        .row("place", &node.shown(BRIDGE), "");
    assert!(node.read(BRIDGE) == plugin("bridge"));
    assert_eq!(node.tree().get(BRIDGE).mode, 0o755);
}

/// A kept file is not even touched, mode included; the missing ones are placed beside it.
#[test]
fn keep_leaves_it_and_places_what_is_missing() {
    let node = node("keep");
    let before = node.tree();
    node.run("plan")
        .exits(1)
        .row("keep", &node.shown(BRIDGE), "the node's own build");
    node.run("install")
        .exits(0)
        .says("done: 4 files are as declared, 1 of them the node's own build\n");
    let after = node.tree();
    assert_eq!(before.get(BRIDGE), after.get(BRIDGE));
    assert!(node.has("opt/cni/bin/host-local") && node.has(CONFLIST));
    node.run("verify")
        .exits(0)
        .row("kept", &node.shown(BRIDGE), "the node's own build");
    node.run("plan").exits(0);
    node.run("install")
        .exits(0)
        .says("nothing to do: 4 files are as declared, 1 of them the node's own build\n");
    assert_eq!(after, node.tree());

    // Once it is gone there is nothing to keep.
    fs::remove_file(node.path(BRIDGE)).unwrap();
    node.run("install").exits(0);
    assert!(node.read(BRIDGE) == plugin("bridge"));
}

/// Keep is for foreign files: drift in what we placed ourselves is repaired.
#[test]
fn keep_does_not_keep_damage_to_our_own() {
    let node = node("keep");
    node.run("install").exits(0);
    let right = node.tree();
    node.write("opt/cni/bin/host-local", b"damaged", 0o755);
    let broken = node.tree();
    node.run("verify")
        .exits(1)
        .row("content", &node.shown("opt/cni/bin/host-local"), "");
    node.run("install --offline").exits(0);
    assert_eq!(broken.changes(&node.tree()), ["opt/cni/bin/host-local"]);
    assert!(right.has_same_content(&node.tree()));
}

/// A kept build never becomes ours: neither a later install nor uninstall takes it.
#[test]
fn a_kept_build_survives_uninstall() {
    let node = node("keep");
    let before = node.tree();
    node.run("install").exits(0);
    node.run("install").exits(0);
    node.run("uninstall")
        .exits(0)
        .does_not_say(&node.shown(BRIDGE));
    assert_eq!(node.names(BIN), ["bridge"]);
    assert_eq!(before.get(BRIDGE), node.tree().get(BRIDGE));
}

/// A kept plugin must still answer `VERSION`: if it is no plugin, the conflist is not written.
#[test]
fn a_kept_file_that_is_no_plugin_keeps_the_conflist_away() {
    let node = node("keep");
    node.write(BRIDGE, b"#!/bin/sh\nexit 3\n", 0o755);
    node.run("install").exits(2).says(
        "error: plugins: bridge: it answered VERSION with exit status: 3 and printed nothing\n",
    );
    assert!(!node.has(CONFLIST));
    assert!(node.has("opt/cni/bin/host-local"));
}

/// Places a plugin in some form.
type Make = fn(&Node);

/// What somebody placed under a plugin's name stays, in whatever form, and neither it nor what it leads to is changed.
#[test]
fn keep_keeps_links_and_hard_links_of_others() {
    let forms: [(&str, Make); 4] = [
        ("a relative link", |node| link(node, "../../lib/bridge")),
        ("an absolute link", |node| link(node, "/opt/lib/bridge")),
        ("a link to nothing yet", |node| {
            link(node, "/opt/later/bridge");
        }),
        ("a hard link", |node| {
            fs::hard_link(node.path("opt/lib/bridge"), node.path(BRIDGE)).unwrap();
        }),
    ];
    for (form, make) in forms {
        let node = node("keep");
        fs::remove_file(node.path(BRIDGE)).unwrap();
        node.write("opt/lib/bridge", &other_build("bridge"), 0o700);
        make(&node);
        let before = node.tree();
        node.run("plan")
            .exits(1)
            .row("keep", &node.shown(BRIDGE), "the node's own build");
        node.run("install");
        node.run("verify")
            .row("kept", &node.shown(BRIDGE), "the node's own build");
        node.run("uninstall").exits(0);
        let after = node.tree();
        for path in [BRIDGE, "opt/lib/bridge"] {
            assert_eq!(before.get(path), after.get(path), "{form}");
        }
    }
}

fn link(node: &Node, target: &str) {
    std::os::unix::fs::symlink(target, node.path(BRIDGE)).unwrap();
}

/// A plugin that is right but for its mode, and has another name elsewhere: the other name keeps its mode.
#[test]
fn the_mode_of_a_hard_link_elsewhere_is_not_changed() {
    let node = node("replace");
    fs::remove_file(node.path(BRIDGE)).unwrap();
    node.write("opt/lib/bridge", &plugin("bridge"), 0o700);
    fs::hard_link(node.path("opt/lib/bridge"), node.path(BRIDGE)).unwrap();
    let before = node.tree();
    node.run("install").exits(0);
    node.run("verify").exits(0);
    let after = node.tree();
    assert_eq!(
        before.get("opt/lib/bridge").mode,
        after.get("opt/lib/bridge").mode
    );
    assert_eq!(after.get(BRIDGE).mode, 0o755);
    assert!(node.read(BRIDGE) == plugin("bridge"));
}
