//! The profiles on a node: the plugins come first, and the conflist once the daemon beside them is up.
//!
//! Plugins that are in images only are stood in for by a script that answers `VERSION`, in an image with the path that
//! the profile gives; the reference plugins are Debian's. Those speak CNI up to 1.0.0, so reference-bridge and
//! reference-ptp, which offer 1.1.0 as well, are left to the end-to-end tests.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use cni_keeper::config::{Gate, PROFILES};
use cni_keeper::model::Sha256;
use serde_json::{Value, json};

use super::{SUBNET_ENV, completed, data, golden, loaded};
use crate::support::archive::Tar;
use crate::support::node::{BIN, CONF, Node};
use crate::support::release::{arch, plugin};
use crate::support::server::{Reply, Server};

/// A plugin that only answers `VERSION`.
const STAND_IN: &[u8] = br#"#!/bin/sh
echo '{"cniVersion": "1.1.0", "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]}'
"#;

/// The completed profile with every artifact on the local mirror, and gates on this machine.
fn declare(node: &Node, name: &str, text: &str, server: &Server) {
    let mut config = data(&completed(name));
    let mut profile = data(text);
    let artifacts = profile["artifacts"].as_array().unwrap();
    config["artifacts"] = artifacts
        .iter()
        .map(|artifact| supplied(node, artifact))
        .collect();
    let requires = profile["network"]["requires"].take();
    let here = requires
        .to_string()
        .replace("http://127.0.0.1:6784/status", &server.url("/status"));
    let here: Value = serde_json::from_str(&here).unwrap();
    if config["network"].is_null() {
        config["network"] = json!({});
    }
    config["network"]["requires"] = here;
    config["seeds"] = json!([images(node)]);
    // JSON is YAML, too.
    fs::write(node.config(), config.to_string()).unwrap();
}

/// An artifact as an operator overrides it: another version, from elsewhere, with a digest of its own.
fn supplied(node: &Node, artifact: &Value) -> Value {
    let name = artifact["name"].as_str().unwrap();
    let source = artifact["sources"][0].as_str().unwrap();
    if source.starts_with("FILL-IN: oci://") {
        let paths = members(artifact);
        let files: Vec<(&str, &[u8])> = paths.into_iter().map(|path| (path, STAND_IN)).collect();
        return json!({"name": name, "version": "v0", "sources": [image(node, &files)]});
    }
    let bytes = if artifact["format"] == "raw" {
        STAND_IN.to_vec()
    } else {
        let tar = members(artifact)
            .into_iter()
            .fold(Tar::like_upstream(), |tar, member| {
                let content = match name {
                    "cni-plugins" => plugin(member),
                    _ => STAND_IN.to_vec(),
                };
                tar.file(&format!("./{member}"), &content)
            });
        tar.gz()
    };
    json!({
        "name": name,
        "version": "v0",
        "sources": [node.mirror(name, &bytes)],
        "format": artifact.get("format").unwrap_or(&json!("tar.gz")),
        "sha256": {arch().as_str(): Sha256::of(&bytes).to_string()},
    })
}

/// The paths that are to be taken out of an artifact.
fn members(artifact: &Value) -> Vec<&str> {
    let items = artifact["plugins"].as_array().unwrap().iter();
    let mut paths: Vec<&str> = items
        .map(|item| item["member"].as_str().or(item.as_str()).unwrap())
        .collect();
    paths.dedup();
    paths
}

/// Where the node's images are; laid out so that it serves as a seed.
fn images(node: &Node) -> PathBuf {
    node.config().with_file_name("images")
}

