//! Archives that the tests make: the plugins as upstream packs them, and the image that the pods run.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::namespace::find_program;

/// Where the reference plugins of `scripts/peers` are, which know CNI 1.1.0 and need no libraries of the node.
pub(crate) fn current_plugins() -> PathBuf {
    let plugin = find_program("host-local").unwrap();
    plugin.parent().unwrap().to_owned()
}

/// Where Debian's `containernetworking-plugins` puts the real plugins.
pub(crate) const DEBIAN_PLUGINS: &str = "/usr/lib/cni";

/// The image of every container and sandbox: static busybox and nothing else.
pub(crate) const IMAGE: &str = "localhost/cni-keeper-e2e:1";

/// The digest of some bytes, as configurations and image indexes write it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", base16ct::HexDisplay(&Sha256::digest(bytes)))
}

/// Packs the builds of `plugins` in `dir` as upstream packs a release, with `suffix` after each program.
///
/// An ELF program runs whatever follows it, so a suffix makes another build of it that works alike.
pub(crate) fn plugins_tgz(dir: &Path, plugins: &[&str], suffix: &[u8]) -> Vec<u8> {
    let mut tar = Tar::gzipped();
    tar.directory("./");
    tar.file("./README.md", 0o644, b"plugins\n");
    tar.file("./LICENSE", 0o644, b"licence\n");
    for plugin in plugins {
        let mut program = fs::read(dir.join(plugin)).unwrap();
        program.extend_from_slice(suffix);
        tar.file(&format!("./{plugin}"), 0o755, &program);
    }
    tar.finish().finish().unwrap()
}

/// An image archive of busybox that runs for ever.
pub(crate) fn busybox_image(busybox: &Path) -> Vec<u8> {
    let config = json!({"Entrypoint": ["/bin/busybox", "tail", "-f", "/dev/null"]});
    let mut layer = Tar::plain();
    layer.directory("bin/");
    layer.directory("tmp/");
    layer.file("bin/busybox", 0o755, &fs::read(busybox).unwrap());
    image(IMAGE, layer, &config)
}

/// An image archive of programs, each with its place in the image.
pub(crate) fn programs_image(name: &str, programs: &[(PathBuf, PathBuf)]) -> Vec<u8> {
    let mut layer = Tar::plain();
    for (place, program) in programs {
        let place = place.strip_prefix("/").unwrap().to_str().unwrap();
        layer.file(place, 0o755, &fs::read(program).unwrap());
    }
    image(name, layer, &json!({"Env": ["PATH=/usr/sbin:/usr/bin"]}))
}

/// An archive of an image in OCI's layout, made without a registry or a builder.
///
/// Its one layer is not compressed, so that the layer's digest is its `diff_id` as well.
fn image(name: &str, layer: Tar<Vec<u8>>, config: &Value) -> Vec<u8> {
    let layer = layer.finish();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))]},
    })
    .to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    })
    .to_string();
    let mut entry = descriptor(
        "application/vnd.oci.image.manifest.v1+json",
        manifest.as_bytes(),
    );
    entry["annotations"] = json!({"io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();

    let mut image = Tar::plain();
    image.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
    image.file("index.json", 0o644, index.as_bytes());
    for blob in [&layer, config.as_bytes(), manifest.as_bytes()] {
        image.file(&format!("blobs/sha256/{}", sha256(blob)), 0o644, blob);
    }
    image.finish()
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({
        "mediaType": media_type,
        "digest": format!("sha256:{}", sha256(blob)),
        "size": blob.len(),
    })
}

/// A tar archive in memory.
struct Tar<W: Write>(tar::Builder<W>);

impl Tar<Vec<u8>> {
    fn plain() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }
}

impl Tar<GzEncoder<Vec<u8>>> {
    fn gzipped() -> Self {
        Self(tar::Builder::new(GzEncoder::new(
            Vec::new(),
            Compression::fast(),
        )))
    }
}

impl<W: Write> Tar<W> {
    fn directory(&mut self, path: &str) {
        self.entry(path, tar::EntryType::Directory, 0o755, &[]);
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, tar::EntryType::Regular, mode, content);
    }

    /// The path goes into the header as it is: `Header::set_path` would take the leading `./` away.
    fn entry(&mut self, path: &str, kind: tar::EntryType, mode: u32, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
    }

    fn finish(self) -> W {
        self.0.into_inner().unwrap()
    }
}
