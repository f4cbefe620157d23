//! The store and the ledger: what a node can and cannot do without a network.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::namespace::{in_private_mounts, mount_tmpfs};
use crate::support::node::{BIN, CONFLIST, Node, STATE, start};
use crate::support::release::{
    NETWORK, NEXT_RELEASE, PLUGINS, RELEASE, Release, arch, other_build, pin, plugin,
    unreachable_url,
};
use crate::support::server::{Reply, Server};

const BRIDGE: &str = "opt/cni/bin/bridge";

/// Flips a bit in every spare.
fn corrupt_store(node: &Node) {
    for name in node.names(&format!("{STATE}/store")) {
        let spare = format!("{STATE}/store/{name}");
        let mut bytes = node.read(&spare);
        bytes[100] ^= 1;
        node.write(&spare, &bytes, 0o755);
    }
}

/// The store holds a spare of each plugin, also after one was used.
#[test]
fn a_used_spare_is_replaced() {
    let node = Node::installed();
    let spares = node.names(&format!("{STATE}/store"));
    assert_eq!(spares.len(), PLUGINS.len());
    for _ in 0..3 {
        fs::remove_file(node.path(BRIDGE)).unwrap();
        node.run("install --offline").exits(0);
        assert_eq!(node.names(&format!("{STATE}/store")), spares);
    }
}

#[test]
fn a_corrupt_spare_is_never_placed_but_fetched_again() {
    let server = Server::http();
    server.on("/plugins.tgz", [Reply::ok(&RELEASE.bytes)]);
    let node = Node::empty();
    node.declare(&RELEASE.artifact(&server.url("/plugins.tgz")), NETWORK);
    node.run("install").exits(0);
    let right = node.tree();
    corrupt_store(&node);
    node.write(BRIDGE, b"broken", 0o755);
    let broken = node.tree();

    node.run("install --offline").exits(2).says(
        "error: cni-plugins v1.1.1 is neither in place nor in the store, and --offline leaves no source for it; \
         run once without --offline, or name a seed that cni-keeper bundle made (--seed DIR)",
    );
    assert_eq!(broken, node.tree(), "nothing unproven becomes visible");
    assert_eq!(server.count("/plugins.tgz"), 1);

    node.run("install")
        .exits(0)
        .row("fetched", "cni-plugins v1.1.1", "")
        .row("place", &node.shown(BRIDGE), "");
    assert_eq!(server.count("/plugins.tgz"), 2);
    assert_eq!(broken.changes(&node.tree()), [BRIDGE]);
    assert!(right.has_same_content(&node.tree()));
}

/// Damage at the very end of an archive, and a last member that is not the pinned one, are found after other members
/// were read. The store gets none of them, since a later pass would place them.
#[test]
fn the_store_gets_nothing_of_a_bad_archive() {
    let damaged = &RELEASE.bytes[..RELEASE.bytes.len() - 1];
    let artifact = RELEASE.artifact("");
    let other = format!("{{{}: {}}}", arch(), "f".repeat(64));
    let wrong_pin =
        format!("[bridge, host-local, {{member: loopback, as: loopback, sha256: {other}}}]");
    for (bytes, plugins, words) in [
        (damaged, &artifact.plugins, "the archive cannot be read"),
        (
            &RELEASE.bytes,
            &wrong_pin,
            "'loopback' in the archive is not the pinned one",
        ),
    ] {
        let server = Server::http();
        server.on("/plugins.tgz", [Reply::ok(bytes)]);
        let node = Node::empty();
        let mut artifact = RELEASE.artifact(&server.url("/plugins.tgz"));
        (artifact.pin, artifact.plugins) = (pin(bytes), plugins.clone());
        node.declare(&artifact, NETWORK);
        for _ in 0..2 {
            node.run("install").exits(2).says(words);
            assert_eq!(node.names(&format!("{STATE}/store")), [""; 0]);
            assert_eq!(node.names(&format!("{STATE}/tmp")), [""; 0]);
            assert!(!node.has(BRIDGE));
        }
    }
}

/// Without its ledger the agent must see the archive once more to know what the plugins must be. What is
/// right already is not written again.
#[test]
fn a_lost_state_directory() {
    let server = Server::http();
    server.on("/plugins.tgz", [Reply::ok(&RELEASE.bytes)]);
    let node = Node::empty();
    node.declare(&RELEASE.artifact(&server.url("/plugins.tgz")), NETWORK);
    node.run("install").exits(0);
    fs::remove_dir_all(node.path(STATE)).unwrap();
    let right = node.tree();
    node.run("verify")
        .exits(1)
        .row("unrecorded", &node.shown(BRIDGE), "is there, but ")
        .row("ok", &node.shown(CONFLIST), "");
    node.run("plan")
        .exits(1)
        .row("fetch", "cni-plugins", "")
        .row("compare", &node.shown(BRIDGE), "");
    assert!(!node.has(STATE), "verify and plan make no state");
    node.run("install --offline").exits(2);
    node.run("install").exits(0);
    assert_eq!(right.changes(&node.tree()), [""; 0], "no file is touched");
    node.run("verify").exits(0);

    // Drift is repaired as before.
    fs::remove_file(node.path(BRIDGE)).unwrap();
    node.run("install --offline").exits(0);
    assert!(right.has_same_content(&node.tree()));
}

