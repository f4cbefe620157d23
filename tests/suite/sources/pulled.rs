//! Plugins out of images, by the real program from Debian's docker-registry: installed, kept, upgraded, removed.

use cni_keeper::model::Arch;
use tempfile::TempDir;

use super::registry::{Config, Guarded};
use super::secret;
use crate::support::agent::Agent;
use crate::support::archive::{Tar, binary};
use crate::support::image_parts::{Descriptor, ImageParts, digest, image_of, in_image, layer_of};
use crate::support::node::{BIN, CONFLIST, Node, Outcome, start};
use crate::support::proxy::{Kind, ORIGIN, Proxy};
use crate::support::registry::{Access, REPOSITORY, Registry, Setup, has_tools};
use crate::support::release::{NETWORK, PLUGINS, arch, other_build, plugin};
use crate::support::tls::Authority;
use crate::support::tokens::PASSWORD;

/// A registry's storage with these parts in it.
fn stored(parts: &ImageParts) -> TempDir {
    let storage = TempDir::new().unwrap();
    let open = Registry::start(&storage, &Setup::default());
    parts.push(open.address());
    storage
}

/// Where an image is on this host.
fn source(host: &str, port: u16, image: &Descriptor) -> String {
    format!("oci://{host}:{port}/{REPOSITORY}@{}", digest(image))
}

/// An open registry with these parts.
fn open(storage: &TempDir) -> Registry {
    Registry::start(storage, &Setup::default())
}

fn at(registry: &Registry, image: &Descriptor) -> String {
    source("127.0.0.1", registry.address().port(), image)
}

/// Declares plugins of an image, one round, with these further keys of `fetch`.
fn declare(node: &Node, source: &str, plugins: &str, fetch: &str) {
    let fetch: String = fetch.lines().map(|line| format!("  {line}\n")).collect();
    let artifact = image_of("v1.1.1", vec![source.to_owned()], plugins);
    let rest = format!("fetch:\n  attempts: 1\n{fetch}{NETWORK}");
    node.declare(&artifact, &rest);
}

/// The key of `fetch` for registries on loopback without TLS.
fn plain(registry: &Registry) -> String {
    format!(
        "access: [{{prefix: \"oci://{}\", plainHttp: true}}]",
        registry.address()
    )
}

fn pulling(registry: &Registry, image: &Descriptor) -> Node {
    let node = Node::empty();
    let (source, fetch) = (at(registry, image), plain(registry));
    declare(&node, &source, &in_image(&PLUGINS), &fetch);
    node
}

#[track_caller]
fn has(node: &Node, content: impl Fn(&str) -> Vec<u8>) {
    for name in PLUGINS {
        assert!(
            node.read(&format!("{BIN}/{name}")) == content(name),
            "{name}"
        );
    }
    assert!(node.has(CONFLIST));
}

/// Installs, then installs again without any server, which changes nothing.
#[track_caller]
fn installs(node: &Node, variables: &[(&str, &str)], registry: Registry) -> Outcome {
    let mut command = node.command("install");
    let outcome = start(command.envs(variables.iter().copied())).end();
    assert_eq!(outcome.code, Some(0), "{outcome}\n{}", registry.log());
    has(node, plugin);
    drop(registry);
    let before = node.whole_tree();
    node.run("install").exits(0).says("nothing to do");
    assert_eq!(before, node.whole_tree());
    node.run("verify").exits(0);
    outcome
}

#[test]
fn an_image_is_installed_by_every_way_into_a_registry() {
    if !has_tools() {
        return;
    }
    let mut parts = ImageParts::default();
    let image = parts.image(plugin);
    let storage = stored(&parts);

    let registry = open(&storage);
    let node = pulling(&registry, &image);
    node.run("plan").exits(1).says("bridge");
    let from = at(&registry, &image);
    installs(&node, &[], registry).says(&format!("from {from}"));

    let guarded = Guarded::new(&[]);
    let names: &[&str] = &["127.0.0.1", ORIGIN];
    let tls = Setup {
        tls: Some((&guarded.authority, names)),
        ..Setup::default()
    };
    let password = Setup {
        guard: Access::Password,
        tls: Some((&guarded.authority, names)),
        at: None,
    };
    for (registry, identity) in [
        (Registry::start(&storage, &tls), false),
        (Registry::start(&storage, &password), false),
        (guarded.start(&storage, &guarded.authority, None), false),
        (guarded.start(&storage, &guarded.authority, None), true),
    ] {
        let node = Node::empty();
        let ca = secret(&node, "ca.pem", &guarded.authority.pem());
        let address = registry.address().to_string();
        let login = match identity {
            true => Config::identity(&address),
            false => Config::password(&address, PASSWORD),
        };
        let fetch = format!("caFile: {ca}\nregistryConfig: {}", login.path().display());
        declare(&node, &at(&registry, &image), &in_image(&PLUGINS), &fetch);
        installs(&node, &[], registry);
    }
    let Some(proxy) = Proxy::start(Kind::Squid) else {
        return;
    };
    let registry = Registry::start(&storage, &password);
    let port = registry.address().port();
    let node = Node::empty();
    let ca = secret(&node, "ca.pem", &guarded.authority.pem());
    let login = Config::password(&format!("{ORIGIN}:{port}"), PASSWORD);
    let fetch = format!("caFile: {ca}\nregistryConfig: {}", login.path().display());
    declare(
        &node,
        &source(ORIGIN, port, &image),
        &in_image(&PLUGINS),
        &fetch,
    );
    installs(&node, &[("HTTPS_PROXY", &proxy.url())], registry);
}

