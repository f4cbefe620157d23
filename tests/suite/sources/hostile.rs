//! The network and archive faults (37 to 54 of the catalogue in `tests/README.md`) for images, by the real program.
//!
//! Everything goes through one primitive, whatever the source: what `fetch::network`, `fetch::resume` and
//! `fetch::archives` test for https holds for a registry's blobs too, and is not repeated here. The tests of each fault
//! (`-`: it cannot happen):
//!
//! | fault | https, file | oci | seed |
//! |---|---|---|---|
//! | 37 no DNS | `fetch::network::fault_37` | `mirrors::a_registry_stands_in`, `registry::hostile::fault_38` | - |
//! | 38 dead | `fetch::network::fault_38`, `mirrors::fault_38` | `pulled::an_agent_keeps`, `registry::hostile::fault_38` | `island::useless_seeds` |
//! | 39 drip | `fetch::network::fault_39` | `registry::hostile::fault_46` | - |
//! | 40–43 broken off | `fetch::resume` | `fault_40` below, `registry::fault_40` | `island::a_bundle` |
//! | 44 redirects | `fetch::network::fault_44` | both `fault_44` below | - |
//! | 45 busy | `fetch::network::fault_45` | `fault_45` below | - |
//! | 46 a page | `install::network::fault_46` | `fault_46` below | `island::an_agent_with_a_seed` |
//! | 47 certificates | `fetch::network::fault_47` | `registry::what_is_wrong_with_tls` | - |
//! | 48 wrong digest | `install::network::fault_48` | `fault_48` below | `island::a_bundle` |
//! | 49 right disk | `install::network::fault_49` | `pulled::an_image_is_installed` | `island::an_agent_with_a_seed` |
//! | 50–52 archive | `fetch::archives` | `fetch::oci::tests`, `image::fault_51` | as the archive or image |
//! | 53 missing | `install::network::fault_53` | `fault_53` below, `reasons` | as the archive or image |
//! | 54 architecture | `install::network::fault_54` | `pulled::fault_54` | as the archive or image |

use super::secret;
use crate::support::image_parts::{Descriptor, ImageParts, digest, image_of, in_image, layer_of};
use crate::support::node::{BIN, CONFLIST, Node};
use crate::support::registry::REPOSITORY;
use crate::support::release::{NETWORK, PLUGINS, plugin};
use crate::support::server::{Reply, Server};
use crate::support::tls::Authority;

/// An image of one layer, and servers that claim to have it.
struct Scene {
    parts: ImageParts,
    image: Descriptor,
    layer: Descriptor,
}

impl Scene {
    fn new() -> Self {
        let mut parts = ImageParts::default();
        let layer = parts.layer("+gzip", layer_of(&PLUGINS, plugin).gz());
        let image = parts.manifest(std::slice::from_ref(&layer));
        Self {
            parts,
            image,
            layer,
        }
    }

    /// A registry that has it.
    fn registry(&self) -> Server {
        let server = Server::http();
        self.parts.serve(&server);
        server
    }

    fn declare(&self, servers: &[&Server], attempts: u32) -> Node {
        self.declare_plugins(servers, attempts, &in_image(&PLUGINS))
    }

    fn declare_plugins(&self, servers: &[&Server], attempts: u32, plugins: &str) -> Node {
        let node = Node::empty();
        let source = |server: &&Server| {
            let (address, digest) = (server.address(), digest(&self.image));
            format!("oci://{address}/{REPOSITORY}@{digest}")
        };
        let artifact = image_of("v1", servers.iter().map(source).collect(), plugins);
        let plain = |server: &&Server| {
            let address = server.address();
            format!("{{prefix: \"oci://{address}\", plainHttp: true}}")
        };
        let plain: Vec<String> = servers.iter().map(plain).collect();
        let fetch = format!(
            "fetch: {{attempts: {attempts}, access: [{}]}}\n",
            plain.join(", ")
        );
        node.declare(&artifact, &format!("{fetch}{NETWORK}"));
        node
    }
}

/// Nothing was placed.
#[track_caller]
fn is_empty(node: &Node) {
    assert!(!node.has(BIN) && !node.has(CONFLIST));
}

/// Fault 40: only the rest of a layer is requested.
#[test]
fn fault_40_a_layer_that_breaks_off_is_resumed() {
    let scene = Scene::new();
    let server = scene.registry();
    let (path, bytes) = scene.parts.part(&scene.layer);
    let half = bytes.len() / 2;
    let cut = Reply::cut_after(&bytes, half).with("ETag", "\"one\"");
    let rest = Reply::ranges(&bytes).with("ETag", "\"one\"");
    server.on(&path, [cut, rest]);
    scene.declare(&[&server], 1).run("install").exits(0);
    let requests = server.requests();
    let ranges: Vec<&str> = requests.iter().filter_map(|r| r.header("range")).collect();
    assert_eq!(ranges, [format!("bytes={half}-")]);
}

