//! The image as `scripts/image` builds it from the Dockerfile: what a kubelet is given to run.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use cni_keeper::model::{Arch, Sha256};
use flate2::read::GzDecoder;
use serde_json::{Value, json};

/// Where scripts/e2e-kubernetes has put the images, and what is baked into one of them.
const IMAGES: &str = "CNI_KEEPER_E2E_IMAGES";
/// The agent's image, in two versions: the first has nothing baked in.
pub(crate) const VERSIONS: [&str; 2] = ["0.1.0", "0.1.1"];
/// Where the program and the authorities are in an image.
const PROGRAM: &str = "cni-keeper";
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";
/// The program's own limit, and a quarter for the authorities.
const LARGEST: usize = 8 * 1024 * 1024 + 256 * 1024;

/// Where the images are.
pub(crate) fn images() -> PathBuf {
    let Ok(dir) = std::env::var(IMAGES) else {
        panic!("there is no image: scripts/e2e-kubernetes builds it");
    };
    dir.into()
}

/// An image archive.
pub(crate) fn archive(version: &str) -> PathBuf {
    images().join(format!("cni-keeper-{version}.tar"))
}

/// The archive of plugins that is baked into the second image.
pub(crate) fn seeded() -> PathBuf {
    let mut files = fs::read_dir(images().join("seed")).unwrap();
    files.next().unwrap().unwrap().path()
}

/// For which architectures an image is: the first for this machine's, the second for all that scripts/image builds.
fn architectures(version: &str) -> Vec<Arch> {
    match version == VERSIONS[0] {
        true => vec![Arch::of_this_program().unwrap()],
        false => vec![Arch::Amd64, Arch::Arm64],
    }
}

/// A file of an image.
#[derive(Debug)]
struct ImageFile {
    mode: u32,
    owner: u64,
    group: u64,
    content: Vec<u8>,
}

/// An image for one architecture: all its files, without its directories, and its configuration.
struct Image {
    platform: Value,
    files: BTreeMap<String, ImageFile>,
    config: Value,
}

/// What is in an archive in OCI's layout.
struct Layout(BTreeMap<String, Vec<u8>>);

impl Layout {
    fn open(archive: &Path) -> Self {
        let mut members = BTreeMap::new();
        let mut tar = tar::Archive::new(File::open(archive).unwrap());
        for member in tar.entries().unwrap() {
            let mut member = member.unwrap();
            let mut content = Vec::new();
            member.read_to_end(&mut content).unwrap();
            members.insert(member.path().unwrap().to_str().unwrap().to_owned(), content);
        }
        Self(members)
    }

    fn document(&self, name: &str) -> Value {
        serde_json::from_slice(&self.0[name]).unwrap()
    }

    /// The content that a descriptor names. It must have that digest and size.
    fn blob(&self, descriptor: &Value) -> &[u8] {
        let digest = descriptor["digest"].as_str().unwrap();
        let hex = digest.strip_prefix("sha256:").unwrap();
        let content = &self.0[&format!("./blobs/sha256/{hex}")];
        assert_eq!(Sha256::of(content).to_string(), hex, "{descriptor:#}");
        assert_eq!(descriptor["size"], content.len(), "{descriptor:#}");
        content
    }

    fn json(&self, descriptor: &Value) -> Value {
        serde_json::from_slice(self.blob(descriptor)).unwrap()
    }

    /// The images of the one index, which has this name for containerd.
    fn images(&self, name: &str) -> Vec<Image> {
        let top = self.document("./index.json");
        let [index] = top["manifests"].as_array().unwrap().as_slice() else {
            panic!("{top:#}");
        };
        assert_eq!(index["annotations"]["io.containerd.image.name"], name);
        let index = self.json(index);
        let manifests = index["manifests"].as_array().unwrap();
        manifests.iter().map(|one| self.image(one)).collect()
    }

    fn image(&self, descriptor: &Value) -> Image {
        let manifest = self.json(descriptor);
        let layers = manifest["layers"].as_array().unwrap();
        let files = layers.iter().flat_map(|layer| files(self.blob(layer)));
        Image {
            platform: descriptor["platform"].clone(),
            files: files.collect(),
            config: self.json(&manifest["config"]),
        }
    }
}