/// An index for two architectures: each gets its own image, and one that only claims to be for this one is refused
/// (fault 54).
#[test]
fn fault_54_the_right_platform_is_picked_and_the_wrong_binary_refused() {
    if !has_tools() {
        return;
    }
    let other = match arch() {
        Arch::Arm64 => Arch::Amd64,
        _ => Arch::Arm64,
    };
    let foreign = |_: &str| binary(other, 4096);
    let mut parts = ImageParts::default();
    let ours = parts.layer("+gzip", layer_of(&PLUGINS, plugin).gz());
    let theirs = parts.layer("+gzip", layer_of(&PLUGINS, foreign).gz());
    let (ours, theirs) = (parts.manifest(&[ours]), parts.manifest(&[theirs]));
    let both = parts.index(&[(other, &theirs), (arch(), &ours)]);
    let one = parts.index(&[(other, &theirs)]);
    let liar = parts.index(&[(arch(), &theirs)]);
    let storage = stored(&parts);
    let registry = open(&storage);

    pulling(&registry, &both).run("install").exits(0);
    for (image, message) in [
        (&one, format!("has no image for linux/{}", arch())),
        (&liar, format!("it is a binary for {other}")),
        (&theirs, format!("it is a binary for {other}")),
    ] {
        let node = pulling(&registry, image);
        node.run("install").exits(2).says(&message);
        assert!(!node.has(BIN) && !node.has(CONFLIST), "nothing is placed");
    }
}

/// Layers as builders pack them, and artifacts as `oras push` makes them: a plugin under its title, and an archive.
#[test]
fn layers_and_artifacts_of_every_packing_are_read() {
    if !has_tools() {
        return;
    }
    let zstd = |bytes: Vec<u8>| zstd::encode_all(&bytes[..], 3).unwrap();
    let mut parts = ImageParts::default();
    let layers = [
        parts.layer("+gzip", layer_of(&["bridge"], plugin).gz()),
        parts.layer("+zstd", zstd(layer_of(&["host-local"], plugin).bytes())),
        parts.layer("", layer_of(&["loopback"], plugin).bytes()),
    ];
    let mixed = parts.manifest(&layers);
    let files = PLUGINS.map(|name| parts.titled(name, plugin(name)));
    let bare = parts.manifest(&files);
    let archive = PLUGINS.iter().fold(Tar::like_upstream(), |tar, name| {
        tar.file(&format!("./{name}"), &plugin(name))
    });
    let archive = parts.titled("plugins.tgz", archive.gz());
    let archive = parts.manifest(&[archive]);
    let plain_names = format!("[{}]", PLUGINS.join(", "));
    let storage = stored(&parts);
    for (image, plugins) in [
        (&mixed, in_image(&PLUGINS)),
        (&bare, plain_names.clone()),
        (&archive, plain_names),
    ] {
        let registry = open(&storage);
        let node = Node::empty();
        declare(&node, &at(&registry, image), &plugins, &plain(&registry));
        installs(&node, &[], registry);
    }

    let registry = open(&storage);
    let node = Node::empty();
    let twice = "[{member: opt/cni/bin/bridge, as: calico}, {member: /opt/cni/bin/bridge, as: calico-ipam}, {member: opt/cni/bin/bridge, as: bridge}, {member: opt/cni/bin/host-local, as: host-local}, {member: opt/cni/bin/loopback, as: loopback}]";
    declare(&node, &at(&registry, &mixed), twice, &plain(&registry));
    installs(&node, &[], registry);
    for name in ["calico", "calico-ipam"] {
        assert!(node.read(&format!("{BIN}/{name}")) == plugin("bridge"));
    }
}

/// A tag gets one error, with the command that prints its digest.
#[test]
fn a_tag_is_refused_in_one_line() {
    let node = Node::empty();
    let plugins = in_image(&PLUGINS);
    declare(&node, "oci://registry.example/cni:v1", &plugins, "");
    let outcome = node.run("install");
    outcome.exits(64);
    assert_eq!(outcome.errors().len(), 1, "{outcome}");
    outcome.says("skopeo inspect --format '{{.Digest}}' docker://registry.example/cni:v1");
}

