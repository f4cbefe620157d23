//! The conflist waits for gates, and for facts in files that do not exist yet. The plugins do not wait.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use crate::support::node::{BIN, CONF, CONFLIST, Node, start};
use crate::support::release::{NETWORK, PLUGINS, RELEASE, arch};
use crate::support::server::{Reply, Server};

/// A node whose configuration has more keys under `network`.
fn node(more: &str) -> Node {
    let node = Node::empty();
    let network = NETWORK.replace("network:\n", &format!("network:\n{more}"));
    let source = node.mirror("plugins.tgz", &RELEASE.bytes);
    node.declare(&RELEASE.artifact(&source), &network);
    node
}

/// While the gate is closed, it is named and only the conflist is held back. When it opens, the conflist is written.
fn holds_back(node: &Node, reported: &str, open: impl FnOnce()) {
    let line = format!("gates: {reported}");
    let closed = node.run("install");
    closed.exits(2);
    assert!(
        closed.errors().iter().any(|error| error.starts_with(&line)),
        "{line}\n{closed}"
    );
    assert_eq!(node.names(BIN), PLUGINS);
    assert!(!node.has(CONF), "not even its directory");
    node.run("plan").exits(1).says(&format!(
        "wait      the conflist is not written before its gates hold: {reported}"
    ));
    node.run("verify").exits(1).says("drift: conflist, gates\n");
    open();
    node.run("install")
        .exits(0)
        .row("write", &node.shown(CONFLIST), "is missing");
    node.run("verify").exits(0);
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn a_file() {
    let node = node("  requires: [{file: /run/flannel/subnet.env}]\n");
    let path = node.shown("run/flannel/subnet.env");
    holds_back(&node, &format!("file {path} does not exist yet"), || {
        node.write("run/flannel/subnet.env", b"", 0o644);
    });
}

#[test]
fn a_tcp_port() {
    let port = free_port();
    let node = node(&format!("  requires: [{{tcp: \"127.0.0.1:{port}\"}}]\n"));
    let reported = format!("tcp 127.0.0.1:{port} does not accept connections: Connection refused");
    let mut listener = None;
    holds_back(&node, &reported, || {
        listener = Some(TcpListener::bind(("127.0.0.1", port)).unwrap());
    });
}

/// The socket's path counts from the host root, as every path of the host does.
#[test]
fn a_unix_socket() {
    // The kernel takes 107 bytes of path.
    let dir = tempfile::tempdir().unwrap();
    let node = Node::within(dir.path());
    let network = NETWORK.replace(
        "network:\n",
        "network:\n  requires: [{unix: /run/a.sock}]\n",
    );
    node.declare(
        &RELEASE.artifact(&node.mirror("p.tgz", &RELEASE.bytes)),
        &network,
    );
    let mut listener = None;
    let reported = format!("file {} does not exist yet", node.shown("run/a.sock"));
    holds_back(&node, &reported, || {
        std::fs::create_dir(node.path("run")).unwrap();
        listener = Some(UnixListener::bind(node.path("run/a.sock")).unwrap());
    });

    // A socket file that nobody serves any more is no open gate.
    drop(listener);
    node.run("verify").exits(1).says(&format!(
        "unix {} does not accept connections: Connection refused",
        node.shown("run/a.sock")
    ));
}

/// A token in the URL is not shown.
#[test]
fn an_http_answer() {
    let server = Server::http();
    server.on("/status?token=SECRET", [Reply::status(503)]);
    let url = server.url("/status?token=SECRET");
    let node = node(&format!("  requires: [{{http: \"{url}\"}}]\n"));
    let reported = format!("http {}?… answered 503", server.url("/status"));
    holds_back(&node, &reported, || {
        server.on("/status?token=SECRET", [Reply::ok(b"up")]);
    });
    drop(server);
    node.run("verify")
        .exits(1)
        .says("/status?… cannot be asked: ")
        .does_not_say("SECRET");
}

/// When a gate closes again, nothing is removed.
#[test]
fn a_gate_that_closes_leaves_the_conflist() {
    let node = node("  requires: [{file: /run/ready}]\n");
    node.write("run/ready", b"", 0o644);
    node.run("install").exits(0);
    std::fs::remove_file(node.path("run/ready")).unwrap();
    let before = node.tree();
    node.run("install").exits(2).says("error: gates: file ");
    assert_eq!(before, node.tree());
}

/// The file that flannel writes once it knows the node's subnet.
#[test]
fn an_env_file_that_is_not_there_yet() {
    let node = node("  facts: [{envFile: /run/flannel/subnet.env}]\n");
    let text = std::fs::read_to_string(node.config()).unwrap();
    let text = text.replace("10.88.0.0/16", "\"${FLANNEL_SUBNET}\"");
    let text = text.replace("bridge: cni0", "mtu: ${FLANNEL_MTU}");
    std::fs::write(node.config(), text).unwrap();
    let reported = format!(
        "{} does not exist yet",
        node.shown("run/flannel/subnet.env")
    );
    node.run("plan").exits(1).says(&format!(
        "the conflist cannot be rendered yet: {reported}\n"
    ));
    node.run("render").exits(2).says(&format!(
        "error: the conflist cannot be rendered yet: {reported}\n"
    ));
    node.run("install").exits(2).says(&format!(
        "error: conflist: cannot be rendered yet: {reported}\n"
    ));
    assert_eq!(node.names(BIN), PLUGINS);
    assert!(!node.has(CONFLIST));

    let file = b"FLANNEL_SUBNET=10.244.3.0/24\nFLANNEL_MTU=1450\n";
    node.write("run/flannel/subnet.env", file, 0o644);
    node.run("install").exits(0);
    let conflist: serde_json::Value = serde_json::from_slice(&node.read(CONFLIST)).unwrap();
    let bridge = &conflist["plugins"][0];
    assert_eq!(bridge["mtu"], 1450);
    assert_eq!(bridge["ipam"]["ranges"][0][0]["subnet"], "10.244.3.0/24");

    // The file is lost with the next reboot, as all of /run. The conflist stays, and the missing file is named.
    std::fs::remove_file(node.path("run/flannel/subnet.env")).unwrap();
    let before = node.tree();
    node.run("install").exits(2).says(&reported);
    assert_eq!(before, node.tree());

    node.write("run/flannel/subnet.env", b"no assignment\n", 0o644);
    node.run("install")
        .exits(2)
        .says("error: conflist: cannot be rendered yet: ")
        .says("line 1: there is no '='; write KEY=value\n");

    // The file is only half written. Binaries are repaired nevertheless.
    node.write("run/flannel/subnet.env", b"FLANNEL_MTU=1450\n", 0o644);
    std::fs::remove_file(node.path(&format!("{BIN}/bridge"))).unwrap();
    node.run("install")
        .exits(2)
        .says("subnet.env does not set FLANNEL_SUBNET yet\n");
    assert_eq!(node.names(BIN), PLUGINS);
}

/// Node name, environment and declared values, the later over the earlier.
#[test]
fn facts_from_everywhere() {
    let node = node("  facts: [{values: {vlan: 7, list: [1, 2]}}]\n");
    let text = std::fs::read_to_string(node.config()).unwrap();
    let text = text.replace(
        "bridge: cni0",
        "bridge: \"br-${node.name}-${env.ZONE}\"\n        vlan: ${vlan}\n        x-list: ${list}\n        x-arch: ${host.arch}",
    );
    std::fs::write(node.config(), text).unwrap();
    let mut command = node.command("render --node-name w1");
    let rendered = start(command.env("ZONE", "b").env("CNI_KEEPER_NODE_NAME", "no")).end();
    let bridge = &rendered.exits(0).json()["plugins"][0];
    assert_eq!(bridge["bridge"], "br-w1-b");
    assert_eq!(bridge["vlan"], 7);
    assert_eq!(bridge["x-list"], serde_json::json!([1, 2]));
    assert_eq!(bridge["x-arch"], arch().as_str());
}
