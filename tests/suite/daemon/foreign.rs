//! Foreign files in the configuration directory, seen by a running agent.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{ReportedDrift, drifts, node, only_drift};
use crate::support::agent::Agent;
use crate::support::node::{CONF, Node};

const FOREIGN: &str = "etc/cni/net.d/05-other.conflist";
const ASIDE: &str = "etc/cni/net.d/05-other.conflist.cni-keeper-disabled";
const OTHER_NETWORK: &str =
    r#"{"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "bridge"}]}"#;
const DISABLE: &str = "drift: {foreignConflists: disable}\n";

/// Puts a file there in one step: otherwise the agent may see it while it is still empty.
fn put(node: &Node, file: &str, content: &str) {
    let new = node.config().with_file_name("new");
    fs::write(&new, content).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o640)).unwrap();
    let path = node.path(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::rename(new, path).unwrap();
}

/// Puts a file before ours and removes it again. It is reported as long as it is there, and never touched.
fn is_reported(file: &str, content: &str, kind: &str, reason: &str) -> ReportedDrift {
    let node = node();
    let right = node.tree();
    let agent = Agent::ready(&node);
    put(&node, file, content);
    let disturbed = node.tree();
    let answer = agent.get("/readyz");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains(reason), "{answer:?}");
    let reported = only_drift(&agent);
    assert_eq!(
        (&*reported.kind, &*reported.outcome),
        (kind, "open"),
        "{reported:?}"
    );
    assert_eq!(reported.path, node.shown(file));
    let left_alone = Some("drift.foreignConflists is report").filter(|_| kind != "dropin");
    assert_eq!(reported.waiting.as_deref(), left_alone);
    assert_eq!(agent.get("/livez").status, 200);
    assert_eq!(disturbed.changes(&node.tree()), Vec::<String>::new());

    fs::remove_file(node.path(file)).unwrap();
    assert!(agent.is_ready());
    assert_eq!(only_drift(&agent).outcome, "gone");
    // A directory that was made for it may stay.
    let left = right.changes(&node.tree());
    assert!(left.iter().all(|path| file.starts_with(path)), "{left:?}");
    agent.stop();
    reported
}

/// Fault 30: named, never deleted.
#[test]
fn fault_30_a_conflist_that_sorts_before_ours() {
    let reported = is_reported(
        FOREIGN,
        OTHER_NETWORK,
        "shadowed",
        "05-other.conflist sorts before 10-pods.conflist, so containerd and CRI-O take its network 'other'",
    );
    assert_eq!(reported.before, "network 'other'");
    assert_eq!(reported.what, "sorts before ours, with the network 'other'");
}

/// Fault 34: a file that stops containerd from loading anything. It does not stop the agent.
#[test]
fn fault_34_a_malformed_file_that_sorts_before_ours() {
    for content in ["", "{\"name\": ", "[]", "\u{feff}{}", "{\"plugins\": 3}"] {
        let reported = is_reported(
            FOREIGN,
            content,
            "runtime-blocked",
            "05-other.conflist sorts before 10-pods.conflist and does not load",
        );
        assert!(
            reported
                .what
                .starts_with("sorts before ours and does not load: ")
        );
    }
}

/// Fault 34: a malformed file that sorts after ours stops no runtime, and `/conflist` shows it.
#[test]
fn fault_34_a_malformed_file_that_sorts_behind_ours() {
    let node = node();
    let agent = Agent::ready(&node);
    node.write("etc/cni/net.d/20-late.conflist", b"{\"name\": ", 0o644);
    assert!(agent.is_ready());
    let view = agent.json("/conflist");
    assert_eq!(view["file"], "10-pods.conflist");
    let candidates = view["candidates"].as_array().unwrap();
    let late = candidates
        .iter()
        .find(|it| it["name"] == "20-late.conflist");
    assert_ne!(late.unwrap()["error"], serde_json::Value::Null);
    assert_eq!(drifts(&agent).len(), 0);
    agent.stop();
}

/// Files in a directory with the network's name become a part of the network.
#[test]
fn a_drop_in() {
    let reported = is_reported(
        "etc/cni/net.d/pod-network/10-sneaky.conf",
        r#"{"type": "tuning"}"#,
        "dropin",
        "pod-network/10-sneaky.conf is merged into the network",
    );
    assert_eq!(reported.before, "a drop-in");
}

/// Fault 30 with `disable`: a foreign conflist is set aside as soon as it comes, and restored by uninstall.
#[test]
fn fault_30_a_foreign_conflist_is_set_aside_when_that_is_declared() {
    let node = node();
    node.declare_more(DISABLE);
    let agent = Agent::ready(&node);
    let right = node.tree();
    put(&node, FOREIGN, OTHER_NETWORK);
    agent.becomes_ready();
    let reported = only_drift(&agent);
    assert_eq!(
        (&*reported.kind, reported.how.as_deref()),
        ("shadowed", Some("set aside"))
    );
    assert_eq!(right.changes(&node.tree()), [ASIDE]);
    assert_eq!(node.read(ASIDE), OTHER_NETWORK.as_bytes());
    let aside = node.tree().get(ASIDE).clone();
    assert_eq!(aside.mode, 0o640);
    // Also a file that would stop the runtime.
    put(&node, "etc/cni/net.d/06-broken.conf", "{");
    agent.becomes_ready();
    let reported = drifts(&agent).remove(0);
    assert_eq!(
        (&*reported.kind, reported.how.as_deref()),
        ("runtime-blocked", Some("set aside"))
    );
    agent.stop();

    node.run("uninstall").exits(0);
    let after = node.tree();
    assert!(after.get(FOREIGN).has_same_content(&aside));
    assert_eq!(node.read("etc/cni/net.d/06-broken.conf"), b"{");
    let ours = |name: &String| name.contains("keeper") || name == "10-pods.conflist";
    assert!(!node.names(CONF).iter().any(ours));
}

/// Fault 30: a writer that keeps writing the same file does not fill the directory with files that are set aside.
#[test]
fn fault_30_the_same_foreign_conflist_is_set_aside_under_the_same_name() {
    let node = node();
    node.declare_more(DISABLE);
    let agent = Agent::ready(&node);
    let right = node.tree();
    for _ in 0..3 {
        put(&node, FOREIGN, OTHER_NETWORK);
        agent.becomes_ready();
    }
    assert_eq!(right.changes(&node.tree()), [ASIDE]);
    // Another content is another file, so nothing is lost.
    put(&node, FOREIGN, "{");
    agent.becomes_ready();
    assert_eq!(node.read(ASIDE), OTHER_NETWORK.as_bytes());
    assert_eq!(node.read(&format!("{ASIDE}-2")), b"{");
    agent.stop();
}

/// The setting changes while the agent runs. Switched on, present files are set aside; switched off, new ones stay.
#[test]
fn setting_foreign_conflists_aside_is_switched_while_it_runs() {
    let node = Node::installed();
    put(&node, FOREIGN, OTHER_NETWORK);
    let agent = Agent::start(&node);
    agent.becomes_unready("05-other.conflist sorts before");
    let declared = fs::read_to_string(node.config()).unwrap();
    node.declare_more(DISABLE);
    agent.becomes_ready();
    assert!(node.has(ASIDE) && !node.has(FOREIGN));

    node.redeclare(&declared);
    agent.until("configured to leave foreign conflists alone", |agent| {
        agent.json("/status")["declared"]["foreignConflists"] == "report"
    });
    put(&node, FOREIGN, OTHER_NETWORK);
    agent.becomes_unready("05-other.conflist sorts before");
    assert!(node.has(FOREIGN) && node.has(ASIDE));
    agent.stop();
}