/// The files of a gzipped layer. It must hold nothing but files and directories.
fn files(layer: &[u8]) -> Vec<(String, ImageFile)> {
    let mut files = Vec::new();
    let mut tar = tar::Archive::new(GzDecoder::new(layer));
    for file in tar.entries().unwrap() {
        let mut file = file.unwrap();
        let header = file.header();
        if header.entry_type().is_dir() {
            continue;
        }
        assert!(header.entry_type().is_file(), "{header:?}");
        let mut seen = ImageFile {
            mode: header.mode().unwrap() & 0o7777,
            owner: header.uid().unwrap(),
            group: header.gid().unwrap(),
            content: Vec::new(),
        };
        file.read_to_end(&mut seen.content).unwrap();
        files.push((file.path().unwrap().to_str().unwrap().to_owned(), seen));
    }
    files
}

/// The architecture that a program's ELF header names (`e_machine`, at offset 18).
fn machine(program: &[u8]) -> Option<Arch> {
    assert!(program.starts_with(b"\x7fELF"));
    match program[18..20] {
        [62, 0] => Some(Arch::Amd64),
        [183, 0] => Some(Arch::Arm64),
        _ => None,
    }
}

#[test]
#[ignore = "scripts/e2e-kubernetes builds the image"]
fn an_index_has_an_image_for_each_architecture() {
    for version in VERSIONS {
        let name = format!("localhost/cni-keeper:{version}");
        let images = Layout::open(&archive(version)).images(&name);
        assert_eq!(images.len(), architectures(version).len(), "{version}");
        for (image, arch) in images.iter().zip(architectures(version)) {
            let expected = json!({"architecture": arch.as_str(), "os": "linux"});
            assert_eq!(image.platform, expected, "{version}");
            assert_eq!(image.config["architecture"], arch.as_str(), "{version}");
            assert_eq!(image.config["os"], "linux", "{version}");
            assert_eq!(machine(&image.files[PROGRAM].content), Some(arch));
            check_content(version, image);
        }
    }
}

/// The program, the authorities and, where there is a seed, the seed; nothing else that could be run or go stale.
fn check_content(version: &str, image: &Image) {
    let files = &image.files;
    let mut expected = vec![PROGRAM.to_owned(), AUTHORITIES.to_owned()];
    if version == VERSIONS[1] {
        let seed = seeded();
        let name = Path::new("seed").join(seed.file_name().unwrap());
        let name = name.to_str().unwrap().to_owned();
        assert!(files[&name].content == fs::read(&seed).unwrap(), "{name}");
        expected.push(name);
    }
    assert!(files.keys().eq(&expected), "{version}: {:?}", files.keys());
    for (name, file) in files {
        let mode = if name == PROGRAM { 0o755 } else { 0o644 };
        assert_eq!((file.mode, file.owner, file.group), (mode, 0, 0), "{name}");
    }
    let size = files[PROGRAM].content.len() + files[AUTHORITIES].content.len();
    assert!(size < LARGEST, "{version}: {size} bytes");

    let config = &image.config["config"];
    assert_eq!(config["User"], "0:0", "{config:#}");
    assert_eq!(config["Entrypoint"], json!(["/cni-keeper"]), "{config:#}");
    assert_eq!(config["Cmd"], Value::Null, "{config:#}");
    let labels = &config["Labels"];
    assert_eq!(labels["org.opencontainers.image.version"], version);
    assert_eq!(labels["org.opencontainers.image.title"], "cni-keeper");
    assert_eq!(labels["org.opencontainers.image.licenses"], "Apache-2.0");
    let revision = labels["org.opencontainers.image.revision"].as_str();
    assert!(revision.is_some_and(|text| !text.is_empty()), "{labels:#}");
    let toolchain = labels["cni-keeper.toolchain"].as_str();
    assert!(
        toolchain.is_some_and(|text| text.starts_with("rustc 1.")),
        "{labels:#}"
    );
}
