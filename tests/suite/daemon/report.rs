//! `drift.policy: report`: the agent observes, reports, and writes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{BRIDGE, ReportedDrift, drifts, node};
use crate::support::agent::Agent;
use crate::support::namespace::{bind, in_private_mounts, remount};
use crate::support::node::{BIN, CONFLIST, Node, STATE};

const REPORT: &str = "drift: {policy: report}\n";

/// On a machine where nothing was ever installed, not even a state directory is made.
#[test]
fn an_empty_machine_stays_empty() {
    let node = Node::declared();
    node.declare_more(REPORT);
    let agent = Agent::start(&node);
    agent.becomes_unready("opt/cni/bin does not exist, so its 3 plugins are missing");
    // It observes as long as it is asked.
    for _ in 0..10 {
        assert!(!agent.is_ready());
    }
    assert_eq!(node.tree().paths(), Vec::<&str>::new());
    assert!(!node.has(STATE));
    assert_eq!(agent.downloads(), 0.0);
    agent.stop();
    assert_eq!(node.whole_tree().paths(), Vec::<&str>::new());
}

/// On an installed node, every damage is reported with the reason why it is not repaired, and is not repaired.
#[test]
fn damage_is_reported_and_stays() {
    let node = node();
    node.declare_more(REPORT);
    let before = node.whole_tree();
    let agent = Agent::ready(&node);
    let damage: [(&str, &str, &dyn Fn()); 4] = [
        (BRIDGE, "missing", &|| {
            fs::remove_file(node.path(BRIDGE)).unwrap();
        }),
        (CONFLIST, "content", &|| {
            fs::write(node.path(CONFLIST), "{}").unwrap();
        }),
        ("opt/cni/bin/loopback", "mode", &|| {
            let closed = fs::Permissions::from_mode(0o600);
            fs::set_permissions(node.path("opt/cni/bin/loopback"), closed).unwrap();
        }),
        ("etc/cni/net.d/00-foreign.conf", "runtime-blocked", &|| {
            node.write("etc/cni/net.d/00-foreign.conf", b"{", 0o600);
        }),
    ];
    for (file, kind, strike) in &damage {
        strike();
        let damaged = node.whole_tree();
        let answer = agent.get("/readyz");
        assert_eq!(answer.status, 503);
        let reported = drifts(&agent);
        let is_it =
            |reported: &&ReportedDrift| reported.path == node.shown(file) && reported.kind == *kind;
        let reported = reported
            .iter()
            .find(is_it)
            .unwrap_or_else(|| agent.fail(kind));
        assert_eq!(reported.outcome, "open");
        assert_eq!(reported.waiting.as_deref(), Some("drift.policy is report"));
        assert_eq!(damaged, node.whole_tree(), "nothing is written");
    }
    assert_eq!(drifts(&agent).len(), damage.len());
    let mut files: Vec<&str> = damage.iter().map(|(file, ..)| *file).collect();
    files.sort_unstable();
    let mut changed = before.changes(&node.whole_tree());
    changed.sort();
    assert_eq!(changed, files);
    let healed = "cni_keeper_repairs_total{result=\"healed\"}";
    assert_eq!(agent.metric(healed), 0.0);
    agent.stop();
}

/// As in manifests/overlays/report-only: the node's directories are mounted read-only, and nothing fails.
#[test]
fn a_node_that_is_mounted_read_only() {
    in_private_mounts(&a_node_that_is_mounted_read_only, |scratch| {
        let node = Node::within(scratch);
        node.declare_release();
        node.run("install").exits(0);
        node.declare_more(REPORT);
        node.listen_anywhere();
        let view = scratch.join("view");
        fs::create_dir(&view).unwrap();
        bind(&node.root(), &view);
        remount(&view, "ro");
        let before = node.whole_tree();
        let agent = Agent::spawn(node.command("run").env("CNI_KEEPER_HOST_ROOT", &view));
        agent.becomes_ready();
        assert_eq!(before, node.whole_tree());
        fs::remove_file(node.path(BRIDGE)).unwrap();
        let answer = agent.get("/readyz");
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains("bridge is missing"), "{answer:?}");
        agent.stop();
    });
}

/// Switched on while the agent runs, it stops repairs; switched off, the agent repairs what it had only reported.
#[test]
fn the_policy_is_switched_while_it_runs() {
    let node = node();
    let right = node.tree();
    let agent = Agent::ready(&node);
    let heal = fs::read_to_string(node.config()).unwrap();
    node.declare_more(REPORT);
    agent.until("configured only to report", |agent| {
        agent.json("/status")["declared"]["policy"] == "report"
    });
    fs::remove_dir_all(node.path(BIN)).unwrap();
    agent.becomes_unready("opt/cni/bin does not exist, so its 3 plugins are missing");
    assert!(!node.has(BIN));
    let reported = drifts(&agent).remove(0);
    assert_eq!(
        (&*reported.kind, &*reported.outcome),
        ("dir-missing", "open")
    );

    node.redeclare(&heal);
    agent.becomes_ready();
    let reported = drifts(&agent).remove(0);
    assert_eq!(
        (&*reported.kind, &*reported.outcome),
        ("dir-missing", "healed")
    );
    let lost = right.changes(&node.tree());
    // Foreign files are gone with the directory; the agent cannot restore them.
    assert!(lost.contains(&"opt/cni/bin/cilium-cni".to_owned()));
    assert_eq!(node.names(BIN), crate::support::release::PLUGINS);
    agent.stop();
}
