//! `uninstall` removes what is ours and nothing else.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::node::{BIN, CONF, CONFLIST, Node, STATE};
use crate::support::release::{NETWORK, PLUGINS, RELEASE, other_build};

const BRIDGE: &str = "opt/cni/bin/bridge";
const FOREIGN: [&str; 3] = [
    "opt/cni/bin/cilium-cni",
    "etc/cni/net.d/99-other.conflist",
    "etc/cni/net.d/README",
];

/// The conflist is removed first. The directories stay, and so do all foreign files.
#[test]
fn it_removes_what_was_placed_and_nothing_else() {
    let node = Node::declared();
    for path in FOREIGN {
        node.write(path, b"{\"foreign\": true}", 0o640);
    }
    let before = node.tree();
    node.run("install").exits(0);
    let uninstall = node.run("uninstall");
    let paths = [CONFLIST.to_owned()]
        .into_iter()
        .chain(PLUGINS.map(|name| format!("{BIN}/{name}")));
    let expected: String = paths
        .map(|path| format!("removed   {}\n", node.shown(&path)))
        .collect();
    assert_eq!(
        uninstall.exits(0).stdout,
        format!(
            "{expected}done: nothing that cni-keeper placed is left; directories and foreign files are untouched\n"
        )
    );
    let after = node.tree();
    assert_eq!(before.changes(&after), [""; 0]);
    assert_eq!(node.names(&format!("{STATE}/store")), [""; 0]);

    let everything = node.whole_tree();
    let again = node.run("uninstall");
    assert_eq!(
        again.exits(0).stdout,
        "nothing to do: no file here was placed by cni-keeper\n"
    );
    assert!(everything.has_same_content(&node.whole_tree()));
    assert_eq!(after, node.tree());
}

