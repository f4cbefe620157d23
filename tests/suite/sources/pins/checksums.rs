//! A checksum file beside the artifact: it works, with a warning.

use cni_keeper::model::Sha256;

use super::{ARCHIVE, line};
use crate::support::node::{BIN, Node};
use crate::support::release::{NETWORK, NEXT_RELEASE, PLUGINS, RELEASE};
use crate::support::server::{Reply, Server};

const CHECKSUM: &str = "/p.tgz.sha256";
const WEAK: &str = "the digest of cni-plugins v1.1.1 comes from a checksum file";

fn serving(checksum: &str) -> (Node, Server) {
    let server = Server::http();
    server.on(ARCHIVE, [Reply::ok(&RELEASE.bytes)]);
    server.on(CHECKSUM, [Reply::ok(checksum.as_bytes())]);
    let node = Node::empty();
    let mut artifact = RELEASE.artifact(&server.url(ARCHIVE));
    artifact.pin = format!("checksumUrl: {}", server.url(CHECKSUM));
    node.declare(&artifact, &format!("fetch: {{attempts: 1}}\n{NETWORK}"));
    (node, server)
}

#[test]
fn it_is_asked_once_and_warned_of_by_every_command() {
    for checksum in [line(&RELEASE.bytes), Sha256::of(&RELEASE.bytes).to_string()] {
        let (node, server) = serving(&checksum);
        node.run("validate")
            .exits(0)
            .says(&format!("artifacts[0].checksumUrl: {WEAK} over plain HTTP"));
        node.run("plan")
            .exits(1)
            .says("ask       the digest of cni-plugins v1.1.1 is not known yet")
            .says(&format!("warning   {WEAK}"));
        node.run("install")
            .exits(0)
            .says(&format!("warning   binaries: {WEAK}"));
        assert_eq!(node.names(BIN), PLUGINS);
        assert_eq!(server.count(CHECKSUM), 1);
        drop(server);
        node.run("install --offline").exits(0).says("nothing to do");
        node.run("verify")
            .exits(0)
            .says(&format!("binaries: {WEAK}"));
    }
}

#[test]
fn what_it_says_is_checked_and_so_is_what_comes() {
    for (checksum, reason) in [
        (
            line(&RELEASE.bytes).replace("p.tgz", "q.tgz"),
            "it is for a file of another name",
        ),
        (
            "<html>please log in</html>".to_owned(),
            "it is not a checksum of p.tgz: ",
        ),
        (
            line(&RELEASE.bytes).repeat(2),
            "it does not have exactly one line",
        ),
    ] {
        let (node, server) = serving(&checksum);
        node.run("install").exits(2).says(reason);
        assert_eq!((server.count(ARCHIVE), server.count(CHECKSUM)), (0, 1));
        assert!(!node.has(BIN));
    }
    let (node, _server) = serving(&line(&NEXT_RELEASE.bytes));
    node.run("install").exits(2).says("are not the pinned ones");
    assert!(!node.has(BIN));
}

#[test]
fn it_does_not_stand_beside_a_pin_and_comes_from_the_web() {
    let node = Node::empty();
    let mut artifact = RELEASE.artifact("https://mirror.example/p.tgz");
    artifact.more = "checksumUrl: https://mirror.example/p.tgz.sha256".to_owned();
    node.declare(&artifact, NETWORK);
    node.run("validate")
        .exits(64)
        .says("artifacts[0].checksumUrl: the artifact is pinned, which is safer");
    artifact.pin = String::new();
    artifact.more = "checksumUrl: file:///srv/p.tgz.sha256".to_owned();
    node.declare(&artifact, NETWORK);
    node.run("validate")
        .exits(64)
        .says("artifacts[0].checksumUrl: not a web address");
}
