//! Other configurations beside ours: which one the runtimes take, and what the agent does about it.

use std::fs;

use crate::support::node::{CONF, CONFLIST, Node};
use crate::support::release::NETWORK;

const FOREIGN: &str = "etc/cni/net.d/05-other.conflist";
const ASIDE: &str = "etc/cni/net.d/05-other.conflist.cni-keeper-disabled";
const OTHER_NETWORK: &str =
    r#"{"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "bridge"}]}"#;

/// Fault 30: a foreign conflist is named, and never touched without `foreignConflists: disable`.
#[test]
fn fault_30_a_foreign_conflist_that_sorts_before_ours() {
    let node = Node::declared();
    node.write(FOREIGN, OTHER_NETWORK.as_bytes(), 0o640);
    let before = node.tree();
    // Where the runtime is known, only it is named.
    let cases = [
        ("", "containerd and CRI-O take"),
        ("containerd.sock", "containerd takes"),
        ("crio.sock", "CRI-O takes"),
    ];
    let config = fs::read_to_string(node.config()).unwrap();
    for (socket, take) in cases {
        let runtime = format!("runtime: {{endpoint: \"unix:///run/{socket}\"}}\n");
        let runtime = if socket.is_empty() { "" } else { &runtime };
        node.redeclare(&format!("{config}{runtime}"));
        let line = format!(
            "precedence: 05-other.conflist sorts before 10-pods.conflist, so {take} its network 'other'; \
             remove it, or set drift.foreignConflists: disable to have it renamed"
        );
        let install = node.run("install");
        let errors = install.exits(2).errors();
        let of_precedence: Vec<_> = errors
            .iter()
            .filter(|line| line.starts_with("precedence:"))
            .collect();
        assert_eq!(of_precedence, [&line.as_str()], "{install}");
    }
    node.redeclare(&config);
    assert_eq!(before.get(FOREIGN), node.tree().get(FOREIGN));
    let verify = node.run("verify -o json").exits(1).json();
    assert_eq!(
        verify["snapshot"]["effective"]["containerd"],
        "05-other.conflist"
    );
    fs::remove_file(node.path(FOREIGN)).unwrap();
    node.run("verify").exits(0);
}

/// A file whose name is nothing but an extension is read by the runtimes, and sorts before ours.
#[test]
fn a_name_that_is_only_an_extension_counts() {
    for name in [".conf", ".conflist", ".json"] {
        let node = Node::installed();
        let other = match name {
            ".conflist" => OTHER_NETWORK,
            _ => r#"{"cniVersion": "1.0.0", "name": "other", "type": "bridge"}"#,
        };
        node.write(&format!("etc/cni/net.d/{name}"), other.as_bytes(), 0o644);
        let reported = format!(
            "{name} sorts before 10-pods.conflist, so containerd and CRI-O take its network 'other'"
        );
        node.run("verify").exits(1).says(&reported);
    }
}

/// Fault 34: one file that does not load stops containerd altogether.
#[test]
fn fault_34_a_malformed_file_that_sorts_before_ours() {
    let node = Node::installed();
    node.write(FOREIGN, b"{\"name\": ", 0o644);
    let before = node.tree();
    node.run("install")
        .exits(2)
        .says("error: precedence: 05-other.conflist sorts before 10-pods.conflist and does not load (")
        .says("so containerd")
        .says("loads nothing; remove it, or set drift.foreignConflists: disable");
    assert_eq!(before, node.tree());
    let verify = node.run("verify -o json").exits(1).json();
    let effective = &verify["snapshot"]["effective"];
    assert_eq!(effective["containerd"], serde_json::Value::Null);
    // CRI-O goes on to the next file.
    assert_eq!(effective["crio"], "10-pods.conflist");
}

/// A file that sorts after ours, or that no runtime reads, is no problem.
#[test]
fn what_sorts_behind_ours_is_left_in_peace() {
    let node = Node::installed();
    node.write("etc/cni/net.d/99-late.conflist", b"garbage", 0o644);
    node.write("etc/cni/net.d/00-early.conflist.bak", b"garbage", 0o644);
    node.write("etc/cni/net.d/00-dir.conflist/inside", b"garbage", 0o644);
    let before = node.tree();
    node.run("install").exits(0).says("nothing to do");
    node.run("verify").exits(0);
    assert_eq!(before, node.tree());
}

