//! Whole images in memory, good and hostile: what is requested, what is taken, and which errors the bad ones give.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write;

use tar::{EntryType, Header};

use super::{BlobDescriptor, BlobFetcher, GatherError, gather_image};
use crate::fetch::spool::MemorySpool;
use crate::fetch::unpack::{ArchiveError, LimitExceeded, UnpackLimits, read_members};
use crate::fetch::verify::{DigestHasher, Verified, verify_digest};
use crate::model::{Arch, Artifact, FailureKind, Format, IfPresent, Member, Pin, Sha256};

/// A registry's content, and what was asked of it.
#[derive(Default)]
struct Registry {
    blobs: HashMap<Pin, Vec<u8>>,
    asked: Vec<Pin>,
}

impl BlobFetcher<MemorySpool> for Registry {
    type Error = Infallible;

    async fn fetch_blob(
        &mut self,
        blob: &BlobDescriptor,
    ) -> Result<Verified<MemorySpool>, Infallible> {
        self.asked.push(blob.pin);
        let bytes = &self.blobs[&blob.pin];
        let mut spool = MemorySpool::default();
        spool.write_all(bytes).unwrap();
        let mut hasher = DigestHasher::for_pin(&blob.pin);
        hasher.update(bytes);
        match verify_digest(spool, bytes.len() as u64, hasher, blob.pin) {
            Ok(verified) => Ok(verified),
            Err(_) => panic!("kept under a wrong digest"),
        }
    }
}

impl Registry {
    fn put(&mut self, bytes: Vec<u8>) -> (Pin, usize) {
        let pin = Pin::sha256(&Sha256::of(&bytes).to_string()).unwrap();
        let size = bytes.len();
        self.blobs.insert(pin, bytes);
        (pin, size)
    }

    /// A manifest of layers, the lowest first, each with more of its descriptor.
    fn manifest(&mut self, layers: &[(Vec<u8>, &str)]) -> Pin {
        let layers: Vec<String> = layers
            .iter()
            .map(|(bytes, more)| {
                let (pin, size) = self.put(bytes.clone());
                format!(r#"{{"digest":"{pin}","size":{size}{more}}}"#)
            })
            .collect();
        let text = format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, layers.join(","));
        self.put(text.into_bytes()).0
    }

    fn index(&mut self, of: Pin, media_type: &str) -> Pin {
        let size = self.blobs[&of].len();
        let text = format!(
            r#"{{"manifests":[{{"mediaType":"{media_type}","digest":"{of}","size":{size},"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#
        );
        self.put(text.into_bytes()).0
    }

    /// Gathers and reads `paths`, which become the plugins p0, p1 …
    fn read(
        &mut self,
        pin: Pin,
        paths: &[&str],
        limits: &UnpackLimits,
    ) -> Result<Kept, GatherError<Infallible>> {
        let members = paths.iter().enumerate().map(|(index, path)| Member {
            path: (*path).to_owned(),
            plugin: format!("p{index}").parse().unwrap(),
            sha256: None,
        });
        let artifact = Artifact {
            name: "plugins".to_owned(),
            version: "v1".to_owned(),
            arch: Arch::Amd64,
            pin,
            sources: Vec::new(),
            format: Format::Image,
            if_present: IfPresent::Replace,
            members: members.collect(),
        };
        let image = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(gather_image(&artifact, limits, self))?;
        let mut kept = Kept::default();
        let new_file = || Ok(Vec::new());
        let keep = |plugins: &[&Member], content: Vec<u8>| {
            let digest = Sha256::of(&content);
            let plugins = plugins.iter().map(|member| member.plugin.to_string());
            kept.0.push((plugins.collect(), content));
            Ok(digest)
        };
        read_members(image, &artifact, limits, new_file, keep)?;
        Ok(kept)
    }

    /// The same for one layer, of which `bin/a` is wanted.
    fn read_layer(layer: Vec<u8>) -> Result<Kept, GatherError<Infallible>> {
        let mut registry = Self::default();
        let pin = registry.manifest(&[(layer, "")]);
        registry.read(pin, &["bin/a"], &UnpackLimits::default())
    }
}

/// What came: plugins, and the content.
#[derive(Default, Debug, PartialEq, Eq)]
struct Kept(Vec<(Vec<String>, Vec<u8>)>);

