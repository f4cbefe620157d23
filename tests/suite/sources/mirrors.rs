//! Mirrors: the order in which servers are asked, and what a dead one costs.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tempfile::TempDir;

use super::registry::Guarded;
use super::secret;
use crate::support::image_parts::{ImageParts, digest, image_of, in_image};
use crate::support::node::{BIN, Node};
use crate::support::registry::{Registry, Setup, has_tools};
use crate::support::release::{NETWORK, PLUGINS, Release, plugin};
use crate::support::server::{Reply, Server};

/// Accepts connections and says nothing, until the other end closes.
struct Blackhole {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Blackhole {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                held.push(stream);
            }
        });
        Self {
            address,
            connections,
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Four artifacts of one plugin each.
const FOUR: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];

fn four() -> Vec<Release> {
    FOUR.iter()
        .map(|name| Release::new(&[*name], plugin))
        .collect()
}

/// Declares them from an origin, with these mirrors for it.
fn declare_four(node: &Node, packs: &[Release], origin: &str, mirrors: &str, fetch: &str) {
    let mut text = "artifacts:\n".to_owned();
    for (name, pack) in FOUR.iter().zip(packs) {
        let artifact = pack.artifact(&format!("{origin}/{name}.tgz")).to_string();
        let artifact = artifact.replace("artifacts:\n", "");
        text += &artifact.replace("name: cni-plugins", &format!("name: {name}"));
    }
    write!(text, "mirrors: {mirrors}\n{fetch}{NETWORK}").unwrap();
    node.declare_text(&text);
}

fn serve_four(server: &Server, packs: &[Release]) {
    for (name, pack) in FOUR.iter().zip(packs) {
        server.on(&format!("/o/{name}.tgz"), [Reply::ok(&pack.bytes)]);
    }
}

/// Fault 38: a mirror that accepts connections and says nothing is asked for the first of four artifacts only.
#[test]
fn fault_38_a_dead_mirror_costs_one_timeout_for_all() {
    let (dead, origin, packs) = (Blackhole::new(), Server::http(), four());
    serve_four(&origin, &packs);
    let node = Node::empty();
    let mirrors = format!(
        "[{{from: \"{}\", to: [\"http://{}/m\"]}}]",
        origin.url("/o"),
        dead.address
    );
    let fetch = "fetch: {connectTimeout: 500ms, readTimeout: 500ms, attempts: 2}\n";
    declare_four(&node, &packs, &origin.url("/o"), &mirrors, fetch);
    node.run("install")
        .exits(0)
        .says("silence for longer than fetch.readTimeout");
    assert_eq!(dead.connections(), 1);
    assert_eq!(origin.requests().len(), FOUR.len());
    for name in FOUR {
        assert!(node.has(&format!("{BIN}/{name}")));
    }
}

/// Fault 38: the same for a registry. Index, manifest and layer of an image ask a dead mirror once, not three times.
#[test]
fn fault_38_a_dead_registry_mirror_costs_one_timeout_for_an_image() {
    let (dead, origin) = (Blackhole::new(), Server::http());
    let mut parts = ImageParts::default();
    let image = parts.image(plugin);
    parts.serve(&origin);
    let node = Node::empty();
    let (mirror, origin) = (dead.address, origin.address());
    let artifact = image_of(
        "v1",
        vec![format!("oci://{origin}/team/cni@{}", digest(&image))],
        &in_image(&PLUGINS),
    );
    let rest = format!(
        "mirrors: [{{from: \"oci://{origin}/\", to: [\"oci://{mirror}/\"]}}]\nfetch:\n  connectTimeout: 500ms\n  readTimeout: 500ms\n  access: [{{prefix: \"oci://{origin}\", plainHttp: true}}]\n{NETWORK}"
    );
    node.declare(&artifact, &rest);
    node.run("install")
        .exits(0)
        .says("no connection within fetch.connectTimeout");
    assert_eq!(dead.connections(), 1);
}