/// An agent with an image: ready, healed without the registry, upgraded to another digest, uninstalled.
#[test]
fn an_agent_keeps_what_came_out_of_an_image() {
    if !has_tools() {
        return;
    }
    let mut parts = ImageParts::default();
    let (image, next) = (parts.image(plugin), parts.image(other_build));
    let storage = stored(&parts);
    let registry = open(&storage);
    let address = registry.address();
    let node = pulling(&registry, &image);
    let agent = Agent::with_spares(&node);
    has(&node, plugin);
    let downloads = &agent.json("/status")["downloads"];
    assert_eq!(downloads[0]["from"], at(&registry, &image), "{downloads}");
    assert!(
        downloads[0]["failures"].as_array().unwrap().is_empty(),
        "{downloads}"
    );
    let from = at(&registry, &image);
    drop(registry);

    std::fs::remove_file(node.path(&format!("{BIN}/bridge"))).unwrap();
    node.write(&format!("{BIN}/loopback"), b"drift", 0o755);
    agent.becomes_ready();
    has(&node, plugin);

    // No source has the next image yet: the old one stays, and the source's reason is reported.
    let text = std::fs::read_to_string(node.config()).unwrap();
    let text = text.replace(&from, &source("127.0.0.1", address.port(), &next));
    node.redeclare(&text);
    agent.becomes_unready("no connection to 127.0.0.1");
    has(&node, plugin);
    let failures = &agent.json("/status")["downloads"][0]["failures"];
    assert_eq!(failures[0]["reason"], "connect", "{failures}");
    let registry = Registry::start(
        &storage,
        &Setup {
            at: Some(address),
            ..Setup::default()
        },
    );
    agent.becomes_ready();
    has(&node, other_build);
    drop(registry);
    agent.stop();

    node.run("uninstall").exits(0);
    assert!(!node.has(CONFLIST));
    assert!(node.names(BIN).is_empty(), "{:?}", node.names(BIN));
}

/// An archive is replaced by an image with the same plugins, and then more of its plugins are declared: the new ones
/// are fetched, and those in place are left alone.
#[test]
fn an_archive_gives_way_to_an_image_and_more_of_it_is_wanted() {
    if !has_tools() {
        return;
    }
    let more = ["bridge", "host-local", "loopback", "portmap"];
    let mut parts = ImageParts::default();
    let layer = parts.layer("+gzip", layer_of(&more, plugin).gz());
    let image = parts.manifest(&[layer]);
    let storage = stored(&parts);
    let registry = open(&storage);
    let node = Node::installed();
    let before = node.tree();
    let (source, fetch) = (at(&registry, &image), plain(&registry));
    declare(&node, &source, &in_image(&PLUGINS), &fetch);
    node.run("install").exits(0).does_not_say("place");
    assert_eq!(before, node.tree(), "they are the same");

    declare(&node, &source, &in_image(&more), &fetch);
    node.run("install --offline").exits(2);
    assert_eq!(before, node.tree());
    node.run("install")
        .exits(0)
        .row("place", &node.shown(&format!("{BIN}/portmap")), "missing");
    drop(registry);
    std::fs::remove_file(node.path(&format!("{BIN}/portmap"))).unwrap();
    node.run("install").exits(0);
    has(&node, plugin);
    assert!(node.read(&format!("{BIN}/portmap")) == plugin("portmap"));
}

/// Mounted secrets are renewed in place: an agent that was refused uses the new password by itself.
#[test]
fn a_password_that_is_renewed_is_taken_up() {
    if !has_tools() {
        return;
    }
    let mut parts = ImageParts::default();
    let image = parts.image(plugin);
    let storage = stored(&parts);
    let authority = Authority::new();
    let setup = Setup {
        guard: Access::Password,
        tls: Some((&authority, &["127.0.0.1"])),
        at: None,
    };
    let registry = Registry::start(&storage, &setup);
    let address = registry.address().to_string();
    let node = Node::empty();
    let ca = secret(&node, "ca.pem", &authority.pem());
    let old = Config::password(&address, "battery staple");
    let fetch = format!("caFile: {ca}\nregistryConfig: {}", old.path().display());
    declare(&node, &at(&registry, &image), &in_image(&PLUGINS), &fetch);
    let agent = Agent::start(&node);
    agent.becomes_unready("refuses what fetch.registryConfig holds");
    let new = Config::password(&address, PASSWORD);
    std::fs::rename(new.path(), old.path()).unwrap();
    agent.becomes_ready();
    has(&node, plugin);
    let downloads = &agent.json("/status")["downloads"];
    assert_eq!(downloads[0]["from"], at(&registry, &image), "{downloads}");
}