/// Opted in, foreign conflists are renamed once ours is in place, and get their names back on the way out.
#[test]
fn foreign_conflists_are_set_aside_and_restored() {
    let node = Node::declared();
    node.declare_more("drift: {foreignConflists: disable}\n");
    node.write(FOREIGN, OTHER_NETWORK.as_bytes(), 0o640);
    // Hidden files count for the runtimes too.
    let hidden = "etc/cni/net.d/.hidden.conf";
    node.write(hidden, b"garbage", 0o600);
    let before = node.tree();
    let install = node.run("install");
    install
        .exits(0)
        .row("set aside", &node.shown(FOREIGN), "sorts before ours")
        .row("set aside", &node.shown(hidden), "sorts before ours");
    let order = |path: &str| install.stdout.find(&node.shown(path)).unwrap();
    assert!(order(CONFLIST) < order(FOREIGN), "ours first\n{install}");
    assert!(!node.has(FOREIGN) && !node.has(hidden));
    assert_eq!(node.read(ASIDE), OTHER_NETWORK.as_bytes());
    let right = node.tree();
    let verify = node.run("verify -o json").exits(0).json();
    assert_eq!(
        verify["snapshot"]["effective"]["containerd"],
        "10-pods.conflist"
    );
    node.run("install").exits(0).says("nothing to do");
    assert_eq!(right, node.tree());

    // It comes back and is set aside beside the first one. The ledger has both. The newest gets its name again.
    node.write(FOREIGN, b"{\"name\": \"newer\"}", 0o600);
    node.run("install").exits(0);
    assert_eq!(node.read(&format!("{ASIDE}-2")), b"{\"name\": \"newer\"}");

    let uninstall = node.run("uninstall");
    uninstall
        .exits(0)
        .row("restored", &node.shown(FOREIGN), "")
        .row("restored", &node.shown(hidden), "")
        .row(
            "spared",
            &node.shown(ASIDE),
            "05-other.conflist exists again, so it keeps the name that it was given",
        );
    assert_eq!(node.read(FOREIGN), b"{\"name\": \"newer\"}");
    assert_eq!(node.read(ASIDE), OTHER_NETWORK.as_bytes());
    let after = node.tree();
    let there = |path: &str| (after.get(path).what.clone(), after.get(path).mode);
    let old = before.get(hidden);
    assert_eq!(there(hidden), (old.what.clone(), old.mode));
    assert!(!node.has(CONFLIST));
}

/// A link is set aside and restored as a link; a name with an escape sequence in it stays one harmless line.
#[test]
fn a_foreign_conflist_that_is_a_link_and_one_with_a_wild_name() {
    let node = Node::declared();
    node.declare_more("drift: {foreignConflists: disable}\n");
    node.write("etc/other/real.conflist", OTHER_NETWORK.as_bytes(), 0o644);
    node.write(CONF, b"", 0o644);
    fs::remove_file(node.path(CONF)).unwrap();
    fs::create_dir(node.path(CONF)).unwrap();
    std::os::unix::fs::symlink("/etc/other/real.conflist", node.path(FOREIGN)).unwrap();
    node.run("install").exits(0);
    assert!(!node.has(FOREIGN) && node.has(ASIDE));
    node.run("uninstall")
        .exits(0)
        .row("restored", &node.shown(FOREIGN), "");
    assert_eq!(
        fs::read_link(node.path(FOREIGN)).unwrap().to_str(),
        Some("/etc/other/real.conflist")
    );

    let node = Node::installed();
    let wild = "etc/cni/net.d/00-\n\u{1b}[31m.conflist";
    node.write(wild, OTHER_NETWORK.as_bytes(), 0o644);
    node.run("install")
        .exits(2)
        .says("error: precedence: 00-\\n\\u{1b}[31m.conflist sorts before 10-pods.conflist, so containerd and CRI-O take")
        .does_not_say("\u{1b}");
}

