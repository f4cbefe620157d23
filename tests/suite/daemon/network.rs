//! Sources that are missing, a disk that needs none, and what the counters say.

use std::fs;

use crate::support::agent::Agent;
use crate::support::node::{BIN, CONFLIST, Node};
use crate::support::release::{NETWORK, NEXT_RELEASE, PLUGINS, RELEASE, Release, plugin};
use crate::support::server::{Reply, Server};
use crate::support::without_asking::IntactNode;

const BRIDGE: &str = "opt/cni/bin/bridge";
/// Fewer attempts, so that a test does not wait long.
const ONE_TRY: &str = "fetch: {attempts: 1}\n";
const DOWNLOADED: &str = "cni_keeper_downloads_total{result=\"ok\",reason=\"\"}";

/// Fault 49: a node whose disk is right uses no network, and repairs everything except a lost copy without it.
#[test]
fn fault_49_offline_with_a_right_disk() {
    let server = Server::http();
    server.on("/p.tgz", [Reply::ok(&RELEASE.bytes)]);
    let node = Node::empty();
    node.declare(&RELEASE.artifact(&server.url("/p.tgz")), NETWORK);
    node.run("install").exits(0);
    assert_eq!(server.count("/p.tgz"), 1);
    server.on("/p.tgz", [Reply::reset()]);
    let right = IntactNode::of(&node);
    let agent = Agent::with_spares(&node);
    for name in PLUGINS {
        fs::remove_file(node.path(BIN).join(name)).unwrap();
        agent.repairs_by_itself(&right, &node);
    }
    assert_eq!(agent.metric(DOWNLOADED), 0.0);
    agent.stop();
    assert_eq!(server.count("/p.tgz"), 1);
}

/// Fault 37: without DNS at boot the agent lives and says what it waits for; once there is a source that answers, it
/// installs by itself.
#[test]
fn fault_37_no_dns_at_boot() {
    let node = Node::empty();
    node.declare(
        &RELEASE.artifact("http://mirror.invalid/p.tgz"),
        &format!("{NETWORK}{ONE_TRY}"),
    );
    let agent = Agent::start(&node);
    agent.becomes_unready("binaries: ");
    agent.until("reported", |agent| {
        agent.get("/readyz?verbose").body.contains("mirror.invalid")
    });
    assert_eq!(agent.get("/livez").status, 200);
    assert!(!node.has(CONFLIST));
    let good = node.mirror("plugins.tgz", &RELEASE.bytes);
    let text = fs::read_to_string(node.config()).unwrap();
    node.redeclare(&text.replace("http://mirror.invalid/p.tgz", &good));
    agent.until_without_asking("installed", || node.has(CONFLIST));
    agent.becomes_ready();
    agent.stop();
}

/// Fault 37: a mirror that comes up later is found after few requests.
#[test]
fn fault_37_a_mirror_that_comes_up_later() {
    let server = Server::http();
    server.on("/p.tgz", [Reply::status(503), Reply::ok(&RELEASE.bytes)]);
    let node = Node::empty();
    node.declare(
        &RELEASE.artifact(&server.url("/p.tgz")),
        &format!("{NETWORK}{ONE_TRY}"),
    );
    let agent = Agent::start(&node);
    agent.until("reported", |agent| {
        agent.get("/readyz?verbose").body.contains("503")
    });
    assert!(!agent.is_ready());
    agent.until_without_asking("installed", || node.has(CONFLIST));
    agent.becomes_ready();
    assert_eq!(server.count("/p.tgz"), 2);
    assert_eq!(agent.metric(DOWNLOADED), 1.0);
    let failed = agent.get("/metrics").body;
    let failed = failed
        .lines()
        .find(|line| line.starts_with("cni_keeper_downloads_total{result=\"failed\""));
    assert!(
        failed.is_some_and(|line| line.ends_with(" 1")),
        "{failed:?}"
    );
    assert_eq!(
        agent.metric("cni_keeper_download_bytes_total"),
        RELEASE.bytes.len() as f64
    );
    agent.stop();
}

