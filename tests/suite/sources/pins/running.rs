//! A running agent, and a list that comes late.

use super::{ARCHIVE, LIST, SIGNATURE, declare, line, mirror, publish};
use crate::support::agent::Agent;
use crate::support::node::{BIN, Node};
use crate::support::release::{NEXT_RELEASE, PLUGINS, RELEASE};
use crate::support::server::Reply;
use crate::support::signers::{ListSigner, has_tools};

/// The agent is not ready, and says why, until it gets and verifies the list. Then it is ready, also after a restart
/// without any server.
#[test]
fn it_waits_for_the_list_and_remembers_it() {
    if !has_tools() {
        return;
    }
    let signer = ListSigner::new();
    let list = line(&RELEASE.bytes);
    let server = mirror(&signer, &list);
    server.on(LIST, [Reply::status(404)]);
    let node = Node::empty();
    declare(&node, &server, &signer);
    let agent = Agent::start(&node);
    agent.becomes_unready("cannot learn what cni-plugins v1.1.1 must be: ");
    agent.becomes_unready("it answers HTTP 404");
    let declared = agent.json("/status")["declared"]["artifacts"][0].clone();
    assert!(declared["pin"].is_null(), "{declared}");
    let by = declared["pinnedBy"].as_str().unwrap();
    assert!(by.starts_with("signed list (key "), "{by}");

    publish(&server, &line(&NEXT_RELEASE.bytes), &signer.sign(&list));
    agent.becomes_unready("it is not the list that was signed");
    assert_eq!(server.count(ARCHIVE), 0);
    publish(&server, &list, &signer.sign(&list));
    agent.becomes_ready();
    assert_eq!(node.names(BIN), PLUGINS);
    let declared = agent.json("/status")["declared"]["artifacts"][0].clone();
    assert!(
        declared["pin"].as_str().unwrap().starts_with("sha256:"),
        "{declared}"
    );
    let reported = agent.get("/metrics").body;
    assert!(reported.contains("reason=\"signature\""), "{reported}");
    agent.stop();

    let asked = server.count(SIGNATURE);
    server.on(LIST, [Reply::status(404)]);
    let agent = Agent::ready(&node);
    assert_eq!(server.count(SIGNATURE), asked);
    agent.stop();
}