/// With `policy: report` nothing is written, and the exit code still says that something is wrong.
#[test]
fn a_foreign_conflist_is_reported_where_nothing_may_be_written() {
    let node = Node::installed();
    node.declare_more("drift: {policy: report}\n");
    node.run("install").exits(0);
    node.write(FOREIGN, OTHER_NETWORK.as_bytes(), 0o640);
    node.run("install")
        .exits(1)
        .says("error: precedence: 05-other.conflist sorts before 10-pods.conflist");
}

/// A drop-in changes our network without touching our file.
#[test]
fn a_drop_in_is_named() {
    let node = Node::installed();
    node.write(
        "etc/cni/net.d/pod-network/10-tuning.conf",
        br#"{"type": "tuning"}"#,
        0o644,
    );
    let before = node.tree();
    node.run("install").exits(2).says(
        "error: precedence: pod-network/10-tuning.conf is merged into the network (drop-in, libcni 1.3 and newer); \
         remove it, or set loadOnlyInlinedPlugins: true in network.conflist",
    );
    assert_eq!(before, node.tree());

    let text = fs::read_to_string(node.config()).unwrap();
    let text = text.replace(
        "    name: pod-network",
        "    name: pod-network\n    loadOnlyInlinedPlugins: true",
    );
    fs::write(node.config(), text).unwrap();
    node.run("install").exits(0);
}

/// Two files with one network name: nobody can say which of them is used.
#[test]
fn a_network_name_that_is_taken() {
    let node = Node::installed();
    node.write(
        "etc/cni/net.d/20-copy.conflist",
        &node.read(CONFLIST),
        0o644,
    );
    node.run("verify").exits(1).says("20-copy.conflist");
    node.run("install")
        .exits(2)
        .says("error: precedence: ")
        .says("20-copy.conflist");
}

fn rename(node: &Node) {
    let text = fs::read_to_string(node.config()).unwrap();
    fs::write(node.config(), text.replace("10-pods", "20-pods")).unwrap();
}

/// The conflist under its new name first, the old one away after that.
#[test]
fn a_renamed_conflist() {
    let node = Node::installed();
    rename(&node);
    let new = "etc/cni/net.d/20-pods.conflist";
    node.run("plan")
        .exits(1)
        .row("write", &node.shown(new), "is missing")
        .row(
            "remove",
            &node.shown(CONFLIST),
            "is ours, under an earlier name",
        );
    let install = node.run("install");
    let order = |path: &str| install.stdout.find(&node.shown(path)).unwrap();
    assert!(order(new) < order(CONFLIST), "{install}");
    install.exits(0);
    assert_eq!(node.names(CONF), ["20-pods.conflist"]);
    node.run("uninstall").exits(0);
    assert_eq!(node.names(CONF), [""; 0]);
}

/// As long as the new one cannot be written, the old one stays.
#[test]
fn a_renamed_conflist_that_cannot_be_written_yet() {
    let node = Node::installed();
    rename(&node);
    let text = fs::read_to_string(node.config()).unwrap();
    let text = text.replace("network:\n", "network:\n  requires: [{file: /run/ready}]\n");
    fs::write(node.config(), text).unwrap();
    let before = node.tree();
    node.run("install")
        .exits(2)
        .says("/run/ready does not exist yet");
    assert_eq!(before, node.tree());
    node.write("run/ready", b"", 0o600);
    node.run("install").exits(0);
    assert_eq!(node.names(CONF), ["20-pods.conflist"]);
}

/// If the old one was edited, it belongs to the person who edited it.
#[test]
fn an_edited_conflist_under_the_old_name_is_spared() {
    let node = Node::installed();
    let edited = OTHER_NETWORK.as_bytes();
    node.write(CONFLIST, edited, 0o644);
    rename(&node);
    node.run("install")
        .exits(2)
        .says("error: precedence: 10-pods.conflist sorts before 20-pods.conflist");
    assert_eq!(node.read(CONFLIST), edited);
    assert_eq!(node.names(CONF), ["10-pods.conflist", "20-pods.conflist"]);
}

