//! A cluster's nodes that do not all download at once.

use std::fs;

use crate::support::agent::Agent;
use crate::support::node::{CONFLIST, Node};
use crate::support::pack::{NETWORK, PACK};
use crate::support::server::{Reply, Server};

/// A node that has to download waits its part of the window, says so in one sentence that stays, and asks nobody
/// meanwhile; without a window it does not wait. A node whose disk is right never does.
#[test]
fn only_a_download_waits_its_part_of_the_window() {
    let server = Server::http();
    server.on("/p.tgz", [Reply::ok(&PACK.bytes)]);
    let node = Node::empty();
    let window = "fetch: {spread: 10000h}\n";
    let artifact = PACK.artifact(&server.url("/p.tgz"));
    node.declare(&artifact, &format!("{NETWORK}{window}"));
    let agent = Agent::start(&node);
    agent.becomes_unready("binaries: ");
    agent.until("told", |agent| {
        let told = agent.get("/readyz").body;
        told.contains("its download begins") && told.contains("fetch.spread")
    });
    let told = agent.get("/readyz").body;
    assert_eq!(agent.get("/readyz").body, told, "the same while it is true");
    assert_eq!(server.count("/p.tgz"), 0);
    let text = fs::read_to_string(node.config()).unwrap();
    node.redeclare(&text.replace(window, ""));
    agent.unasked("installed", || node.has(CONFLIST));
    agent.becomes_ready();
    agent.stop();
    node.redeclare(&text);
    Agent::ready(&node).stop();
    assert_eq!(server.count("/p.tgz"), 1);
}
