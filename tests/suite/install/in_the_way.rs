//! Links and directories where our files should be, and directories that are gone with everything in them.

use std::fs;
use std::os::unix::fs::symlink;

use super::drift::{BRIDGE, node, remove};
use crate::support::node::{BIN, CONFLIST, Node};
use crate::support::release::{PLUGINS, plugin};
use crate::support::tree::{Tree, What};

/// Fault 19: a link is replaced, and its target is left alone, whether its content is right or not.
#[test]
fn fault_19_a_link_is_replaced_and_its_target_untouched() {
    for content in [b"somebody else's".to_vec(), plugin("bridge")] {
        let node = node();
        node.write("srv/target", &content, 0o755);
        node.write("srv/conflist", b"{}", 0o644);
        for (file, target) in [(BRIDGE, "/srv/target"), (CONFLIST, "/srv/conflist")] {
            fs::remove_file(node.path(file)).unwrap();
            symlink(target, node.path(file)).unwrap();
        }
        let broken = node.tree();
        let verify = node.run("verify");
        for file in [BRIDGE, CONFLIST] {
            verify.exits(1).row(
                "type",
                &node.shown(file),
                "is a symbolic link, expected a regular file",
            );
        }
        node.run("install --offline").exits(0);
        let repaired = node.tree();
        assert_eq!(broken.changes(&repaired), [CONFLIST, BRIDGE]);
        assert!(matches!(repaired.get(BRIDGE).what, What::File(_)));
    }
}

/// Fault 18: a directory is refused, and the conflist does not appear while its plugin cannot be there.
#[test]
fn fault_18_a_directory_in_place_of_a_plugin_is_refused() {
    let node = node();
    remove(&node.path(BRIDGE));
    remove(&node.path("opt/cni/bin/loopback"));
    remove(&node.path(CONFLIST));
    node.write("opt/cni/bin/bridge/inside", b"kept", 0o600);
    let broken = node.tree();
    let reported =
        "is a directory, expected a regular file; a directory is never removed, move it away";
    let line = format!("{} {reported}", node.shown(BRIDGE));
    node.run("verify")
        .exits(1)
        .row("type", &node.shown(BRIDGE), reported);
    node.run("plan")
        .exits(1)
        .row("refused", &node.shown(BRIDGE), reported);
    let install = node.run("install --offline");
    assert_eq!(
        install.exits(2).errors()[..2],
        [
            format!("binaries: {line}"),
            format!("conflist: {} is missing", node.shown(CONFLIST)),
        ],
    );
    // The other plugin was repaired nevertheless.
    assert_eq!(broken.changes(&node.tree()), ["opt/cni/bin/loopback"]);
    assert!(!node.has(CONFLIST));

    fs::remove_dir_all(node.path(BRIDGE)).unwrap();
    node.run("install --offline").exits(0);
    assert!(node.has(CONFLIST));
}

#[test]
fn fault_18_a_directory_in_place_of_the_conflist_is_refused() {
    let node = node();
    remove(&node.path(CONFLIST));
    fs::create_dir(node.path(CONFLIST)).unwrap();
    let broken = node.tree();
    node.run("install").exits(2).says(&format!(
        "error: conflist: {} is a directory, expected a regular file; a directory is never removed, move it away\n",
        node.shown(CONFLIST)
    ));
    assert_eq!(broken.changes(&node.tree()), [""; 0]);
}

/// Fault 24: the bin directory removed, as a package upgrade does it.
#[test]
fn fault_24_a_removed_bin_directory() {
    let node = node();
    let right = node.tree();
    fs::remove_dir_all(node.path(BIN)).unwrap();
    let broken = node.tree();
    node.run("verify").exits(1).says("drift: binaries");
    assert_eq!(broken, node.tree());
    node.run("install --offline").exits(0);
    assert_eq!(node.names(BIN), PLUGINS);
    let repaired = node.tree();
    let mut changed = vec![BIN.to_owned()];
    changed.extend(PLUGINS.iter().map(|name| format!("{BIN}/{name}")));
    assert_eq!(broken.changes(&repaired), changed);
    let places = |tree: &Tree| PLUGINS.map(|name| tree.get(&format!("{BIN}/{name}")).what.clone());
    assert_eq!(places(&right), places(&repaired));
}

/// Fault 24: net.d removed.
#[test]
fn fault_24_a_removed_configuration_directory() {
    let node = Node::installed();
    let right = node.tree();
    fs::remove_dir_all(node.path("etc/cni")).unwrap();
    node.run("verify")
        .exits(1)
        .row("missing", &node.shown(CONFLIST), "");
    node.run("install --offline").exits(0);
    assert!(right.has_same_content(&node.tree()));
}