/// A declaration without its network leaves the conflist: taking a node's network away is what uninstall is for.
#[test]
fn a_network_no_longer_declared() {
    let node = Node::installed();
    let text = fs::read_to_string(node.config()).unwrap();
    fs::write(node.config(), text.replace(NETWORK, "")).unwrap();
    let before = node.tree();
    node.run("install")
        .exits(0)
        .says("was placed earlier and is no longer declared; it stays until uninstall");
    assert_eq!(before, node.tree());
    node.run("uninstall").exits(0);
    assert!(!node.has(CONFLIST));
}

/// A conflist of ours that somebody edited belongs to them: under an earlier name it is a foreign conflist.
#[test]
fn an_edited_conflist_under_an_earlier_name_is_set_aside_on_request() {
    let node = Node::installed();
    let edited = String::from_utf8(node.read(CONFLIST)).unwrap();
    fs::write(node.path(CONFLIST), edited.replace("pod-network", "edited")).unwrap();
    rename(&node);
    node.run("install")
        .exits(2)
        .says("10-pods.conflist sorts before 20-pods.conflist");
    node.declare_more("drift: {foreignConflists: disable}\n");
    node.run("install")
        .exits(0)
        .row("set aside", &node.shown(CONFLIST), "sorts before ours");
}

/// A rival that its owner writes again and again is kept in every version. The newest one is in force again after
/// uninstall, also where it is an old one that came back.
#[test]
fn the_newest_version_of_a_rival_comes_back() {
    for (versions, newest, kept) in [
        (&["one", "two", "three"][..], "three", 2),
        (&["one", "two", "one"], "one", 1),
        (&["one", "one"], "one", 0),
        (&["one", "two", "three", "two"], "two", 2),
    ] {
        let node = Node::declared();
        node.declare_more("drift: {foreignConflists: disable}\n");
        for version in versions {
            node.write(FOREIGN, version.as_bytes(), 0o600);
            node.run("install").exits(0);
            assert!(!node.has(FOREIGN));
        }
        node.run("uninstall")
            .exits(0)
            .row("restored", &node.shown(FOREIGN), "");
        assert_eq!(node.read(FOREIGN), newest.as_bytes(), "{versions:?}");
        let names = node.names(CONF);
        let disabled = names.iter().filter(|name| name.contains("disabled"));
        assert_eq!(disabled.count(), kept, "{versions:?}");
    }
}

/// Names that are taken or would become too long: the rival is set aside all the same, nobody's file is lost, and each has
/// its name again.
#[test]
fn a_rival_is_set_aside_whatever_names_there_are() {
    let node = Node::declared();
    node.declare_more("drift: {foreignConflists: disable}\n");
    let long = |head: &str| format!("{CONF}/{head}{}.conflist", "ü".repeat(121));
    let rivals = [long("00"), long("01"), FOREIGN.to_owned()];
    for rival in &rivals {
        node.write(rival, rival.as_bytes(), 0o640);
    }
    node.write(ASIDE, b"somebody's", 0o600);
    fs::create_dir(node.path(&format!("{ASIDE}-2"))).unwrap();
    node.run("install").exits(0);
    node.run("verify").exits(0);
    assert_eq!(node.read(ASIDE), b"somebody's");
    assert_eq!(node.read(&format!("{ASIDE}-3")), FOREIGN.as_bytes());
    node.run("uninstall").exits(0);
    for rival in &rivals {
        assert_eq!(node.read(rival), rival.as_bytes());
    }
    assert_eq!(node.read(ASIDE), b"somebody's");
}

/// Thousands of rivals: all of them are set aside with one writing of the ledger, and it can be read again.
#[test]
fn thousands_of_rivals() {
    let node = Node::declared();
    node.declare_more("drift: {foreignConflists: disable}\n");
    let rival = |number: u32| format!("{CONF}/00-{number:04}-{}.conf", "x".repeat(180));
    for number in 0..3000 {
        node.write(&rival(number), b"{}", 0o644);
    }
    node.run("install").exits(0);
    node.run("verify").exits(0);
    node.run("uninstall").exits(0);
    assert_eq!(node.names(CONF).len(), 3000);
    assert!((0..3000).all(|number| node.has(&rival(number))));
}