/// In a pod of a DaemonSet it stays when all is done, since otherwise it would be started again. It ends with code 0 on
/// SIGTERM.
#[test]
fn it_stays_where_that_is_asked_for() {
    let node = Node::installed();
    let mut uninstall = node.command("uninstall --stay");
    let mut uninstall = uninstall.stdout(Stdio::piped()).spawn().unwrap();
    let message = BufReader::new(uninstall.stdout.take().unwrap()).lines();
    let last = message
        .map(Result::unwrap)
        .find(|line| !line.starts_with("removed"));
    assert!(last.unwrap().starts_with("done: nothing"));
    assert!(!node.has(CONFLIST) && !node.has(BRIDGE));
    assert_eq!(uninstall.try_wait().unwrap(), None);
    kill(
        Pid::from_raw(uninstall.id().try_into().unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(uninstall.wait().unwrap().code(), Some(0));
}

/// Fault 60: an edited file belongs to the person who edited it; it is spared and named.
#[test]
fn fault_60_a_foreign_edit_is_spared_and_named() {
    let node = Node::installed();
    node.write(BRIDGE, &other_build("bridge"), 0o755);
    node.write(CONFLIST, b"{\"edited\": true}", 0o644);
    fs::remove_file(node.path("opt/cni/bin/loopback")).unwrap();
    let before = node.tree();
    let uninstall = node.run("uninstall");
    for path in [CONFLIST, BRIDGE] {
        uninstall.exits(0).row(
            "spared",
            &node.shown(path),
            "its content is not what was placed (sha256 ",
        );
    }
    uninstall
        .row(
            "gone",
            &node.shown("opt/cni/bin/loopback"),
            "was removed by somebody else",
        )
        .row("removed", &node.shown("opt/cni/bin/host-local"), "");
    assert_eq!(
        before.changes(&node.tree()),
        ["opt/cni/bin/host-local"],
        "edited files stay byte for byte"
    );
    // They are foreign from now on, and are named again.
    let again = node.run("uninstall");
    again
        .exits(0)
        .row(
            "spared",
            &node.shown(CONFLIST),
            "nothing records that cni-keeper placed it",
        )
        .row(
            "spared",
            &node.shown(BRIDGE),
            "nothing records that cni-keeper placed it",
        );
    assert_eq!(node.names(BIN), ["bridge"]);
}

#[test]
fn a_link_or_directory_in_place_of_ours_is_spared() {
    let node = Node::installed();
    fs::remove_file(node.path(BRIDGE)).unwrap();
    std::os::unix::fs::symlink("/bin/true", node.path(BRIDGE)).unwrap();
    fs::remove_file(node.path(CONFLIST)).unwrap();
    fs::create_dir(node.path(CONFLIST)).unwrap();
    let removals = node.run("uninstall -o json").exits(0).json();
    let removals = removals["removals"].as_array().unwrap().clone();
    let spared = |path: &str| {
        let entry = removals
            .iter()
            .find(|removal| removal["path"] == node.shown(path))
            .unwrap();
        (entry["what"].clone(), entry["reason"].clone())
    };
    assert_eq!(
        spared(CONFLIST),
        ("spared".into(), "it is a directory now".into())
    );
    assert_eq!(
        spared(BRIDGE),
        ("spared".into(), "it is a symbolic link now".into())
    );
    assert_eq!(node.names(BIN), ["bridge"]);
    assert_eq!(node.names(CONF), ["10-pods.conflist"]);
}

/// On a node where nothing was ever installed, not even a state directory is made.
#[test]
fn on_an_empty_node_it_makes_nothing() {
    let node = Node::declared();
    node.run("uninstall").exits(0).says("nothing to do: ");
    assert_eq!(node.tree().paths(), [""; 0]);
    assert!(!node.has("opt"));
}

/// It needs no network and no plugin names: what was placed is in the ledger, whatever is declared by now.
#[test]
fn it_knows_what_was_placed_whatever_is_declared_by_now() {
    let node = Node::installed();
    let mut other = RELEASE.artifact("http://mirror.invalid/p.tgz");
    other.plugins = "[loopback]".to_owned();
    node.declare(&other, "");
    node.run("uninstall").exits(0);
    assert_eq!(node.names(BIN), [""; 0]);
    assert_eq!(node.names(CONF), [""; 0]);

    // And a node can be installed again.
    let node = Node::declared();
    node.run("install").exits(0);
    node.run("uninstall").exits(0);
    node.declare(
        &RELEASE.artifact(&node.mirror("again.tgz", &RELEASE.bytes)),
        NETWORK,
    );
    node.run("install").exits(0).says("done: 4 files");
}

/// An edited conflist stays, and the plugins that it names with it: a runtime would find it without them.
/// They are still ours, and are removed once the conflist is gone.
#[test]
fn what_an_edited_conflist_names_stays_with_it() {
    let node = Node::installed();
    let text = String::from_utf8(node.read(CONFLIST)).unwrap();
    let edited = text.replace("10.88.0.0", "10.99.0.0");
    node.write(CONFLIST, edited.as_bytes(), 0o600);
    let before = node.tree();
    let uninstall = node.run("uninstall");
    uninstall
        .exits(0)
        .row("spared", &node.shown(CONFLIST), "its content is not")
        .row(
            "spared",
            &node.shown(BRIDGE),
            "10-pods.conflist stays, and needs it",
        )
        .says("done: only what is spared above is left");
    assert_eq!(before, node.tree());
    fs::remove_file(node.path(CONFLIST)).unwrap();
    node.run("uninstall").exits(0).says("done: nothing that");
    assert_eq!(node.names(BIN), [""; 0]);
}

/// The state directory was lost, and perhaps made again by a second life: what is as declared is ours, whole. What is left
/// is named.
#[test]
fn what_is_as_declared_is_removed_after_the_state_was_lost() {
    for second_life in [true, false] {
        let node = Node::declared();
        node.run("install").exits(0);
        fs::remove_dir_all(node.path("opt/cni")).unwrap();
        if second_life {
            node.run("install").exits(0);
        }
        let uninstall = node.run("uninstall");
        uninstall
            .exits(0)
            .row("removed", &node.shown(CONFLIST), "")
            .says("done: nothing that cni-keeper placed is left");
        assert!(!node.has(CONFLIST) && !node.has(BRIDGE));
    }
    // Only the state directory: nobody knows any more which plugins it had placed.
    let node = Node::declared();
    node.run("install").exits(0);
    fs::remove_dir_all(node.path(STATE)).unwrap();
    let uninstall = node.run("uninstall");
    uninstall
        .exits(0)
        .row("removed", &node.shown(CONFLIST), "")
        .row(
            "spared",
            &node.shown(BRIDGE),
            "nothing records that cni-keeper placed it",
        )
        .says("done: only what is spared above is left");
    assert!(!node.has(STATE) && !node.has(CONFLIST) && node.has(BRIDGE));
}

/// A conflist that is not what would be written is nobody's without a record: it stays and is named.
#[test]
fn a_conflist_of_others_under_the_declared_name_stays_and_is_named() {
    let node = Node::declared();
    node.write(CONFLIST, b"{\"edited\": true}", 0o644);
    node.run("uninstall").exits(0).row(
        "spared",
        &node.shown(CONFLIST),
        "nothing records that cni-keeper placed it",
    );
    assert!(node.has(CONFLIST));
}