/// Entries of a tar: kind, path, content or target.
fn tar(entries: &[(EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, path, content) in entries {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        let content = match kind {
            EntryType::Symlink | EntryType::Link => {
                header.set_link_name_literal(content).unwrap();
                &[][..]
            }
            _ => content,
        };
        header.set_size(content.len() as u64);
        header.set_cksum();
        bytes.extend(header.as_bytes());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

const FILE: EntryType = EntryType::Regular;
const SCRIPT: &[u8] = b"#!/bin/sh\nexit 0\n";

fn one_file() -> Vec<u8> {
    tar(&[(FILE, "./bin/a", SCRIPT)])
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zstd frame to be skipped (RFC 8878, section 3.1.2).
fn skippable() -> Vec<u8> {
    [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"toc"].concat()
}

fn script(plugins: &[&str]) -> (Vec<String>, Vec<u8>) {
    let plugins = plugins.iter().map(|plugin| (*plugin).to_owned());
    (plugins.collect(), SCRIPT.to_vec())
}

#[track_caller]
fn refused(layer: Vec<u8>) -> String {
    Registry::read_layer(layer).unwrap_err().to_string()
}

/// Fault 50: several gzip members or zstd frames in a row are one stream, frames to be skipped are skipped.
#[test]
fn fault_50_a_layer_is_what_its_bytes_are() {
    let plain = one_file();
    let (front, back) = plain.split_at(700);
    for layer in [
        plain.clone(),
        gz(&plain),
        zst(&plain),
        [gz(front), gz(back)].concat(),
        [skippable(), zst(front), zst(back), skippable()].concat(),
    ] {
        let kept = Registry::read_layer(layer).unwrap();
        assert_eq!(kept.0, [script(&["p0"])]);
    }
}

/// Fault 50: damage is found although the digest is right, and whatever comes before it.
#[test]
fn fault_50_damaged_layers() {
    let plain = one_file();
    for pack in [gz, zst] {
        let good = pack(&plain);
        let mut flipped = good.clone();
        // In gzip's and in zstd's case the last bytes are, or end with, the checksum.
        let last = flipped.len() - if flipped[0] == 0x1f { 5 } else { 1 };
        flipped[last] ^= 1;
        for bad in [
            flipped,
            good[..good.len() - 2].to_vec(),
            good[..good.len() / 2].to_vec(),
            [&good[..], b"garbage"].concat(),
        ] {
            let error = refused(bad);
            assert!(error.contains("cannot be read"), "{error}");
        }
    }
}

/// Fault 52: bombs, each within what its own packing can do.
#[test]
fn fault_52_bombs() {
    let zeros = vec![0; 64 << 20];
    let bomb = tar(&[(FILE, "./bin/a", SCRIPT), (FILE, "./zeros", &zeros)]);
    for layer in [gz(&bomb), zst(&bomb)] {
        let error = refused(layer);
        assert!(
            error.ends_with("it unpacks to more than 200 times its own size"),
            "{error}"
        );
    }
    let many = tar(&[(FILE, "./x", &b""[..]); 20]);
    let mut registry = Registry::default();
    let pin = registry.manifest(&[(one_file(), ""), (many, "")]);
    let limits = UnpackLimits {
        layer_entries: 19,
        ..UnpackLimits::default()
    };
    let error = registry.read(pin, &["bin/a"], &limits).unwrap_err();
    assert!(
        error.to_string().ends_with("more than 19 entries"),
        "{error}"
    );
    // Two layers that are within the total, each alone.
    let half = |path| tar(&[(FILE, path, &[7; 3000])]);
    let pin = registry.manifest(&[(half("low"), ""), (half("high"), "")]);
    let limits = UnpackLimits {
        total: 5000,
        ..UnpackLimits::default()
    };
    let error = registry.read(pin, &["low"], &limits).unwrap_err();
    assert!(
        matches!(&error, GatherError::Archive(ArchiveError::Layer { source, .. })
        if matches!(**source, ArchiveError::Exceeds(LimitExceeded::Total(5000)))),
        "{error}"
    );
}

/// Fault 52: memory is not the packer's to spend.
#[test]
fn fault_52_a_zstd_window_is_bounded() {
    let noise: Vec<u8> = (0_u32..3 << 20)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let bytes = tar(&[(FILE, "noise", &noise), (FILE, "bin/a", SCRIPT)]);
    let packed = |window| {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(window).unwrap();
        encoder.write_all(&bytes).unwrap();
        encoder.finish().unwrap()
    };
    Registry::read_layer(packed(23)).unwrap();
    let error = refused(packed(24));
    assert!(
        error.contains("a zstd window of more than 8388608 bytes"),
        "{error}"
    );
}

/// Fault 51: names behind names, and names twice.
#[test]
fn fault_51_smuggled_and_doubled_names() {
    let pax = |path: &str| {
        let record = format!(" path={path}\n");
        let length = record.len() + 2;
        (EntryType::XHeader, "pax", format!("{length}{record}"))
    };
    let (kind, name, one) = pax("./bin/a");
    let kept = Registry::read_layer(tar(&[(kind, name, one.as_bytes()), (FILE, "x", SCRIPT)]));
    assert_eq!(kept.unwrap().0, [script(&["p0"])]);
    let (.., two) = pax("./bin/b");
    let two = tar(&[
        (kind, name, one.as_bytes()),
        (kind, name, two.as_bytes()),
        (FILE, "x", SCRIPT),
    ]);
    assert!(refused(two).contains("a file has two names"));
    let twice = tar(&[(FILE, "/bin/a", SCRIPT), (FILE, "bin/a", SCRIPT)]);
    assert!(refused(twice).contains("'bin/a' is in the archive more than once"));
    let climbing = tar(&[(FILE, "../bin/a", SCRIPT), (FILE, "x/../bin/a", SCRIPT)]);
    assert!(refused(climbing).contains("the image has no 'bin/a'"));
    let device = refused(tar(&[(EntryType::Char, "bin/a", b"")]));
    assert!(device.contains("a device, not a regular file"), "{device}");
    assert!(refused(b"neither".to_vec()).contains("neither a tar nor a file with a name"));
}

#[test]
fn no_more_layers_are_fetched_than_it_takes() {
    let mut registry = Registry::default();
    let top = tar(&[(FILE, "etc/x", b"")]);
    let middle = tar(&[
        (FILE, "bin/install", SCRIPT),
        (EntryType::Symlink, "bin/a", b"install"),
        (EntryType::Link, "bin/b", b"bin/install"),
    ]);
    let bottom = tar(&[(FILE, "bin/c", SCRIPT)]);
    let pin = registry.manifest(&[(bottom, ""), (gz(&middle), ""), (zst(&top), "")]);
    let limits = UnpackLimits::default();
    let kept = registry.read(pin, &["bin/a", "/bin/b"], &limits).unwrap();
    assert_eq!(kept.0, [script(&["p0", "p1"])], "one file under two names");
    assert_eq!(
        registry.asked.len(),
        3,
        "the manifest and two of three layers"
    );
    let kept = registry.read(pin, &["bin/c", "bin/a"], &limits).unwrap();
    assert_eq!(kept.0, [script(&["p1"]), script(&["p0"])]);

    let error = registry
        .read(pin, &["bin/d"], &limits)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "the image has no 'bin/d'; '/bin' holds a, b, c, install"
    );
}

#[test]
fn the_same_layer_twice_and_an_empty_one_are_layers_like_any_other() {
    let mut registry = Registry::default();
    let delete = tar(&[(FILE, "bin/.wh.a", b"")]);
    let layers = [
        (one_file(), ""),
        (delete, ""),
        (one_file(), ""),
        (gz(&[0; 1024]), ""),
    ];
    let pin = registry.manifest(&layers);
    registry
        .read(pin, &["bin/a"], &UnpackLimits::default())
        .unwrap();
    let pin = registry.manifest(&layers[..2]);
    assert!(
        registry
            .read(pin, &["bin/a"], &UnpackLimits::default())
            .is_err()
    );
}

#[test]
fn an_artifact_holds_files_under_their_titles() {
    let mut registry = Registry::default();
    let title = r#","annotations":{"org.opencontainers.image.title":"bin/a"}"#;
    for bytes in [SCRIPT.to_vec(), gz(SCRIPT), zst(SCRIPT)] {
        let pin = registry.manifest(&[(bytes, title)]);
        let kept = registry
            .read(pin, &["bin/a"], &UnpackLimits::default())
            .unwrap();
        assert_eq!(kept.0, [script(&["p0"])]);
    }
}

#[test]
fn indexes_lead_to_the_manifest_unless_they_lead_on_and_on() {
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let mut registry = Registry::default();
    let manifest = registry.manifest(&[(one_file(), "")]);
    let index = registry.index(manifest, "application/vnd.oci.image.manifest.v1+json");
    let nested = registry.index(index, INDEX);
    for pin in [manifest, index, nested] {
        registry
            .read(pin, &["bin/a"], &UnpackLimits::default())
            .unwrap();
    }
    let deep = registry.index(nested, INDEX);
    let error = registry
        .read(deep, &["bin/a"], &UnpackLimits::default())
        .unwrap_err();
    assert!(
        error.to_string().contains("an index within an index"),
        "{error}"
    );
    assert!(
        matches!(&error, GatherError::Image(error) if error.kind() == FailureKind::Image),
        "{error}"
    );
}

#[test]
fn a_blob_of_another_size_than_announced_is_refused() {
    let mut registry = Registry::default();
    let (layer, size) = registry.put(one_file());
    let text = format!(
        r#"{{"layers":[{{"digest":"{layer}","size":{}}}]}}"#,
        size + 1
    );
    let (pin, _) = registry.put(text.into_bytes());
    let error = registry
        .read(pin, &["bin/a"], &UnpackLimits::default())
        .unwrap_err();
    assert!(error.to_string().contains("were announced"), "{error}");
    let (large, _) = registry.put(vec![b' '; (4 << 20) + 1]);
    let error = registry
        .read(large, &["bin/a"], &UnpackLimits::default())
        .unwrap_err();
    assert!(
        error.to_string().contains("a manifest has 4194304 at most"),
        "{error}"
    );
}
