//! Images put together by hand, part by part: for images that no tool would make, and for tests that need each digest.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use cni_keeper::model::{Arch, Sha256};
use serde_json::{Value, json};

use super::archive::Tar;
use super::registry::{REPOSITORY, StoredContent};
use super::release::{Artifact, PLUGINS, arch};
use super::server::{Reply, Server};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Where images have their plugins.
const PLUGIN_DIR: &str = "opt/cni/bin";

/// The blobs and manifests of one image or of several.
#[derive(Default)]
pub(crate) struct ImageParts {
    things: Vec<(String, StoredContent)>,
}

/// The descriptor of a part, as manifests have it.
pub(crate) type Descriptor = Value;

/// The digest in a description.
pub(crate) fn digest(of: &Descriptor) -> &str {
    of["digest"].as_str().unwrap()
}

/// The list `plugins` of a declared image.
pub(crate) fn in_image(plugins: &[&str]) -> String {
    let one = |name: &&str| format!("{{member: /{PLUGIN_DIR}/{name}, as: {name}}}");
    let all: Vec<String> = plugins.iter().map(one).collect();
    format!("[{}]", all.join(", "))
}

/// A declared image; its sources name the digest.
pub(crate) fn image_of(version: &str, sources: Vec<String>, plugins: &str) -> Artifact {
    Artifact {
        version: version.to_owned(),
        sources,
        pin: String::new(),
        plugins: plugins.to_owned(),
        more: String::new(),
    }
}

/// A layer with these plugins, not packed.
pub(crate) fn layer_of(plugins: &[&str], content: impl Fn(&str) -> Vec<u8>) -> Tar {
    plugins.iter().fold(Tar::new(), |tar, plugin| {
        tar.file(&format!("{PLUGIN_DIR}/{plugin}"), &content(plugin))
    })
}

impl ImageParts {
    fn add(&mut self, kind: &'static str, media: &str, content: Vec<u8>) -> Descriptor {
        let digest = format!("sha256:{}", Sha256::of(&content));
        let described = json!({"mediaType": media, "digest": digest, "size": content.len()});
        let thing = StoredContent {
            kind,
            digest,
            content,
        };
        self.things.push((media.to_owned(), thing));
        described
    }

    pub(crate) fn layer(&mut self, packing: &str, content: Vec<u8>) -> Descriptor {
        let media = format!("application/vnd.oci.image.layer.v1.tar{packing}");
        self.add("blobs", &media, content)
    }

    /// A file with its name, as `oras push` describes one.
    pub(crate) fn titled(&mut self, title: &str, content: Vec<u8>) -> Descriptor {
        let mut described = self.add("blobs", "application/octet-stream", content);
        described["annotations"] = json!({"org.opencontainers.image.title": title});
        described
    }

    /// Over layers, the lowest first.
    pub(crate) fn manifest(&mut self, layers: &[Descriptor]) -> Descriptor {
        let config = self.add("blobs", "application/vnd.example.config", b"{}".to_vec());
        let content = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        });
        self.add("manifests", MANIFEST, content.to_string().into_bytes())
    }

    pub(crate) fn index(&mut self, manifests: &[(Arch, &Descriptor)]) -> Descriptor {
        let one = |(arch, manifest): &(Arch, &Descriptor)| {
            let mut one = (*manifest).clone();
            one["platform"] = json!({"os": "linux", "architecture": arch.as_str()});
            one
        };
        let all: Vec<Value> = manifests.iter().map(one).collect();
        let content = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": all});
        self.add("manifests", INDEX, content.to_string().into_bytes())
    }

    /// A whole image of the plugins that these tests need, for this machine.
    pub(crate) fn image(&mut self, content: impl Fn(&str) -> Vec<u8>) -> Descriptor {
        let layer = self.layer("+gzip", layer_of(&PLUGINS, content).gz());
        let manifest = self.manifest(&[layer]);
        self.index(&[(arch(), &manifest)])
    }

    /// Pushes all to an open registry without TLS.
    pub(crate) fn push(&self, registry: SocketAddr) {
        for (media, thing) in &self.things {
            let StoredContent {
                kind,
                digest,
                content,
            } = thing;
            let answer = match *kind {
                "blobs" => {
                    let begin = format!("POST /v2/{REPOSITORY}/blobs/uploads/");
                    let begun = say(registry, &begin, media, b"");
                    let mut lines = begun.lines();
                    let to = lines.find_map(|line| line.strip_prefix("Location: "));
                    let to = to.and_then(|to| to.find("/v2/").map(|at| &to[at..]));
                    let to = to.unwrap_or_else(|| panic!("{begun}"));
                    say(
                        registry,
                        &format!("PUT {to}&digest={digest}"),
                        media,
                        content,
                    )
                }
                kind => {
                    let put = format!("PUT /v2/{REPOSITORY}/{kind}/{digest}");
                    say(registry, &put, media, content)
                }
            };
            assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        }
    }

    /// Serves all of it from a server that plays a registry.
    pub(crate) fn serve(&self, server: &Server) {
        for (path, content) in self.paths() {
            server.on(&path, [Reply::ok(&content)]);
        }
    }

    /// The path of every part on a registry, and its bytes.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        let one = |(_, thing): &(String, StoredContent)| (path(thing), thing.content.clone());
        self.things.iter().map(one)
    }

    /// The path of a part on a registry, and its bytes.
    pub(crate) fn part(&self, described: &Descriptor) -> (String, Vec<u8>) {
        let wanted = digest(described);
        self.paths()
            .find(|(path, _)| path.ends_with(wanted))
            .unwrap()
    }
}

fn path(thing: &StoredContent) -> String {
    format!("/v2/{REPOSITORY}/{}/{}", thing.kind, thing.digest)
}

fn say(to: SocketAddr, what: &str, media: &str, body: &[u8]) -> String {
    let length = body.len();
    let head = format!(
        "{what} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