/// Mirrors go before origins, a directory of this machine is one as well, and `only` leaves the origin out.
#[test]
fn mirrors_come_first_and_may_be_all_there_is() {
    let (origin, packs) = (Server::http(), four());
    serve_four(&origin, &packs);
    let mirror = Server::http();
    let node = Node::empty();
    let mut local = String::new();
    for (name, pack) in FOUR.iter().zip(&packs).take(2) {
        local = node.mirror(&format!("{name}.tgz"), &pack.bytes);
    }
    let local = local.rsplit_once('/').unwrap().0.to_owned();
    mirror.on("/m/loopback.tgz", [Reply::ok(&packs[2].bytes)]);
    let rule = |only| {
        format!(
            "[{{from: \"{}\", to: [\"{local}\", \"{}\"], only: {only}}}]",
            origin.url("/o"),
            mirror.url("/m")
        )
    };
    let fetch = "fetch: {attempts: 1}\n";
    declare_four(&node, &packs, &origin.url("/o"), &rule(true), fetch);
    let outcome = node.run("install");
    outcome.exits(2).says("cannot fetch portmap");
    assert!(origin.requests().is_empty(), "it is not to be asked");
    assert!(outcome.errors()[0].contains(&mirror.url("/m/portmap.tgz")));
    outcome.does_not_say(&origin.url("/o"));

    let node = Node::empty();
    declare_four(&node, &packs, &origin.url("/o"), &rule(false), fetch);
    node.run("install").exits(0);
    let asked: Vec<String> = origin.requests().iter().map(|r| r.path.clone()).collect();
    assert_eq!(asked, ["/o/portmap.tgz"], "the mirrors have the others");
    assert_eq!(mirror.count("/m/bridge.tgz"), 0, "the first mirror had it");
}

/// A mirror that refuses our credentials is no reason to fail: the origin is open.
#[test]
fn a_registry_mirror_that_refuses_us_is_passed_over() {
    if !has_tools() {
        return;
    }
    let mut parts = ImageParts::default();
    let image = parts.image(plugin);
    let storage = TempDir::new().unwrap();
    let origin = Registry::start(&storage, &Setup::default());
    parts.push(origin.address());
    let guarded = Guarded::new(&[]);
    let mirror = guarded.start(&storage, &guarded.authority, None);
    let node = Node::empty();
    let ca = secret(&node, "ca.pem", &guarded.authority.pem());
    let (origin, mirror) = (origin.address(), mirror.address());
    let artifact = image_of(
        "v1.1.1",
        vec![format!("oci://{origin}/team/cni@{}", digest(&image))],
        &in_image(&PLUGINS),
    );
    let rest = format!(
        "mirrors: [{{from: \"oci://{origin}/\", to: [\"oci://{mirror}/\"]}}]\nfetch:\n  caFile: {ca}\n  access: [{{prefix: \"oci://{origin}\", plainHttp: true}}]\n{NETWORK}"
    );
    node.declare(&artifact, &rest);
    node.run("install")
        .exits(0)
        .says(&format!("{mirror} asks for credentials"))
        .says(&format!("from oci://{origin}/team/cni@"));
}

/// A registry that has the images of another one below a path of its own, with its own password and authority. The
/// origin does not even resolve.
#[test]
fn a_registry_stands_in_for_another_under_its_own_path() {
    if !has_tools() {
        return;
    }
    let mut parts = ImageParts::default();
    let image = parts.image(plugin);
    let storage = TempDir::new().unwrap();
    parts.push(Registry::start(&storage, &Setup::default()).address());
    let guarded = Guarded::new(&[]);
    let tls = Setup {
        tls: Some((&guarded.authority, &["127.0.0.1"])),
        ..Setup::default()
    };
    let registry = Registry::start(&storage, &tls);
    let node = Node::empty();
    let ca = secret(&node, "ca.pem", &guarded.authority.pem());
    let artifact = image_of(
        "v1.1.1",
        vec![format!("oci://registry.example/cni@{}", digest(&image))],
        &in_image(&PLUGINS),
    );
    let rest = format!(
        "mirrors: [{{from: \"oci://registry.example/\", to: [\"oci://{}/team/\"]}}]\nfetch: {{attempts: 1, caFile: {ca}}}\n{NETWORK}",
        registry.address()
    );
    node.declare(&artifact, &rest);
    node.run("install")
        .exits(0)
        .says(&format!("from oci://{}/team/cni@", registry.address()));

    // Without it the origin is asked, and both are reported.
    let gone = Node::empty();
    let ca_again = secret(&gone, "ca.pem", &guarded.authority.pem());
    drop(registry);
    gone.declare(&artifact, &rest.replace(&ca, &ca_again));
    gone.run("install")
        .exits(2)
        .says("/team/cni@")
        .says("the name registry.example does not resolve");
}