/// Files that were as declared before the first install are ours from then on, as after the loss of the state directory.
#[test]
fn what_is_found_as_declared_is_ours() {
    let node = Node::declared();
    for name in PLUGINS {
        node.write(&format!("{BIN}/{name}"), &plugin(name), 0o755);
    }
    let before = node.tree();
    node.run("install").exits(0);
    let mut changed = before.changes(&node.tree());
    changed.retain(|path| path.contains('.'));
    assert_eq!(changed, ["etc/cni/net.d", CONFLIST]);
    node.run("uninstall").exits(0).says("done: nothing that");
    assert_eq!(node.names(BIN), [""; 0]);
    assert!(!node.has(CONFLIST));
}

#[test]
fn an_upgrade_replaces_the_plugins_and_lets_go_of_the_old_spares() {
    let node = Node::declared();
    node.run("install").exits(0);
    let old = node.names(&format!("{STATE}/store"));
    let before = node.tree();
    let mut next = NEXT_RELEASE.artifact(&node.mirror("next.tgz", &NEXT_RELEASE.bytes));
    next.version = "v1.2.0".to_owned();
    node.declare(&next, NETWORK);
    node.run("verify")
        .exits(1)
        .row("unrecorded", &node.shown(BRIDGE), "");
    node.run("install")
        .exits(0)
        .row("fetched", "cni-plugins v1.2.0", "");
    let plugins = PLUGINS.map(|name| format!("{BIN}/{name}"));
    assert_eq!(before.changes(&node.tree()), plugins);
    let new = node.names(&format!("{STATE}/store"));
    assert_eq!(new.len(), PLUGINS.len());
    assert!(old.iter().all(|spare| !new.contains(spare)));
    node.run("uninstall").exits(0);
    assert_eq!(node.names(BIN), [""; 0]);
}

/// Fault 48: an upgrade that cannot be downloaded leaves the previous release complete and known, so that going back to
/// it needs no network.
#[test]
fn fault_48_back_from_a_failed_upgrade_without_a_network() {
    let node = Node::installed();
    let before = node.tree();
    let server = Server::http();
    server.on("/next.tgz", [Reply::ok(&NEXT_RELEASE.bytes)]);
    let mut next = NEXT_RELEASE.artifact(&server.url("/next.tgz"));
    next.pin = pin(b"what upstream published once");
    node.declare(&next, NETWORK);
    node.run("install").exits(2);
    assert_eq!(before, node.tree());

    node.declare(&RELEASE.artifact(&unreachable_url()), NETWORK);
    node.run("verify").exits(0);
    fs::remove_file(node.path(BRIDGE)).unwrap();
    node.run("install").exits(0);
    assert!(before.has_same_content(&node.tree()));
}

/// Fault 17: a bin directory on another file system gets copies, and the store keeps its spares.
#[test]
fn fault_17_state_and_plugins_on_different_file_systems() {
    in_private_mounts(
        &fault_17_state_and_plugins_on_different_file_systems,
        |scratch| {
            let node = Node::within(scratch);
            node.declare_release();
            fs::create_dir_all(node.path(BIN)).unwrap();
            mount_tmpfs(&node.path(BIN), "size=64m");
            node.run("install").exits(0);
            assert_eq!(node.names(BIN), PLUGINS);
            node.write(BRIDGE, b"broken", 0o755);
            node.remove_mirror();
            node.run("install --offline").exits(0);
            assert!(node.read(BRIDGE) == plugin("bridge"));
            assert_eq!(node.names(&format!("{STATE}/store")).len(), PLUGINS.len());
        },
    );
}

/// Faults 9 and 17: on another file system the whole set is copied before the first plugin becomes visible, so a set
/// that does not fit changes nothing.
#[test]
fn fault_17_a_set_that_does_not_fit_beside_the_old_one() {
    in_private_mounts(
        &fault_17_a_set_that_does_not_fit_beside_the_old_one,
        |scratch| {
            let node = Node::within(scratch);
            node.declare_release();
            fs::create_dir_all(node.path(BIN)).unwrap();
            let set: usize = PLUGINS.map(plugin).iter().map(Vec::len).sum();
            mount_tmpfs(&node.path(BIN), &format!("size={}", set + set / 2));
            node.run("install").exits(0);
            let before = node.tree();
            let source = node.mirror("next.tgz", &NEXT_RELEASE.bytes);
            node.declare(&NEXT_RELEASE.artifact(&source), NETWORK);
            node.run("install")
                .exits(2)
                .says("No space left on device; free space");
            for name in PLUGINS {
                let path = format!("{BIN}/{name}");
                assert_eq!(before.get(&path), node.tree().get(&path), "{name}");
            }
            assert_eq!(node.names(BIN), PLUGINS, "no temp is left");
        },
    );
}

