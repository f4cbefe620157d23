//! What the agent reports to the Kubernetes API, and that nothing waits for it.

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::cluster::{Cluster, EVENTS, NODE, STATUS, node_with};
use crate::support::node::{BIN, CONF, CONFLIST, Node};
use crate::support::release::NETWORK;
use crate::support::server::Reply;
use crate::support::without_asking::has_spares;

use super::facts::{agent, member};

/// A network that waits for a file.
fn gated() -> String {
    NETWORK.replace("network:\n", "network:\n  requires: [{file: /run/gate}]\n")
}

/// The agent's conditions that were written so far.
fn conditions(cluster: &Cluster) -> Vec<Value> {
    let reported = cluster.bodies("PATCH", STATUS);
    reported
        .into_iter()
        .map(|mut patch| patch["status"]["conditions"][0].take())
        .collect()
}

fn statuses(cluster: &Cluster) -> Vec<String> {
    let conditions = conditions(cluster);
    let status = |condition: &Value| condition["status"].as_str().unwrap().to_owned();
    conditions.iter().map(status).collect()
}

fn until_without_asking(agent: &Agent, what: &str, holds: impl Fn() -> bool) {
    agent.until_without_asking(what, holds);
}

#[test]
fn the_condition_follows_readiness_with_the_reason() {
    let (node, cluster) = member(&gated(), ", condition: true");
    cluster.set_node(&node_with(None));
    cluster.accept_changes();
    let agent = agent(&node);
    until_without_asking(&agent, "reported that it waits", || {
        statuses(&cluster) == ["False"]
    });
    node.write("run/gate", b"", 0o644);
    until_without_asking(&agent, "reported that it is ready", || {
        statuses(&cluster) == ["False", "True"]
    });
    node.write(&format!("{CONF}/00-foreign.conflist"), b"{", 0o644);
    until_without_asking(
        &agent,
        "reported that a foreign conflist is in the way",
        || statuses(&cluster).len() == 3,
    );

    let requests = cluster.server.requests();
    let patch = requests
        .iter()
        .find(|request| request.path == STATUS)
        .unwrap();
    assert_eq!(
        patch.header("content-type"),
        Some("application/strategic-merge-patch+json")
    );
    let reported = conditions(&cluster);
    assert_eq!(reported[0]["type"], "cni-keeper.dev/Ready");
    let reasons = [
        &reported[0]["reason"],
        &reported[1]["reason"],
        &reported[2]["reason"],
    ];
    assert_eq!(reasons, ["Waiting", "AsDeclared", "ConflistNotEffective"]);
    let message = reported[2]["message"].as_str().unwrap();
    assert!(
        message.starts_with("precedence: ") && message.contains("00-foreign.conflist"),
        "{message}"
    );
    assert!(
        reported[1]["lastTransitionTime"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    agent.stop();
    assert_eq!(statuses(&cluster), ["False", "True", "False"]);
}

/// A restart of the agent is no transition of the node.
#[test]
fn the_time_of_the_last_transition_outlives_the_agent() {
    let (node, cluster) = member(NETWORK, ", condition: true");
    let mut object = node_with(None);
    object["status"]["conditions"] = json!([
        {"type": "cni-keeper.dev/Ready", "status": "True", "lastTransitionTime": "2021-01-01T00:00:00Z"},
    ]);
    cluster.set_node(&object);
    cluster.accept_changes();
    let agent = agent(&node);
    until_without_asking(&agent, "reported", || !conditions(&cluster).is_empty());
    let reported = &conditions(&cluster)[0];
    assert_eq!(reported["lastTransitionTime"], "2021-01-01T00:00:00Z");
    assert_ne!(reported["lastHeartbeatTime"], "2021-01-01T00:00:00Z");
}

#[test]
fn drift_becomes_an_event_of_the_node_and_the_same_again_does_not() {
    let (node, cluster) = member(NETWORK, ", events: true");
    cluster.accept_changes();
    let agent = agent(&node);
    agent.becomes_ready();
    until_without_asking(&agent, "two copies of each plugin", || has_spares(&node));
    for _ in 0..3 {
        std::fs::remove_file(node.path(&format!("{BIN}/bridge"))).unwrap();
        agent.becomes_ready();
    }
    std::fs::remove_file(node.path(CONFLIST)).unwrap();
    until_without_asking(&agent, "reports the conflist", || {
        let reported = cluster.bodies("POST", EVENTS);
        reported
            .iter()
            .any(|event| event["message"].as_str().unwrap().contains("10-pods"))
    });
    let reported = cluster.bodies("POST", EVENTS);
    let [bridge, _conflist] = &reported[..] else {
        panic!("{reported:#?}")
    };
    assert_eq!(bridge["kind"], "Event");
    assert_eq!(bridge["reason"], "DriftHealed");
    assert_eq!(bridge["involvedObject"]["kind"], "Node");
    assert_eq!(bridge["involvedObject"]["uid"], "worker-1");
    assert_eq!(bridge["metadata"]["namespace"], "default");
    let message = bridge["message"].as_str().unwrap();
    assert!(
        message.contains("/bridge is missing; placed from the store within "),
        "{message}"
    );
}

/// Another client changes the taints at the same moment: none of its changes is lost.
#[test]
fn the_startup_taint_goes_once_the_node_is_ready_and_no_other_does() {
    let (node, cluster) = member(&gated(), ", removeTaint: cni-keeper.dev/not-ready");
    let other = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    let ours = json!({"key": "cni-keeper.dev/not-ready", "value": "true", "effect": "NoSchedule"});
    let tainted = |taints: Value| {
        let mut object = node_with(None);
        object["spec"]["taints"] = taints;
        Reply::ok(object.to_string().as_bytes())
    };
    cluster.server.on(
        NODE,
        [
            tainted(json!([other, ours])),
            Reply::ok(b"{\"message\":\"the server rejected our request\"}").with_status(422),
            tainted(json!([ours, other])),
            Reply::ok(b"{}"),
            tainted(json!([other])),
        ],
    );
    let agent = agent(&node);
    agent.becomes_unready("gates");
    agent.until("plugins are placed", |agent| {
        agent.get("/readyz/binaries").status == 200
    });
    assert!(cluster.server.requests().is_empty(), "it is not ready");
    node.write("run/gate", b"", 0o644);
    until_without_asking(&agent, "two tries", || {
        cluster.bodies("PATCH", NODE).len() == 2
    });
    let reported = cluster.bodies("PATCH", NODE);
    let removal = |place: usize| {
        let path = format!("/spec/taints/{place}");
        json!([{"op": "test", "path": path, "value": ours}, {"op": "remove", "path": path}])
    };
    assert_eq!(reported, [removal(1), removal(0)]);
    let patch = cluster.server.requests();
    let patch = patch
        .iter()
        .find(|request| request.method == "PATCH")
        .unwrap();
    assert_eq!(
        patch.header("content-type"),
        Some("application/json-patch+json")
    );
    let log = agent.stop();
    assert!(
        log.contains("refuses the change (422): the server rejected our request"),
        "{log}"
    );
    assert!(
        log.contains("the taint cni-keeper.dev/not-ready is removed"),
        "{log}"
    );
}

/// An API server that accepts everything and answers nothing.
#[test]
fn nobody_waits_for_the_api_server() {
    let all = ", condition: true, events: true, removeTaint: cni-keeper.dev/not-ready";
    let (node, cluster) = member(NETWORK, all);
    for path in [NODE, STATUS, EVENTS] {
        cluster.server.on(path, [Reply::silent()]);
    }
    let agent = agent(&node);
    agent.becomes_ready();
    cluster.server.wait_for(NODE);
    for _ in 0..3 {
        std::fs::remove_file(node.path(CONFLIST)).unwrap();
        until_without_asking(&agent, "healed", || node.has(CONFLIST));
    }
    assert!(agent.is_ready());
    assert_eq!(node.names(CONF), ["10-pods.conflist"]);
    // The hanging request does not delay the end either.
    agent.stop();
}

/// A refusal of the API server is reported where operators look, and changes nothing else.
#[test]
fn a_missing_permission_is_reported_and_the_node_is_ready_all_the_same() {
    let (node, cluster) = member(NETWORK, ", condition: true");
    cluster.set_node(&node_with(None));
    cluster.server.on(STATUS, [Reply::status(403)]);
    let agent = agent(&node);
    agent.until("reported", |agent| {
        let status = agent.json("/status");
        let failure = &status["kubernetes"]["purposes"]["condition"]["failure"];
        let rule = "resources: [nodes/status], verbs: [patch]";
        failure
            .as_str()
            .is_some_and(|reported| reported.contains(rule))
    });
    assert!(agent.is_ready());
    let refused = "cni_keeper_kubernetes_requests_total{verb=\"patch\",result=\"forbidden\"}";
    assert!(agent.metric(refused) >= 1.0);
    cluster.accept_changes();
    until_without_asking(&agent, "reported after all", || {
        statuses(&cluster).last().is_some_and(|last| last == "True")
    });
}

/// Reports are off unless they are declared, and can be switched on while the agent runs.
#[test]
fn nothing_is_reported_unless_that_is_declared() {
    let (node, cluster) = member(NETWORK, "");
    cluster.set_node(&node_with(None));
    cluster.accept_changes();
    let agent = agent(&node);
    agent.becomes_ready();
    assert!(cluster.server.requests().is_empty());
    assert_eq!(agent.json("/status").get("kubernetes"), None);
    assert!(!agent.get("/metrics").body.contains("kubernetes"));
    switch(&node, &cluster, "", ", condition: true");
    until_without_asking(&agent, "reported", || statuses(&cluster) == ["True"]);
}

/// Replaces the section `kubernetes` of the configuration.
fn switch(node: &Node, cluster: &Cluster, from: &str, to: &str) {
    let text = std::fs::read_to_string(node.config()).unwrap();
    let (from, to) = (cluster.section(from), cluster.section(to));
    assert!(text.contains(&from));
    node.redeclare(&text.replace(&from, &to));
}
