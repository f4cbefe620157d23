//! Sources and archives that are not what they should be, as a command reports them. Nothing of them
//! becomes visible, and what was in place before stays.

use base16ct::HexDisplay;
use sha2::{Digest as _, Sha512};

use cni_keeper::model::{Arch, Sha256};

use crate::support::archive::{Tar, binary};
use crate::support::node::{BIN, CONFLIST, Node, Outcome};
use crate::support::release::{
    Artifact, NETWORK, NEXT_RELEASE, PLUGINS, RELEASE, Release, arch, pin, plugin, unreachable_url,
};
use crate::support::server::{Reply, Server};

/// One round is enough to see the failure, without pauses.
const ONE_ROUND: &str = "fetch: {attempts: 1}\n";

fn declare(node: &Node, artifact: &Artifact) {
    node.declare(artifact, &format!("{ONE_ROUND}{NETWORK}"));
}

/// Installs an artifact that cannot be downloaded, on an empty node and as an upgrade: nothing is placed.
fn fails(artifact: &Artifact) -> Outcome {
    let upgrade = Node::installed();
    declare(&upgrade, artifact);
    let before = upgrade.tree();
    upgrade.run("install").exits(2);
    assert_eq!(before, upgrade.tree(), "the old release stays");

    let node = Node::empty();
    declare(&node, artifact);
    let outcome = node.run("install");
    outcome.exits(2);
    assert!(!node.has(BIN) && !node.has(CONFLIST), "nothing is placed");
    outcome
}

fn serving(bytes: &[u8]) -> (Server, String) {
    let server = Server::http();
    server.on("/p.tgz", [Reply::ok(bytes)]);
    let url = server.url("/p.tgz");
    (server, url)
}

/// Fault 48: the line has the expected and the actual digest.
#[test]
fn fault_48_a_wrong_digest() {
    let (server, url) = serving(&NEXT_RELEASE.bytes);
    let mut artifact = NEXT_RELEASE.artifact(&url);
    artifact.pin = pin(b"something else");
    let outcome = fails(&artifact);
    let line = format!(
        "error: cannot fetch cni-plugins: {url}: its {} bytes are not the pinned ones: expected sha256:{}, got sha256:{}",
        NEXT_RELEASE.bytes.len(),
        Sha256::of(b"something else"),
        Sha256::of(&NEXT_RELEASE.bytes),
    );
    outcome.says(&line);
    assert_eq!(server.count("/p.tgz"), 2, "once for each of the two nodes");
}

/// Fault 46: a login page with 200 is a wrong digest, and is not asked for again and again.
#[test]
fn fault_46_a_page_instead_of_an_archive() {
    let (server, url) = serving(b"<html>please log in</html>");
    let mut artifact = RELEASE.artifact(&url);
    artifact.version = "v9".to_owned();
    let node = Node::empty();
    node.declare(&artifact, NETWORK);
    node.run("install")
        .exits(2)
        .says("its 26 bytes are not the pinned ones: expected sha256:");
    assert_eq!(
        server.count("/p.tgz"),
        1,
        "also where more rounds are allowed"
    );
    assert!(!node.has(BIN));
}

#[test]
fn the_second_source_serves_where_the_first_has_nothing() {
    let (server, url) = serving(&RELEASE.bytes);
    let mut artifact = RELEASE.artifact(&server.url("/gone.tgz"));
    artifact.sources.push(url.clone());
    let node = Node::empty();
    declare(&node, &artifact);
    node.run("install")
        .exits(0)
        .says("it answers HTTP 404; nothing is there: check version, architecture and path of the source")
        .says(&format!(" from {url}, sha256:"));
    assert_eq!(server.count("/gone.tgz"), 1);
}

/// Fault 38: every source and its reason is in the line.
#[test]
fn fault_38_every_source_is_named_with_its_reason() {
    let server = Server::http();
    let mut artifact = NEXT_RELEASE.artifact(&server.url("/gone.tgz"));
    artifact.sources.push(unreachable_url());
    artifact.sources.push("file:///no/such/p.tgz".to_owned());
    let outcome = fails(&artifact);
    let errors = outcome.errors();
    for part in [
        format!("{}: it answers HTTP 404", artifact.sources[0]),
        format!("{}: no connection to 127.0.0.1: ", artifact.sources[1]),
        "file:///no/such/p.tgz: it cannot be read: ".to_owned(),
    ] {
        assert!(errors[0].contains(&part), "{part}\n{outcome}");
    }
}

/// Fault 37: a name that does not resolve has a reason of its own.
#[test]
fn fault_37_no_dns() {
    let outcome = fails(&NEXT_RELEASE.artifact("http://no-such-host.invalid/p.tgz"));
    outcome.says("the name no-such-host.invalid does not resolve; check the node's DNS");
}

/// Fault 49: a right disk needs no source at all.
#[test]
fn fault_49_a_right_node_needs_no_network() {
    let node = Node::installed();
    declare(&node, &RELEASE.artifact(&unreachable_url()));
    let before = node.whole_tree();
    node.run("install").exits(0).says("nothing to do");
    node.run("verify").exits(0);
    assert_eq!(before, node.whole_tree());
}

