//! What the agent says when the API server is of no use, and what it keeps secret.

use std::fs;

use crate::support::cluster::{Cluster, NETWORK, NODE, TOKEN, in_cluster, node_with};
use crate::support::node::{Node, Outcome, start};
use crate::support::server::Reply;
use crate::support::tls::Authority;

use super::facts::{agent, declare, member};

fn render(node: &Node) -> Outcome {
    start(&mut in_cluster(node, "render")).end()
}

/// Every line says what is wrong, where, and how to fix it.
#[test]
fn each_refusal_has_its_own_reason() {
    let (node, cluster) = member(NETWORK, "");
    let forbidden = br#"{"kind":"Status","message":"nodes \"worker-1\" is forbidden: User \"x\" cannot get resource"}"#;
    for (reply, message) in [
        (
            Reply::status(401),
            "does not accept the token (401); check that it is mounted",
        ),
        (
            Reply::ok(forbidden).with_status(403),
            "does not allow us to get nodes (403): nodes \"worker-1\" is forbidden: User \"x\" cannot get resource; \
             manifests/components/kubernetes-api grants it: resources: [nodes], verbs: [get]",
        ),
        (
            Reply::status(404),
            "has no worker-1 among its nodes (404); set --node-name (CNI_KEEPER_NODE_NAME)",
        ),
        (Reply::status(500), "answers 500"),
        (Reply::redirect("https://127.0.0.1:1/"), "answers 302"),
        (Reply::ok(b"<html>"), "sends something other than a node"),
        (
            Reply::ok(&vec![b' '; 3 << 20]),
            "sends more than 2097152 bytes",
        ),
        (
            Reply::cut_after(b"{}", 1),
            "the answer ended after 1 bytes of 2",
        ),
        (
            Reply::garbage(b"SSH-2.0\r\n"),
            "does not answer with proper HTTP",
        ),
    ] {
        cluster.server.on(NODE, [reply]);
        render(&node)
            .exits(2)
            .says(&format!("{} ", cluster.url()).replace(' ', ""))
            .says(message)
            .does_not_say(TOKEN);
    }
}

#[test]
fn an_api_server_that_says_nothing_is_given_up_on() {
    let (node, cluster) = member(NETWORK, "");
    cluster.server.on(NODE, [Reply::silent()]);
    render(&node)
        .exits(2)
        .says(&format!("{} did not answer within 10 s", cluster.url()));
}

#[test]
fn an_api_server_of_another_authority_gets_no_token() {
    let (node, cluster) = member(NETWORK, "");
    cluster.set_node(&node_with(Some("10.244.7.0/24")));
    fs::write(cluster.ca_file(), Authority::new().pem()).unwrap();
    render(&node)
        .exits(2)
        .says("its certificate was not issued by an authority in kubernetes.caFile");
    assert!(cluster.server.requests().is_empty());
    fs::write(cluster.ca_file(), "no PEM").unwrap();
    render(&node)
        .exits(2)
        .says("ca.crt holds no usable certificate");
}

#[test]
fn what_is_not_mounted_is_named() {
    let node = Node::empty();
    let cluster = Cluster::of(&node);
    declare(&node, &cluster, NETWORK, "");
    cluster.replace_token("\n");
    render(&node)
        .exits(2)
        .says("token holds no token; mount a ServiceAccount token there");
    fs::remove_file(cluster.ca_file().with_file_name("token")).unwrap();
    render(&node)
        .exits(2)
        .says("kubernetes.tokenFile: ")
        .says("kubernetes-api");
    cluster.replace_token(TOKEN);
    fs::remove_file(cluster.ca_file()).unwrap();
    render(&node).exits(2).says("kubernetes.caFile: ");
    let section = cluster.section("");
    let text = fs::read_to_string(node.config()).unwrap();
    fs::write(node.config(), text.replace(&section, "")).unwrap();
    render(&node)
        .exits(2)
        .says("KUBERNETES_SERVICE_HOST is not set; name it under kubernetes.server");
}

/// The token is in the header of each request and nowhere else, however much is logged.
#[test]
fn the_token_is_in_no_log_and_in_no_view() {
    let (node, cluster) = member(&format!("{NETWORK}drift: {{resync: 1s}}\n"), "");
    cluster
        .server
        .on(NODE, [Reply::status(500), Reply::status(401)]);
    node.listen_anywhere();
    let mut command = in_cluster(&node, "run --log-level trace");
    let traced = crate::support::agent::Agent::spawn(&mut command);
    traced.becomes_unready("does not accept the token");
    cluster.set_node(&node_with(Some("10.244.7.0/24")));
    traced.becomes_ready();
    for path in [
        "/status",
        "/flagz",
        "/statusz",
        "/drift",
        "/conflist",
        "/metrics",
        "/",
    ] {
        assert!(!traced.get(path).body.contains(TOKEN), "{path}");
    }
    let metrics = traced.get("/metrics").body;
    for result in ["ok", "unauthorized"] {
        let sample =
            format!("cni_keeper_kubernetes_requests_total{{verb=\"get\",result=\"{result}\"}}");
        assert!(metrics.contains(&sample), "{metrics}");
    }
    let log = traced.stop();
    assert!(!log.contains("secret-of-the"), "{log}");
    drop(agent(&node));
}
