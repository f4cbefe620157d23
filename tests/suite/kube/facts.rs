//! Facts of the conflist from the node's object.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::cluster::{Cluster, NETWORK, NODE, TOKEN, in_cluster, node_with};
use crate::support::node::{CONFLIST, Node, STATE, start};
use crate::support::release::RELEASE;
use crate::support::server::Reply;

/// A node of a cluster, with this network and more declared.
pub(super) fn member(network: &str, more: &str) -> (Node, Cluster) {
    let node = Node::empty();
    let cluster = Cluster::of(&node);
    declare(&node, &cluster, network, more);
    (node, cluster)
}

pub(super) fn declare(node: &Node, cluster: &Cluster, network: &str, more: &str) {
    let source = node.mirror("plugins.tgz", &RELEASE.bytes);
    let rest = format!("{network}{}", cluster.section(more));
    node.declare(&RELEASE.artifact(&source), &rest);
}

/// The agent in a pod of that node.
pub(super) fn agent(node: &Node) -> Agent {
    node.listen_anywhere();
    Agent::spawn(&mut in_cluster(node, "run"))
}

fn subnet(node: &Node) -> Value {
    let conflist: Value = serde_json::from_slice(&node.read(CONFLIST)).unwrap();
    conflist["plugins"][0]["ipam"]["ranges"][0][0]["subnet"].clone()
}

#[test]
fn a_node_gets_the_range_that_the_cluster_assigned_to_it() {
    let (node, cluster) = member(NETWORK, "");
    cluster.set_node(&node_with(Some("10.244.7.0/24")));
    start(&mut in_cluster(&node, "install")).end().exits(0);
    assert_eq!(subnet(&node), "10.244.7.0/24");
    let request = &cluster.server.requests()[0];
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("GET", NODE)
    );
    let authorization = format!("Bearer {TOKEN}");
    assert_eq!(
        request.header("authorization"),
        Some(authorization.as_str())
    );

    let remembered = node.path(&format!("{STATE}/node.json"));
    let mode = fs::metadata(remembered).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // The API server is gone: its last answer is used.
    cluster.server.on(NODE, [Reply::status(500)]);
    for command in ["verify", "plan", "render", "install"] {
        start(&mut in_cluster(&node, command))
            .end()
            .exits(0)
            .says("answers 500");
    }
    // The facts of another node are not used.
    let mut elsewhere = node.command("plan --node-name worker-2");
    start(&mut elsewhere)
        .end()
        .exits(1)
        .says("node.podCIDR is not known yet");

    start(&mut in_cluster(&node, "uninstall")).end().exits(0);
    assert!(!node.has(&format!("{STATE}/node.json")));
}

/// The cluster's ranges are also checked for values from the API.
#[test]
fn a_range_outside_of_the_clusters_is_refused() {
    let network = NETWORK.replace("  facts:", "  podRanges: [10.0.0.0/16]\n  facts:");
    let (node, cluster) = member(&network, "");
    cluster.set_node(&node_with(Some("10.244.7.0/24")));
    start(&mut in_cluster(&node, "validate"))
        .end()
        .exits(0)
        .says("only known on a node: node.podCIDR;");
    start(&mut in_cluster(&node, "install"))
        .end()
        .exits(2)
        .says("10.244.7.0/24 does not lie inside network.podRanges (10.0.0.0/16)");
}

#[test]
fn the_agent_waits_for_a_range_and_says_how_one_is_assigned() {
    let (node, cluster) = member(NETWORK, "");
    cluster.set_node(&node_with(None));
    let agent = agent(&node);
    agent.becomes_unready(
        "node worker-1 has no podCIDR; where no controller assigns one, give it a range of its own: \
         kubectl patch node worker-1 -p '{\"spec\":{\"podCIDR\":\"RANGE\"}}'",
    );
    assert!(!node.has(CONFLIST));
    cluster.set_node(&node_with(Some("10.244.8.0/24")));
    agent.becomes_ready();
    assert_eq!(subnet(&node), "10.244.8.0/24");
}

#[test]
fn a_label_that_changes_changes_the_conflist() {
    let network = NETWORK.replace("bridge: cni0", "bridge: \"br-${node.labels.rack}\"");
    let (node, cluster) = member(&format!("{network}drift: {{resync: 1s}}\n"), "");
    let mut object = node_with(Some("10.244.9.0/24"));
    cluster.set_node(&object);
    let agent = agent(&node);
    agent.becomes_ready();
    object["metadata"]["labels"] = json!({"rack": "r2"});
    cluster.set_node(&object);
    agent.until_without_asking("rendered anew", || {
        let conflist: Value = serde_json::from_slice(&node.read(CONFLIST)).unwrap();
        conflist["plugins"][0]["bridge"] == "br-r2"
    });
    object["metadata"]["labels"] = json!({});
    cluster.set_node(&object);
    agent.becomes_unready("kubectl label node worker-1 rack=VALUE");
    // The conflist stays as it is, since there is nothing newer.
    assert!(node.has(CONFLIST));
}