/// Fault 48: a mirror that serves other bytes is counted, also if the next one has the right ones.
#[test]
fn fault_48_a_wrong_digest_is_counted_although_another_source_is_right() {
    let server = Server::http();
    server.on("/wrong.tgz", [Reply::ok(b"something else")]);
    server.on("/p.tgz", [Reply::ok(&RELEASE.bytes)]);
    let node = Node::empty();
    let mut artifact = RELEASE.artifact(&server.url("/wrong.tgz"));
    artifact.sources.push(server.url("/p.tgz"));
    node.declare(&artifact, NETWORK);
    let agent = Agent::start(&node);
    agent.becomes_ready();
    assert_eq!(agent.metric(DOWNLOADED), 1.0);
    assert_eq!(
        agent.metric("cni_keeper_downloads_total{result=\"failed\",reason=\"digest\"}"),
        1.0
    );
    agent.stop();
}

/// An artifact that cannot be downloaded does not keep the others from being fetched, whichever is declared first. It
/// is requested again and again, with pauses.
#[test]
fn one_of_two_artifacts_cannot_be_had() {
    let node = Node::empty();
    let server = Server::http();
    server.on("/dead.tgz", [Reply::status(503)]);
    let dead = Release::new(&["portmap"], plugin).artifact(&server.url("/dead.tgz"));
    let dead = dead.to_string().replace("cni-plugins", "dead");
    let good = RELEASE.artifact(&node.mirror("plugins.tgz", &RELEASE.bytes));
    let good = good.to_string().replace("artifacts:\n", "");
    node.declare_text(&format!("{dead}{good}{NETWORK}{ONE_TRY}"));
    let agent = Agent::start(&node);
    agent.until_without_asking("installed", || node.has(CONFLIST));
    agent.becomes_unready("portmap is missing; cannot fetch dead: ");
    assert_eq!(agent.downloads(), 1.0);
    let count = server.count("/dead.tgz");
    assert!((1..4).contains(&count), "{count} requests");
    agent.until_without_asking("asked again", || server.count("/dead.tgz") > count);
    agent.stop();
}

/// An upgrade whose source does not answer: the former release stays in place whole, the node is not ready and says
/// why, questions do not bring the source more requests, and the way back needs no network.
#[test]
fn an_upgrade_without_a_source() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    let good = fs::read_to_string(node.config()).unwrap();
    let server = Server::http();
    server.on("/next.tgz", [Reply::status(500)]);
    let next = NEXT_RELEASE.artifact(&server.url("/next.tgz"));
    node.declare(
        &next,
        &format!("{NETWORK}{ONE_TRY}http: {{listen: \"127.0.0.1:0\"}}\n"),
    );
    agent.becomes_unready("binaries: ");
    agent.until("reported", |agent| {
        agent.get("/readyz?verbose").body.contains("next.tgz")
    });
    for _ in 0..50 {
        assert!(!agent.is_ready());
    }
    assert!(right.is_intact());
    assert!(
        server.count("/next.tgz") < 5,
        "{} requests",
        server.count("/next.tgz")
    );
    node.redeclare(&good);
    agent.repairs_by_itself(&right, &node);
    for name in PLUGINS {
        fs::remove_file(node.path(BIN).join(name)).unwrap();
        agent.repairs_by_itself(&right, &node);
    }
    agent.stop();
}

/// The counters after known damage.
#[test]
fn damage_is_counted() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    let count = |name: &str| agent.metric(&format!("cni_keeper_{name}"));
    assert_eq!(count("repairs_total{result=\"healed\"}"), 0.0);
    assert_eq!(count("repair_duration_seconds_count"), 0.0);
    for _ in 0..2 {
        fs::remove_file(node.path(BRIDGE)).unwrap();
        agent.repairs_by_itself(&right, &node);
    }
    fs::write(node.path(CONFLIST), "{}").unwrap();
    agent.repairs_by_itself(&right, &node);
    assert_eq!(count("drift_total{kind=\"missing\",file=\"bridge\"}"), 2.0);
    assert_eq!(
        count("drift_total{kind=\"content\",file=\"10-pods.conflist\"}"),
        1.0
    );
    assert_eq!(count("repairs_total{result=\"healed\"}"), 3.0);
    assert_eq!(count("repairs_total{result=\"failed\"}"), 0.0);
    assert_eq!(count("repair_duration_seconds_count"), 3.0);
    assert_eq!(count("conflist_conflicts_total"), 0.0);
    assert_eq!(count("ready"), 1.0);
    assert_eq!(count("check_ok{check=\"binaries\"}"), 1.0);
    assert!(count("last_verified_timestamp_seconds") > 1.7e9);
    agent.stop();
}