/// An image of one layer with these files; returns what a source would call it.
fn image(node: &Node, files: &[(&str, &[u8])]) -> String {
    let blobs = images(node).join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let keep = |bytes: &[u8]| {
        let digest = Sha256::of(bytes).to_string();
        fs::write(blobs.join(&digest), bytes).unwrap();
        json!({"digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let layer = files
        .iter()
        .fold(Tar::new(), |tar, (path, content)| tar.file(path, content));
    let manifest = json!({
        "schemaVersion": 2,
        "config": keep(b"{}"),
        "layers": [keep(&layer.bytes())],
    });
    let manifest = keep(manifest.to_string().as_bytes());
    let digest = manifest["digest"].as_str().unwrap();
    format!("oci://registry.example/team/cni@{digest}")
}

/// Whatever serves a socket stays until the test is over.
fn open(node: &Node, gate: &Gate, server: &Server) -> Option<UnixListener> {
    match gate {
        Gate::File(path) => {
            let inside = path.strip_prefix("/").unwrap();
            node.write(inside.to_str().unwrap(), SUBNET_ENV.as_bytes(), 0o600);
            None
        }
        Gate::Unix(path) => {
            let path = node.path(path.strip_prefix("/").unwrap().to_str().unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            Some(UnixListener::bind(path).unwrap())
        }
        Gate::Http(_) => {
            server.on("/status", [Reply::ok(b"up")]);
            None
        }
        Gate::Tcp(address) => panic!("no profile waits for {address}"),
    }
}

#[test]
fn the_conflist_comes_when_the_daemon_is_up() {
    for profile in PROFILES
        .iter()
        .filter(|profile| !profile.name.starts_with("reference-"))
    {
        // The kernel takes 107 bytes of path for a socket.
        let dir = tempfile::tempdir().unwrap();
        let node = Node::within(dir.path());
        let server = Server::http();
        server.on("/status", [Reply::status(503)]);
        declare(&node, profile.name, profile.text, &server);
        let settings = loaded(&fs::read_to_string(node.config()).unwrap(), arch()).settings;
        let network = settings.network.unwrap();

        assert!(!network.requires.is_empty(), "{}", profile.name);
        let mut listeners = Vec::new();
        for gate in &network.requires {
            let shut = node.run("install --node-name node-1");
            shut.exits(2).says("error: gates: ");
            assert!(!node.path(CONF).join(network.file_name.as_str()).exists());
            listeners.push(open(&node, gate, &server));
        }
        let members = settings
            .artifacts
            .iter()
            .flat_map(|artifact| &artifact.members);
        let mut plugins: Vec<&str> = members.map(|member| member.plugin.as_str()).collect();
        plugins.sort_unstable();
        assert_eq!(node.names(BIN), plugins, "before the conflist");

        node.run("install --node-name node-1").exits(0);
        let conflist = node.path(CONF).join(network.file_name.as_str());
        assert_eq!(fs::read_to_string(conflist).unwrap(), golden(profile.name));
        node.run("verify --node-name node-1").exits(0);
    }
}

/// What the profile calico says about calico from v3.33 on is true: one program of its image has both names.
#[test]
fn a_newer_calico_comes_out_of_its_image() {
    let profile = PROFILES.iter().find(|profile| profile.name == "calico");
    let text = profile.unwrap().text;
    let node = Node::empty();
    let image = image(&node, &[("usr/bin/calico", STAND_IN)]);
    let example: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#   "))
        .collect();
    let example = example.join("\n");
    let mut artifacts =
        data(&example.replace("oci://REGISTRY/calico/calico@sha256:DIGEST", &image))["artifacts"]
            .take();
    let reference = &data(text)["artifacts"][0];
    artifacts
        .as_array_mut()
        .unwrap()
        .push(supplied(&node, reference));
    let mut config = data(&completed("calico"));
    config["artifacts"] = artifacts;
    config["seeds"] = json!([images(&node)]);
    config["network"] = json!({"requires": []});
    fs::write(node.config(), config.to_string()).unwrap();

    node.run("install --node-name node-1").exits(0);
    let names = ["calico", "calico-ipam", "loopback", "portmap"];
    assert_eq!(node.names(BIN), names);
    for name in &names[..2] {
        assert_eq!(node.read(&format!("{BIN}/{name}")), STAND_IN);
    }
}