/// A restart needs no API server, and a node stays ready during an outage.
#[test]
fn without_the_api_server_the_agent_starts_with_what_it_knows() {
    let (node, cluster) = member(NETWORK, "");
    cluster.set_node(&node_with(Some("10.244.7.0/24")));
    let first = agent(&node);
    first.becomes_ready();
    first.stop();
    drop(cluster);
    fs::remove_file(node.path(CONFLIST)).unwrap();
    let again = agent(&node);
    again.becomes_ready();
    assert_eq!(subnet(&node), "10.244.7.0/24");
    again.until("the outage is reported", |agent| {
        let status = agent.json("/status");
        let failure = &status["kubernetes"]["purposes"]["node-facts"]["failure"];
        failure
            .as_str()
            .is_some_and(|reported| reported.contains("no connection to 127.0.0.1"))
    });
    assert!(again.is_ready());
}

/// Nothing is known yet: the agent is not ready, says why, and is alive. It is ready as soon as the API server answers.
#[test]
fn without_the_api_server_nothing_is_made_up() {
    let (node, cluster) = member(NETWORK, "");
    cluster.server.on(NODE, [Reply::silent()]);
    let agent = agent(&node);
    agent.becomes_unready("node.podCIDR is not known yet: the Kubernetes API has not answered");
    // The plugins do not wait for the missing answer: they are in place.
    agent.until("plugins are placed", |agent| {
        agent.get("/readyz/binaries").status == 200
    });
    assert_eq!(agent.get("/livez").status, 200);
    drop(agent);

    cluster.server.on(NODE, [Reply::status(500)]);
    let agent = self::agent(&node);
    agent.becomes_unready("node.podCIDR is not known yet: https://127.0.0.1:");
    cluster.set_node(&node_with(Some("10.244.7.0/24")));
    agent.becomes_ready();
}

#[test]
fn the_api_server_in_the_environment_may_have_an_ipv6_address() {
    let node = Node::empty();
    let cluster = Cluster::at("[::1]:0", &node);
    let section = cluster
        .section("")
        .replace(&format!("server: \"{}\", ", cluster.url()), "");
    let source = node.mirror("plugins.tgz", &RELEASE.bytes);
    node.declare(&RELEASE.artifact(&source), &format!("{NETWORK}{section}"));
    cluster.set_node(&node_with(Some("10.244.7.0/24")));
    let port = cluster.server.address().port().to_string();
    let mut install = in_cluster(&node, "install");
    install
        .env("KUBERNETES_SERVICE_HOST", "::1")
        .env("KUBERNETES_SERVICE_PORT", port)
        // No proxy can reach an address that exists only in the cluster.
        .env("HTTPS_PROXY", "http://127.0.0.1:9");
    start(&mut install).end().exits(0);
    assert_eq!(subnet(&node), "10.244.7.0/24");
}

/// A declared server is reached through the proxy of the environment, unless NO_PROXY names it.
#[test]
fn no_proxy_is_honoured() {
    let (node, cluster) = member(NETWORK, "");
    cluster.set_node(&node_with(Some("10.244.7.0/24")));
    let render = |no_proxy: &str| {
        let mut command = in_cluster(&node, "render");
        command
            .env("HTTPS_PROXY", "http://127.0.0.1:9")
            .env("NO_PROXY", no_proxy);
        start(&mut command).end()
    };
    render("127.0.0.0/8").exits(0);
    render("10.0.0.0/8")
        .exits(2)
        .says("no connection to 127.0.0.1");
}

#[test]
fn a_token_is_read_anew_for_each_request() {
    let (node, cluster) = member(&format!("{NETWORK}drift: {{resync: 1s}}\n"), "");
    cluster.set_node(&node_with(Some("10.244.7.0/24")));
    let agent = agent(&node);
    agent.becomes_ready();
    cluster.replace_token("rotated\n");
    agent.until_without_asking("the new token is used", || {
        let requests = cluster.server.requests();
        let last = requests.last().unwrap();
        last.header("authorization") == Some("Bearer rotated")
    });
}
