//! Signatures over the artifact itself, made with a key.

use super::{ARCHIVE, REMEMBERED};
use crate::support::node::{BIN, Node};
use crate::support::release::{NETWORK, NEXT_RELEASE, PLUGINS, RELEASE};
use crate::support::server::{Reply, Server};
use crate::support::signers::{BlobSigner, has_tools};

const SIGNED: &str = "/v1.1.1/p.tgz.sig";

/// [`RELEASE`], pinned, and signed with that key.
fn declare(node: &Node, server: &Server, signer: &BlobSigner, signature: &str) {
    let mut artifact = RELEASE.artifact(&server.url(ARCHIVE));
    let key = signer.public_key(8);
    artifact.more = format!("signature:\n      {signature}\n      publicKey: |\n{key}");
    node.declare(&artifact, &format!("fetch: {{attempts: 1}}\n{NETWORK}"));
}

fn at(server: &Server) -> String {
    format!("url: {}", server.url("/{version}/p.tgz.sig"))
}

fn serving(signature: &str) -> Server {
    let server = Server::http();
    server.on(ARCHIVE, [Reply::ok(&RELEASE.bytes)]);
    server.on(SIGNED, [Reply::ok(signature.as_bytes())]);
    server
}

#[test]
fn a_signature_is_fetched_once_and_comes_before_the_artifact() {
    if !has_tools() {
        return;
    }
    let signer = BlobSigner::new();
    let server = serving(&signer.sign(&RELEASE.bytes));
    let node = Node::empty();
    declare(&node, &server, &signer, &at(&server));
    node.run("plan")
        .exits(1)
        .says("ask       the signature of cni-plugins v1.1.1 is not verified yet");
    node.run("install").exits(0);
    assert_eq!(node.names(BIN), PLUGINS);
    let paths: Vec<String> = server.requests().into_iter().map(|it| it.path).collect();
    assert_eq!(paths, [SIGNED, ARCHIVE]);
    drop(server);
    node.run("install --offline").exits(0).says("nothing to do");
    node.run("verify").exits(0);
}

/// On a node that is right already, a new `signature` is fetched, and nothing else.
#[test]
fn a_node_that_is_right_needs_the_signature_alone() {
    if !has_tools() {
        return;
    }
    let signer = BlobSigner::new();
    let server = serving(&signer.sign(&RELEASE.bytes));
    let node = Node::empty();
    node.declare(&RELEASE.artifact(&server.url(ARCHIVE)), NETWORK);
    node.run("install").exits(0);
    assert!(!node.has(REMEMBERED), "nobody was asked");
    declare(&node, &server, &signer, &at(&server));
    node.run("verify")
        .exits(1)
        .says("the signature of cni-plugins v1.1.1 is not verified yet");
    let tree = node.tree();
    node.run("install").exits(0).says("nothing to do");
    assert_eq!((server.count(ARCHIVE), server.count(SIGNED)), (1, 1));
    assert_eq!(tree, node.tree());
}

#[test]
fn a_signature_that_does_not_fit_stops_it_before_the_download() {
    if !has_tools() {
        return;
    }
    let signer = BlobSigner::new();
    let others = BlobSigner::new().sign(&RELEASE.bytes);
    let other_bytes = signer.sign(&NEXT_RELEASE.bytes);
    for (signature, reason) in [
        (others.as_str(), "by the key sha256:"),
        (
            &other_bytes,
            "the artifact was changed, or it was signed with another key",
        ),
        ("<html>", "it is not in base64"),
        ("{\"bundle\": 1}", "it is a bundle"),
        ("aGk=", "it is not an ECDSA signature in DER"),
    ] {
        let server = serving(signature);
        let node = Node::empty();
        declare(&node, &server, &signer, &at(&server));
        node.run("install").exits(2).says(reason);
        assert_eq!((server.count(ARCHIVE), server.count(SIGNED)), (0, 1));
        assert!(!node.has(BIN) && !node.has(REMEMBERED));
    }
}

/// One in the configuration is compared with the pin when it is read, by every command.
#[test]
fn a_signature_in_the_configuration_needs_nobody() {
    if !has_tools() {
        return;
    }
    let signer = BlobSigner::new();
    let server = serving("");
    let node = Node::empty();
    let good = format!("value: {}", signer.sign(&RELEASE.bytes));
    declare(&node, &server, &signer, &good);
    node.run("validate").exits(0);
    node.run("install").exits(0);
    assert_eq!(server.count(SIGNED), 0);
    let bad = format!("value: {}", signer.sign(&NEXT_RELEASE.bytes));
    declare(&node, &server, &signer, &bad);
    for command in ["validate", "plan", "install", "verify"] {
        node.run(command)
            .exits(64)
            .says("artifacts[0].signature: it is not a signature of sha256:");
    }
}

#[test]
fn mistakes_of_the_declaration() {
    if !has_tools() {
        return;
    }
    let server = serving("");
    let node = Node::empty();
    let rsa = BlobSigner::of(&["-algorithm", "RSA"]);
    declare(&node, &server, &rsa, &at(&server));
    node.run("validate").exits(64).says(
        "signature.publicKey: this is a key of the kind RSA; only ECDSA over P-256 is supported",
    );
    let signer = BlobSigner::new();
    declare(&node, &server, &signer, "");
    node.run("validate")
        .exits(64)
        .says("artifacts[0].signature: the signature itself is missing");
    declare(&node, &server, &signer, &at(&server));
    let text = std::fs::read_to_string(node.config()).unwrap();
    let digest = "ab".repeat(64);
    let start = text.find("sha256: {").unwrap();
    let end = start + text[start..].find('}').unwrap();
    let arch = crate::support::release::arch();
    let long = format!(
        "{}sha512: {{{arch}: {digest}{}",
        &text[..start],
        &text[end..]
    );
    node.redeclare(&long);
    node.run("validate")
        .exits(64)
        .says("the signature is over the artifact's SHA-256; write sha256 in place of sha512");
    let sidecar = format!(
        "{}checksumUrl: https://m.example/c{}",
        &text[..start],
        &text[end + 1..]
    );
    node.redeclare(&sidecar);
    node.run("validate")
        .exits(64)
        .says("a signature needs a digest that is trusted");
}
