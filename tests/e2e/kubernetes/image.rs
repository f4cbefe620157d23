//! The image as `scripts/image` builds it from the Dockerfile: what a kubelet is given to run.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Where scripts/e2e-kubernetes has put the images, and what is baked into one of them.
const IMAGES: &str = "CNI_KEEPER_E2E_IMAGES";
/// The agent's image, in two versions: the first has nothing baked in.
pub(crate) const VERSIONS: [&str; 2] = ["0.1.0", "0.1.1"];
/// The program's own limit, and a quarter for the authorities.
const LARGEST: u64 = 8 * 1024 * 1024 + 256 * 1024;

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

/// A file of an image: its mode, its owner and group, and how long it is.
type Seen = (u32, u64, u64, u64);

/// All that is in an image, without its directories, and its configuration.
fn opened(version: &str) -> (BTreeMap<String, Seen>, Value) {
    let mut members = BTreeMap::new();
    for member in tar::Archive::new(File::open(archive(version)).unwrap())
        .entries()
        .unwrap()
    {
        let mut member = member.unwrap();
        let mut content = Vec::new();
        member.read_to_end(&mut content).unwrap();
        let name = member.path().unwrap().to_str().unwrap().to_owned();
        members.insert(name, content);
    }
    let manifest: Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
    let config = &members[manifest[0]["Config"].as_str().unwrap()];
    let mut files = BTreeMap::new();
    for layer in manifest[0]["Layers"].as_array().unwrap() {
        // What occurs twice is kept once, as a link to the first.
        let layer = &members[layer.as_str().unwrap()];
        for file in tar::Archive::new(layer.as_slice()).entries().unwrap() {
            let file = file.unwrap();
            let header = file.header();
            if header.entry_type().is_dir() {
                continue;
            }
            assert!(header.entry_type().is_file(), "{header:?}");
            let name = file.path().unwrap().to_str().unwrap().to_owned();
            let seen = (
                header.mode().unwrap() & 0o7777,
                header.uid().unwrap(),
                header.gid().unwrap(),
                header.size().unwrap(),
            );
            files.insert(name, seen);
        }
    }
    (files, serde_json::from_slice(config).unwrap())
}

/// The program, the authorities and, where there is a seed, the seed; nothing else that could be run or go stale.
#[test]
#[ignore = "scripts/e2e-kubernetes builds the image"]
fn an_image_holds_the_program_and_nothing_besides() {
    let (program, authorities) = ("cni-keeper", "etc/ssl/certs/ca-certificates.crt");
    for version in VERSIONS {
        let (files, config) = opened(version);
        let mut expected = vec![program.to_owned(), authorities.to_owned()];
        if version == VERSIONS[1] {
            let seed = seeded();
            let name = Path::new("seed").join(seed.file_name().unwrap());
            assert_eq!(
                files[name.to_str().unwrap()].3,
                fs::metadata(&seed).unwrap().len()
            );
            expected.push(name.to_str().unwrap().to_owned());
        }
        assert!(files.keys().eq(&expected), "{version}: {files:#?}");
        for (name, (mode, owner, group, _)) in &files {
            let wanted = if name == program { 0o755 } else { 0o644 };
            assert_eq!((*mode, *owner, *group), (wanted, 0, 0), "{name}");
        }
        let size = files[program].3 + files[authorities].3;
        assert!(size < LARGEST, "{version}: {size} bytes");

        let config = &config["config"];
        assert_eq!(config["User"], "0:0", "{config:#}");
        assert_eq!(config["Entrypoint"], json!(["/cni-keeper"]), "{config:#}");
        assert_eq!(config["Cmd"], Value::Null, "{config:#}");
        let labels = &config["Labels"];
        assert_eq!(labels["org.opencontainers.image.version"], version);
        assert_eq!(labels["org.opencontainers.image.title"], "cni-keeper");
        assert_eq!(labels["org.opencontainers.image.licenses"], "Apache-2.0");
        let revision = labels["org.opencontainers.image.revision"].as_str();
        assert!(revision.is_some_and(|text| !text.is_empty()), "{labels:#}");
    }
}
