//! An envFile is taken when its writer has closed it, so that nothing half-written is published.

use std::fs::{self, File, OpenOptions};
use std::io::Write;

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::node::{CONFLIST, Node};
use crate::support::release::{NETWORK, RELEASE};

const ENV: &str = "run/flannel/subnet.env";

/// A node whose bridge has the MTU of the file.
fn node() -> Node {
    let node = Node::empty();
    let source = node.mirror("plugins.tgz", &RELEASE.bytes);
    let facts = format!("network:\n  facts: [{{envFile: /{ENV}}}]\n");
    let network = NETWORK.replace("network:\n", &facts);
    let network = network.replace("bridge: cni0", "bridge: cni0\n        mtu: ${MTU}");
    node.declare(&RELEASE.artifact(&source), &network);
    node
}

fn mtu(node: &Node) -> Option<Value> {
    let text = fs::read(node.path(CONFLIST)).ok()?;
    let conflist: Value = serde_json::from_slice(&text).unwrap();
    Some(conflist["plugins"][0]["mtu"].clone())
}

/// Opens the file as `>` of a shell does, and writes half of it.
fn begin_writing(node: &Node) -> File {
    let path = node.path(ENV);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap();
    file.write_all(b"MTU=14").unwrap();
    file
}

/// Questions make the agent read everything. Whatever it finds, 14 is never the value.
fn ask_in_vain(agent: &Agent, node: &Node, value: Option<&Value>) {
    for _ in 0..20 {
        let before = agent.passes();
        agent.get("/readyz");
        agent.until("asked", |agent| {
            agent.get("/readyz");
            agent.passes() > before
        });
        assert_eq!(mtu(node).as_ref(), value);
    }
}

#[test]
fn a_file_that_is_being_written_changes_nothing() {
    let node = node();
    node.write(ENV, b"MTU=1450\n", 0o644);
    let agent = Agent::ready(&node);
    assert_eq!(mtu(&node), Some(json!(1450)));
    let mut file = begin_writing(&node);
    ask_in_vain(&agent, &node, Some(&json!(1450)));
    assert!(agent.is_ready());
    file.write_all(b"00\n").unwrap();
    drop(file);
    agent.until_without_asking("taken", || mtu(&node) == Some(json!(1400)));
    agent.becomes_ready();

    // As most programs do it: a new file in one step.
    node.write("run/flannel/new", b"MTU=1380\n", 0o644);
    fs::rename(node.path("run/flannel/new"), node.path(ENV)).unwrap();
    agent.until_without_asking("renamed", || mtu(&node) == Some(json!(1380)));
    agent.stop();
}

#[test]
fn the_first_content_is_awaited_whole() {
    let node = node();
    fs::create_dir_all(node.path("run/flannel")).unwrap();
    let agent = Agent::start(&node);
    agent.becomes_unready("subnet.env does not exist yet");
    let mut file = begin_writing(&node);
    agent.becomes_unready("subnet.env is being written");
    ask_in_vain(&agent, &node, None);
    file.write_all(b"50\n").unwrap();
    drop(file);
    agent.until_without_asking("written", || mtu(&node) == Some(json!(1450)));
    agent.becomes_ready();
    agent.stop();
}