/// Fault 44: a registry's storage may be elsewhere, but redirects may not loop or lead to this machine.
#[test]
fn fault_44_a_layer_is_not_followed_anywhere() {
    for (to, message) in [(None, "redirect"), (Some("file:///etc/shadow"), "redirect")] {
        let scene = Scene::new();
        let server = scene.registry();
        let (path, _) = scene.parts.part(&scene.layer);
        server.on(&path, [Reply::redirect(to.unwrap_or(&path))]);
        let node = scene.declare(&[&server], 3);
        node.run("install")
            .exits(2)
            .says(message)
            .says("kind=\"redirect\"");
        is_empty(&node);
        assert!(
            server.count(&path) <= 11,
            "it is not requested again and again"
        );
    }
}

/// Fault 44: a registry with TLS may not redirect to storage without TLS.
#[test]
fn fault_44_a_layer_is_not_followed_out_of_tls() {
    let scene = Scene::new();
    let authority = Authority::new();
    let registry = Server::https(authority.server(&["127.0.0.1"]));
    let storage = scene.registry();
    scene.parts.serve(&registry);
    let (path, _) = scene.parts.part(&scene.layer);
    registry.on(&path, [Reply::redirect(&storage.url(&path))]);
    let node = scene.declare(&[&registry], 1);
    let ca = secret(&node, "ca.pem", &authority.pem());
    let text = std::fs::read_to_string(node.config()).unwrap();
    let open = format!(
        "access: [{{prefix: \"oci://{}\", plainHttp: true}}]",
        registry.address()
    );
    assert!(text.contains(&open));
    node.redeclare(&text.replace(&open, &format!("caFile: {ca}")));
    node.run("install").exits(2).says("kind=\"redirect\"");
    is_empty(&node);
    assert!(storage.requests().is_empty());
}

/// Fault 45: a busy registry is asked again when it says so, once each time.
#[test]
fn fault_45_a_busy_registry_is_asked_again() {
    let scene = Scene::new();
    let server = scene.registry();
    let (path, content) = scene.parts.part(&scene.image);
    let busy = Reply::status(429).with("Retry-After", "1");
    server.on(&path, [busy, Reply::ok(&content)]);
    scene.declare(&[&server], 2).run("install").exits(0);
    assert_eq!(server.count(&path), 2);
}

/// Fault 46: a login page instead of a manifest is a wrong digest, and one larger than any manifest is not even read.
#[test]
fn fault_46_a_page_instead_of_a_manifest() {
    let large = vec![b' '; 5 << 20];
    for (reply, message) in [
        (Reply::ok(b"<html>log in</html>"), "are not the pinned ones"),
        (Reply::ok(&large), "it has more than 4194304 bytes"),
        (
            Reply::chunked_without_end(&large),
            "it has more than 4194304 bytes",
        ),
    ] {
        let scene = Scene::new();
        let server = scene.registry();
        let (path, _) = scene.parts.part(&scene.image);
        server.on(&path, [reply]);
        let node = scene.declare(&[&server], 5);
        node.run("install").exits(2).says(message);
        is_empty(&node);
        assert_eq!(server.requests().len(), 1, "it starts no storm");
    }
}

/// Fault 48: one registry has a wrong layer and the next has the right one; with only the wrong one nothing is placed.
/// The wrong layer has the right size, or is larger than announced.
#[test]
fn fault_48_a_wrong_layer_goes_to_the_next_registry() {
    let scene = Scene::new();
    let (path, bytes) = scene.parts.part(&scene.layer);
    let mut other = bytes.clone();
    other[bytes.len() - 1] ^= 1;
    let longer = [&bytes[..], b"more"].concat();
    let announced = format!("it has more than {} bytes", bytes.len());
    for (wrong, message) in [(other, "are not the pinned ones"), (longer, &announced)] {
        let (liar, good) = (scene.registry(), scene.registry());
        liar.on(&path, [Reply::ok(&wrong)]);
        let alone = scene.declare(&[&liar], 3);
        alone.run("install").exits(2).says(message);
        is_empty(&alone);
        let node = scene.declare(&[&liar, &good], 3);
        node.run("install").exits(0).says(message);
        assert_eq!(good.requests().len(), 1, "the liar has the manifest");
        for name in PLUGINS {
            assert!(node.read(&format!("{BIN}/{name}")) == plugin(name));
        }
    }
}

/// Fault 53: the error names the path that the image does not have, and what is near it.
#[test]
fn fault_53_a_path_that_is_not_in_the_image() {
    let scene = Scene::new();
    let server = scene.registry();
    let plugins = "[bridge, {member: /opt/cni/bin/cilium-cni, as: cilium-cni}]";
    let node = scene.declare_plugins(&[&server], 3, plugins);
    node.run("install")
        .exits(2)
        .says("has no 'bridge'")
        .says("'/' holds opt");
    is_empty(&node);
}
