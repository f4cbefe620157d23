//! Gates and facts of the conflist change while the agent runs.

use std::fs;
use std::net::TcpListener;

use crate::support::agent::Agent;
use crate::support::node::{BIN, CONF, CONFLIST, Node};
use crate::support::release::{NETWORK, PLUGINS, RELEASE};

const ENV: &str = "run/flannel/subnet.env";

fn node(network: &str) -> Node {
    let node = Node::empty();
    let source = node.mirror("plugins.tgz", &RELEASE.bytes);
    node.declare(&RELEASE.artifact(&source), network);
    node
}

fn waiting_for(more: &str) -> Node {
    node(&NETWORK.replace("network:\n", &format!("network:\n{more}")))
}

/// The conflist is written as soon as the file exists, also if its directories do not exist yet, and without a request.
#[test]
fn a_file_gate_opens() {
    let node = waiting_for("  requires: [{file: /run/flannel/subnet.env}]\n");
    let agent = Agent::start(&node);
    let reported = format!("gates: file {} does not exist yet", node.shown(ENV));
    agent.becomes_unready(&reported);
    agent.until("placed", |agent| {
        agent.get("/readyz/binaries").status == 200
    });
    assert_eq!(node.names(BIN), PLUGINS);
    assert!(!node.has(CONF));
    fs::create_dir(node.path("run")).unwrap();
    agent.becomes_unready(&reported);
    node.write(ENV, b"", 0o644);
    agent.until_without_asking("written", || node.has(CONFLIST));
    agent.becomes_ready();
    agent.stop();
}

/// A gate that accepts a connection and gives no answer is reported as closed. Repairs and requests do not wait for it.
#[test]
fn a_gate_that_hangs_keeps_nobody_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let node = waiting_for(&format!("  requires: [{{http: \"http://{address}/\"}}]\n"));
    let agent = Agent::start(&node);
    agent.becomes_unready("did not answer within");
    agent.until("placed", |agent| {
        agent.get("/readyz/binaries").status == 200
    });
    for plugin in PLUGINS {
        fs::remove_file(node.path(BIN).join(plugin)).unwrap();
        agent.until("repaired", |agent| {
            let answer = agent.get("/readyz/binaries");
            assert!(!answer.body.contains("look: "), "{plugin}: {answer:?}");
            answer.status == 200
        });
    }
    assert!(!node.has(CONF));
    agent.stop();
}

/// When a gate closes again, nothing is removed. It is reported, and once it opens, the node is ready again.
#[test]
fn a_tcp_gate_opens_and_closes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let node = waiting_for(&format!("  requires: [{{tcp: \"{address}\"}}]\n"));
    node.declare_more("drift: {resync: 1s}\n");
    let agent = Agent::start(&node);
    let reported = format!("gates: tcp {address} does not accept connections: Connection refused");
    agent.becomes_unready(&reported);
    assert!(!node.has(CONF));
    let listener = TcpListener::bind(address).unwrap();
    agent.until_without_asking("written", || node.has(CONFLIST));
    agent.becomes_ready();
    let conflist = node.tree();
    drop(listener);
    agent.becomes_unready(&reported);
    assert_eq!(conflist, node.tree());
    let _listener = TcpListener::bind(address).unwrap();
    agent.becomes_ready();
    assert_eq!(conflist, node.tree());
    agent.stop();
}

/// A fact appears, changes and disappears: the conflist follows, and is never written with a fact missing.
#[test]
fn a_fact_in_a_file() {
    let network = NETWORK
        .replace(
            "network:\n",
            &format!("network:\n  facts: [{{envFile: /{ENV}}}]\n"),
        )
        .replace("bridge: cni0", "mtu: \"${FLANNEL_MTU}\"");
    let node = node(&network);
    let agent = Agent::start(&node);
    agent.becomes_unready("conflist: ");
    assert!(
        agent.get("/readyz").body.contains(&node.shown(ENV)),
        "{:?}",
        agent.get("/readyz")
    );
    assert!(!node.has(CONF));
    let holds = |mtu: &str| {
        let text = fs::read_to_string(node.path(CONFLIST)).unwrap_or_default();
        let text: String = text.split_whitespace().collect();
        text.contains(&format!("\"mtu\":{mtu}"))
    };
    for mtu in ["1450", "1400"] {
        node.write(ENV, format!("FLANNEL_MTU={mtu}\n").as_bytes(), 0o644);
        agent.until_without_asking("rendered", || holds(mtu));
        agent.becomes_ready();
    }
    assert_eq!(
        agent.drift().len(),
        0,
        "a new fact is no drift: {:?}",
        agent.drift()
    );
    // Gone, as after a reboot: the conflist stays, and the reason is reported.
    fs::remove_file(node.path(ENV)).unwrap();
    agent.becomes_unready("conflist: ");
    assert!(holds("1400"));
    node.write(ENV, b"FLANNEL_MTU=1400\n", 0o644);
    agent.becomes_ready();
    agent.stop();
}
