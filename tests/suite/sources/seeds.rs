//! A seed that somebody filled by hand: the upstream archive under its own name.

use std::fs;

use crate::support::node::{BIN, Node};
use crate::support::release::{NETWORK, NEXT_RELEASE, PLUGINS, RELEASE};

/// The name of the archive in each of these sources.
const NAME: &str = "cni-plugins-linux-v1.1.1.tgz";

const SOURCES: [&str; 5] = [
    "https://no-such-host.invalid/download/v1.1.1/cni-plugins-linux-v1.1.1.tgz",
    "https://no-such-host.invalid/cni-plugins-linux-v1.1.1.tgz?sig=a/b",
    "http://no-such-host.invalid:8080/a//cni-plugins-linux-v1.1.1.tgz#part",
    "file:///no/such/directory/cni-plugins-linux-v1.1.1.tgz",
    "https://no-such-host.invalid/{version}/cni-plugins-{os}-{version}.tgz",
];

fn declared(sources: &[&str]) -> Node {
    let node = Node::empty();
    let mut artifact = RELEASE.artifact("");
    artifact.sources = sources.iter().map(|source| (*source).to_owned()).collect();
    node.declare(&artifact, &format!("fetch: {{attempts: 1}}\n{NETWORK}"));
    fs::create_dir(node.config().with_file_name("seed")).unwrap();
    node
}

fn put(node: &Node, name: &str, bytes: &[u8]) {
    fs::write(node.config().with_file_name("seed").join(name), bytes).unwrap();
}

fn install(node: &Node) -> crate::support::node::Outcome {
    let seed = node.config().with_file_name("seed");
    node.run(&format!("install --offline --seed {}", seed.display()))
}

#[test]
fn an_archive_under_the_name_that_its_source_gives_it_is_found() {
    for source in SOURCES {
        let node = declared(&[source]);
        put(&node, NAME, &RELEASE.bytes);
        install(&node).exits(0);
        assert_eq!(node.names(BIN), PLUGINS, "{source}");
    }
}

/// Another file of that name hides neither the right one under its second name nor what is missing.
#[test]
fn its_digest_decides() {
    let other = "https://no-such-host.invalid/plugins.tgz";
    let node = declared(&[SOURCES[0], other]);
    put(&node, NAME, &NEXT_RELEASE.bytes);
    install(&node).exits(2).says("are not the pinned ones");
    assert!(!node.has(BIN));
    put(&node, "plugins.tgz", &RELEASE.bytes);
    install(&node).exits(0);
}

#[test]
fn the_message_says_what_was_looked_for_once() {
    let node = declared(&[SOURCES[0], "https://no-such-host.invalid/plugins.tgz"]);
    put(&node, "plugins", &RELEASE.bytes);
    let outcome = install(&node);
    outcome.exits(2);
    let errors = outcome.errors().join("\n");
    assert_eq!(
        errors.matches("it does not hold this one").count(),
        1,
        "{outcome}"
    );
    assert!(
        errors.contains(&format!(" or {NAME} or plugins.tgz; put the file there")),
        "{outcome}"
    );
    assert!(errors.contains("there is no blobs/sha256/"), "{outcome}");
}