/// Fault 53: the error says what is missing and lists what is there.
#[test]
fn fault_53_a_missing_member() {
    let pack = Release::new(&["host-local", "loopback"], plugin);
    let (_server, url) = serving(&pack.bytes);
    let mut artifact = pack.artifact(&url);
    artifact.plugins = "[bridge, host-local, loopback]".to_owned();
    let outcome = fails(&artifact);
    let line = outcome.errors()[0].to_owned();
    assert!(line.starts_with("cni-plugins: "), "{line}");
    for part in ["bridge", "host-local", "loopback"] {
        assert!(line.contains(part), "{line}");
    }
}

/// Fault 54: the pin is right, and the binary is for another machine.
#[test]
fn fault_54_another_architecture() {
    let other = match arch() {
        Arch::Arm64 => Arch::Amd64,
        _ => Arch::Arm64,
    };
    let tar = Tar::like_upstream()
        .file("./host-local", &plugin("host-local"))
        .file("./loopback", &plugin("loopback"))
        .file("./bridge", &binary(other, 4096));
    let bytes = tar.gz();
    let (_server, url) = serving(&bytes);
    let mut artifact = RELEASE.artifact(&url);
    artifact.pin = pin(&bytes);
    let outcome = fails(&artifact);
    let line = outcome.errors()[0].to_owned();
    assert!(line.starts_with("cni-plugins: "), "{line}");
    assert!(line.contains("bridge"), "{line}");
    assert!(line.contains(other.as_str()), "{line}");
}

/// Another pin, other names, no archive at all: three ways to declare the same plugins.
#[test]
fn other_ways_to_declare() {
    let node = Node::empty();
    let mut artifact = RELEASE.artifact(&node.mirror("p.tgz", &RELEASE.bytes));
    let digest = Sha512::digest(&RELEASE.bytes);
    let digest = HexDisplay(&digest);
    artifact.pin = format!("sha512: {{{}: {digest:x}}}", arch());
    declare(&node, &artifact);
    node.run("install").exits(0).says("sha512:");
    assert_eq!(node.names(BIN), PLUGINS);

    let node = Node::empty();
    let tar = Tar::like_upstream()
        .file(&format!("bin/bridge-{}", arch()), &plugin("bridge"))
        .file("./host-local", &plugin("host-local"))
        .file("./loopback", &plugin("loopback"))
        .bytes();
    let mut artifact = RELEASE.artifact(&node.mirror("p.tar", &tar));
    artifact.pin = pin(&tar);
    artifact.plugins = format!(
        "[{{member: \"bin/bridge-{{arch}}\", as: bridge, {}}}, host-local, {{member: ./loopback}}]",
        pin(&plugin("bridge"))
    );
    declare(&node, &artifact);
    node.run("install").exits(0);
    assert_eq!(node.names(BIN), PLUGINS);
    node.run("install").exits(0).says("nothing to do");

    let node = Node::empty();
    let bytes = plugin("loopback");
    let mut artifact = RELEASE.artifact(&node.mirror("loopback-raw", &bytes));
    artifact.pin = pin(&bytes);
    artifact.plugins = "[loopback]".to_owned();
    artifact.more = "format: raw".to_owned();
    node.declare(&artifact, "");
    node.run("install").exits(0);
    assert_eq!(node.names(BIN), ["loopback"]);
    assert!(node.read("opt/cni/bin/loopback") == bytes);
}

/// A pin for the unpacked file as well: an archive that is pinned rightly and holds something else is refused.
#[test]
fn a_member_with_another_digest_than_its_own_pin() {
    let (_server, url) = serving(&NEXT_RELEASE.bytes);
    let mut artifact = NEXT_RELEASE.artifact(&url);
    artifact.plugins = format!(
        "[{{member: bridge, as: bridge, {}}}, host-local, loopback]",
        pin(&plugin("bridge"))
    );
    let outcome = fails(&artifact);
    let line = outcome.errors()[0].to_owned();
    assert!(line.contains("bridge"), "{line}");
    assert!(
        line.contains(&Sha256::of(&plugin("bridge")).to_string()),
        "{line}"
    );
}

/// If one artifact cannot be downloaded, the other is placed nevertheless; the conflist waits for both.
#[test]
fn one_of_two_artifacts_fails() {
    let node = Node::empty();
    let pack = Release::new(&["host-local", "loopback"], plugin);
    let good = pack.artifact(&node.mirror("p.tgz", &pack.bytes));
    let bad = format!(
        "  - name: main\n    version: v1\n    sources: [\"{}\"]\n    {}\n    plugins: [bridge]\n",
        unreachable_url(),
        RELEASE.artifact("").pin
    );
    node.declare_text(&format!("{good}{bad}{ONE_ROUND}{NETWORK}"));
    let outcome = node.run("install");
    outcome.exits(2).says("error: cannot fetch main: ");
    assert_eq!(node.names(BIN), ["host-local", "loopback"]);
    assert!(!node.has(CONFLIST));
}
