//! Every way in which a file can stop being what was declared: seen at once, mended without any source, told.

use std::fs;

use crate::support::agent::Agent;
use crate::support::node::Node;
use crate::support::tree::Tree;

const BRIDGE: &str = "opt/cni/bin/bridge";

#[test]
fn a_removed_plugin() {
    let node = Node::installed();
    let right: Tree = node.tree();
    let agent = Agent::ready(&node);
    fs::remove_file(node.path(BRIDGE)).unwrap();
    agent.becomes_ready();
    assert!(right.looks_like(&node.tree()));
    println!("{}", serde_json::to_string_pretty(&agent.drift()).unwrap());
    println!("{}", agent.get("/status").body);
    println!("{}", agent.stop());
}