/// A ledger knows names in two directories. With others declared it would claim what is not ours there, and
/// forget what is ours in the former ones.
#[test]
fn other_directories_than_before_are_refused_until_uninstalled() {
    let node = Node::declared();
    node.run("install").exits(0);
    let before = node.whole_tree();
    for command in ["install", "plan", "verify", "uninstall"] {
        node.run(&format!("{command} --conf-dir /etc/net.d"))
            .exits(64)
            .says("knows files placed in /opt/cni/bin and /etc/cni/net.d, and other directories are declared now");
        assert_eq!(before, node.whole_tree(), "{command}");
    }
    node.run("uninstall").exits(0);
    node.run("install --conf-dir /etc/net.d").exits(0);
    assert_eq!(node.names("etc/net.d"), ["10-pods.conflist"]);
    node.run("uninstall --conf-dir /etc/net.d").exits(0);
    assert_eq!(node.names("etc/net.d"), [""; 0]);
}

/// Calico's two plugins are one file under two names. The second gets a copy of the first, never of what
/// lies under its own name yet, and never one that nobody hashed and made durable.
#[test]
fn one_file_under_two_names() {
    let node = Node::empty();
    let old = Release::new(&["bridge", "host-local", "loopback", "portmap"], plugin);
    let new = Release::new(
        &["bridge", "host-local", "loopback", "portmap"],
        other_build,
    );
    node.declare(&old.artifact(&node.mirror("old.tgz", &old.bytes)), NETWORK);
    node.run("install").exits(0);

    let mut artifact = new.artifact(&node.mirror("new.tgz", &new.bytes));
    artifact.plugins =
        "[bridge, host-local, loopback, {member: portmap, as: first}, portmap]".to_owned();
    node.declare(&artifact, NETWORK);
    node.run("install").exits(0);
    for name in ["first", "portmap"] {
        assert_eq!(node.read(&format!("{BIN}/{name}")), other_build("portmap"));
    }
    node.run("verify").exits(0);
}

/// A switch in the environment is written as people do.
#[test]
fn offline_by_the_environment() {
    let node = Node::empty();
    node.declare(
        &RELEASE.artifact(&unreachable_url()),
        &format!("{NETWORK}fetch: {{attempts: 1}}\n"),
    );
    let offline = "--offline leaves no source for it";
    for (value, is_on) in [("1", true), ("yes", true), ("true", true), ("0", false)] {
        let mut install = node.command("install");
        let outcome = start(install.env("CNI_KEEPER_OFFLINE", value)).end();
        assert_eq!(outcome.exits(2).stderr.contains(offline), is_on, "{value}");
    }
}

/// The ledger says what a pinned artifact's plugins are, so nobody else may be able to write it.
#[test]
fn a_state_directory_that_others_can_write_to_is_refused() {
    let node = Node::installed();
    fs::remove_file(node.path(BRIDGE)).unwrap();
    for mode in [0o777, 0o720] {
        fs::set_permissions(node.path(STATE), fs::Permissions::from_mode(mode)).unwrap();
        let before = node.tree();
        for command in ["install --offline", "plan", "verify", "uninstall"] {
            node.run(command)
                .exits(2)
                .says("so that other users can change what the agent knows of the plugins")
                .says("chmod it to 0700");
        }
        assert_eq!(before, node.tree(), "{mode:o}");
    }
    fs::set_permissions(node.path(STATE), fs::Permissions::from_mode(0o755)).unwrap();
    node.run("install --offline").exits(0);
}

/// A file that the node had under a declared name is replaced, and this is reported before and while it happens.
#[test]
fn a_foreign_file_that_is_replaced_is_called_so() {
    let node = Node::declared();
    node.write(BRIDGE, b"the image's own", 0o755);
    node.write(CONFLIST, b"{}", 0o644);
    let message = "  (replaces a file that cni-keeper did not place)\n";
    node.run("plan").exits(1).says(message);
    let install = node.run("install");
    for name in ["opt/cni/bin/bridge", "net.d/10-pods.conflist"] {
        let mut lines = install.exits(0).stdout.lines();
        let line = lines.find(|line| line.contains(name));
        assert!(line.unwrap().ends_with(message.trim_end()), "{install}");
    }
    fs::write(node.path(BRIDGE), "tampered").unwrap();
    node.run("install").exits(0).does_not_say("did not place");
}

/// A damaged plugin that cannot be repaired now is not used as a spare of itself.
#[test]
fn a_damaged_plugin_is_no_spare() {
    let node = Node::installed();
    let spares = format!("{STATE}/store");
    for name in node.names(&spares) {
        fs::remove_file(node.path(&format!("{spares}/{name}"))).unwrap();
    }
    node.write(BRIDGE, b"broken", 0o755);
    node.run("install --offline").exits(2);
    node.run("plan").exits(1).row("fetch", "cni-plugins", "");
    assert_eq!(node.names(&spares).len(), PLUGINS.len() - 1);
}
