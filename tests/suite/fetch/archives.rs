//! Faults 50 to 54: archives whose digest is right and whose content is bad.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};

use cni_keeper::fetch::{
    ArchiveError, LimitExceeded, SharedServerHealth, UnpackLimits, download, read_members,
};
use cni_keeper::model::{Arch, Artifact, Format, Member, Pin, Sha256};
use sha2::Digest;
use tar::EntryType;

use super::{TempSpool, artifact, means, settings};
use crate::support::archive::{Tar, binary, gzip};

/// A file that was begun, and what it is once it is complete.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) plugins: Vec<String>,
    content: Vec<u8>,
    pub(super) digest: Option<Sha256>,
}

/// Keeps everything, and checks the order of the reader's calls.
#[derive(Default)]
pub(super) struct Keep(pub(super) Vec<Taken>);

impl Keep {
    fn begin(&mut self) {
        assert!(self.0.iter().all(|taken| taken.digest.is_some()));
        self.0.push(Taken::default());
    }

    fn end(&mut self, plugins: &[&Member], content: Vec<u8>) -> Sha256 {
        let digest = sha256(&content);
        let plugins = plugins.iter().map(|member| member.plugin.to_string());
        let begun = self.0.last_mut().unwrap();
        assert_eq!(begun.digest, None);
        *begun = Taken {
            plugins: plugins.collect(),
            content,
            digest: Some(digest),
        };
        digest
    }
}

fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256::from_bytes(sha2::Sha256::digest(bytes).into())
}

fn member(path: &str, plugin: &str) -> Member {
    Member {
        path: path.to_owned(),
        plugin: plugin.parse().unwrap(),
        sha256: None,
    }
}

/// The artifact that a case reads, by default a tar.gz of which `bridge` is wanted.
pub(super) fn wants_bridge() -> Artifact {
    let mut artifact = artifact(&[], Pin::Sha256([0; 32]));
    artifact.members = vec![member("bridge", "bridge")];
    artifact
}

/// Downloads the bytes, whose pin is right, and reads the members.
pub(super) fn read_as(
    artifact: Artifact,
    bytes: &[u8],
    limits: &UnpackLimits,
    keep: &mut Keep,
) -> Result<(), ArchiveError> {
    let keep = RefCell::new(keep);
    read_into(
        artifact,
        bytes,
        limits,
        || {
            keep.borrow_mut().begin();
            Ok(Vec::new())
        },
        |plugins, content| Ok(keep.borrow_mut().end(plugins, content)),
    )
}

/// The same into files of any kind.
fn read_into<F: Write>(
    mut artifact: Artifact,
    bytes: &[u8],
    limits: &UnpackLimits,
    new_file: impl FnMut() -> io::Result<F>,
    keep: impl FnMut(&[&Member], F) -> io::Result<Sha256>,
) -> Result<(), ArchiveError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    artifact.sources = vec![format!("file://{}", file.path().display())];
    artifact.pin = Pin::Sha256(sha2::Sha256::digest(bytes).into());
    let (settings, health) = (settings(), SharedServerHealth::default());
    let (fetched, _) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(download(&artifact, &means(&settings, &health), &|| {
            Ok(TempSpool::new())
        }))
        .unwrap();
    read_members(fetched, &artifact, limits, new_file, keep)
}

fn read(bytes: &[u8]) -> Result<Vec<Taken>, ArchiveError> {
    let mut keep = Keep::default();
    read_as(wants_bridge(), bytes, &UnpackLimits::default(), &mut keep)?;
    Ok(keep.0)
}

#[track_caller]
fn refused(bytes: &[u8]) -> ArchiveError {
    read(bytes).unwrap_err()
}

/// Larger than two of the buffers on the way, and no multiple of them.
fn bridge() -> Vec<u8> {
    binary(Arch::Amd64, 700_000)
}

#[track_caller]
fn gives_the_bridge(bytes: &[u8]) {
    let content = bridge();
    let digest = Some(sha256(&content));
    let plugins = vec!["bridge".to_owned()];
    let expected = Taken {
        plugins,
        content,
        digest,
    };
    // Not assert_eq, which would print all the bytes.
    assert!(read(bytes).unwrap() == [expected]);
}

#[test]
fn only_what_is_wanted_is_taken_and_a_leading_dot_does_not_matter() {
    let tar = || {
        Tar::like_upstream()
            .file("./portmap", &binary(Arch::Amd64, 300_000))
            .file("./bridge", &bridge())
            .file("./vlan", b"not even a plugin")
    };
    gives_the_bridge(&tar().gz());

    let mut plain = wants_bridge();
    plain.format = Format::Tar;
    plain.members.push(member("./portmap", "portmap"));
    let mut keep = Keep::default();
    read_as(plain, &tar().bytes(), &UnpackLimits::default(), &mut keep).unwrap();
    let names: Vec<&str> = keep
        .0
        .iter()
        .map(|taken| taken.plugins[0].as_str())
        .collect();
    assert_eq!(names, ["portmap", "bridge"], "in the archive's order");
}

#[test]
fn one_member_under_two_names_and_a_raw_artifact() {
    let mut calico = wants_bridge();
    let names = ["calico", "calico-ipam"];
    calico.members = names.map(|name| member("bin/calico", name)).to_vec();
    let mut keep = Keep::default();
    let bytes = Tar::new().file("bin/calico", &bridge()).gz();
    read_as(calico.clone(), &bytes, &UnpackLimits::default(), &mut keep).unwrap();
    assert_eq!(keep.0.len(), 1);
    assert_eq!(keep.0[0].plugins, names);

    calico.format = Format::Raw;
    let mut keep = Keep::default();
    read_as(
        calico.clone(),
        &bridge(),
        &UnpackLimits::default(),
        &mut keep,
    )
    .unwrap();
    assert_eq!(keep.0.len(), 1);
    assert!(keep.0[0].content == bridge());

    let error = read_as(
        calico,
        b"<html>",
        &UnpackLimits::default(),
        &mut Keep::default(),
    );
    assert!(error.unwrap_err().to_string().contains("an HTML page"));
}

#[test]
fn a_member_with_a_pin_of_its_own_is_held_to_it() {
    let bytes = Tar::new().file("bridge", &bridge()).gz();
    let mut pinned = wants_bridge();
    pinned.members[0].sha256 = Some(sha256(&bridge()));
    let mut keep = Keep::default();
    read_as(pinned.clone(), &bytes, &UnpackLimits::default(), &mut keep).unwrap();

    pinned.members[0].sha256 = Some(sha256(b"other"));
    let mut keep = Keep::default();
    let error = read_as(pinned, &bytes, &UnpackLimits::default(), &mut keep).unwrap_err();
    assert_eq!(error.kind().as_str(), "member-digest");
    assert!(error.to_string().contains(&sha256(&bridge()).to_string()));
}

/// Fault 50: a wrong checksum, garbage after the end and a cut are errors; several gzip members are one stream.
#[test]
fn fault_50_gzip() {
    let tar = || Tar::like_upstream().file("bridge", &bridge());
    let good = tar().gz();
    let end = good.len();
    for back in 1..=8 {
        let mut wrong = good.clone();
        wrong[end - back] ^= 1;
        assert_eq!(
            refused(&wrong).kind().as_str(),
            "archive",
            "trailer byte {back}"
        );
    }
    for garbage in [&b"garbage after the end"[..], b"\0", b"\x1f\x8b"] {
        let bytes = [&good, garbage].concat();
        assert_eq!(refused(&bytes).kind().as_str(), "archive", "{garbage:?}");
    }
    for cut in [1, 7, 9, end / 2] {
        assert_eq!(
            refused(&good[..end - cut]).kind().as_str(),
            "archive",
            "cut by {cut}"
        );
    }
    assert_eq!(refused(b"").kind().as_str(), "archive");
    assert_eq!(refused(b"<html>").kind().as_str(), "archive");

    let plain = tar().bytes();
    let (one, two) = plain.split_at(plain.len() / 3);
    gives_the_bridge(&[gzip(one), gzip(b""), gzip(two)].concat());
}

/// Fault 51: a wanted path that is anything but a regular file is an error, and is never followed.
#[test]
fn fault_51_a_wanted_path_must_be_a_regular_file() {
    for (kind, name) in [
        (EntryType::Symlink, "a symbolic link"),
        (EntryType::Link, "a hard link"),
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Fifo, "a pipe"),
        (EntryType::Directory, "a directory"),
        (EntryType::Continuous, "of an unknown type"),
        (EntryType::GNUSparse, "a sparse file"),
    ] {
        let error = refused(&Tar::new().entry(kind, "./bridge", b"").gz());
        assert_eq!(error.kind().as_str(), "member-type", "{kind:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let slash = refused(&Tar::new().file("bridge/", b"").gz());
    assert!(slash.to_string().contains("a directory"), "{slash}");
    let sparse = Tar::new()
        .pax(&[("GNU.sparse.major", "1")])
        .file("bridge", &bridge());
    assert_eq!(refused(&sparse.gz()).kind().as_str(), "member-type");
}

/// Fault 51: names that leave the archive are skipped, and so are unwanted links and devices.
#[test]
fn fault_51_evil_neighbours_are_passed_over() {
    let evil = Tar::new()
        .file("../bridge", b"evil")
        .file("/bridge", b"evil")
        .file("x/../bridge", b"evil")
        .file("bin/bridge", b"evil")
        .entry(EntryType::Symlink, "bin", b"")
        .entry(EntryType::Char, "null", b"")
        .entry(EntryType::Link, "shadow", b"");
    gives_the_bridge(&evil.file("bridge", &bridge()).gz());
}

/// Fault 51: the name in PAX and GNU headers is used, and a contradiction is refused.
#[test]
fn fault_51_smuggled_names() {
    let long = format!("{}/bridge", "d".repeat(150));
    let size = bridge().len().to_string();
    for tar in [
        Tar::new()
            .pax(&[("path", "./bridge")])
            .file("decoy", &bridge()),
        Tar::new().long_name("./bridge").file("decoy", &bridge()),
        Tar::new().pax(&[("size", &size)]).file("bridge", &bridge()),
        Tar::new()
            .global_pax(&[("comment", "c0ffee")])
            .file("bridge", &bridge()),
    ] {
        gives_the_bridge(&tar.gz());
    }
    // The header says `bridge`, and the effective name is another one.
    for tar in [
        Tar::new().pax(&[("path", "../../bridge")]),
        Tar::new().pax(&[("path", &long)]),
        Tar::new().long_name("/bridge"),
    ] {
        let error = refused(&tar.file("bridge", &bridge()).gz());
        assert_eq!(error.kind().as_str(), "member-missing", "{error}");
    }
    for tar in [
        Tar::new().pax(&[("path", "bridge"), ("path", "other")]),
        Tar::new().pax(&[("path", "other")]).long_name("bridge"),
        Tar::new().pax(&[("size", "512")]),
        Tar::new().pax(&[("size", &size), ("size", &size)]),
        Tar::new().pax(&[("size", "many")]),
        Tar::new().global_pax(&[("path", "bridge")]),
        Tar::new().global_pax(&[("size", "512")]),
    ] {
        let error = refused(&tar.file("bridge", &bridge()).gz());
        assert_eq!(error.kind().as_str(), "archive-ambiguous", "{error}");
    }
}

/// Fault 51: a wanted member twice is an error, in whatever spelling; an unwanted one twice is not.
#[test]
fn fault_51_duplicates() {
    let once = || {
        Tar::new()
            .file("README", b"1")
            .file("./README", b"2")
            .file("bridge", &bridge())
    };
    gives_the_bridge(&once().gz());
    let twice = once().file(".//bridge", &bridge());
    assert_eq!(refused(&twice.gz()).kind().as_str(), "member-twice");
    let link = once().entry(EntryType::Symlink, "bridge", b"");
    assert_eq!(refused(&link.gz()).kind().as_str(), "member-twice");
}

/// Fault 52: ratio, entry size, total, count and headers are capped, at the limit and not before.
#[test]
fn fault_52_bombs() {
    let limits = UnpackLimits {
        layer_entries: 1000,
        entry: 700_000,
        total: 8 << 20,
        entries: 4,
        ratio: 50,
    };
    let read = |tar: Tar| read_as(wants_bridge(), &tar.gz(), &limits, &mut Keep::default());
    let exceeded = |tar: Tar| match read(tar) {
        Err(ArchiveError::Exceeds(cap)) => cap,
        other => panic!("{other:?}"),
    };
    let good = || Tar::new().file("bridge", &bridge());
    let four = || good().file("2", b"").file("3", b"").file("4", b"");
    read(four()).unwrap();
    assert_eq!(exceeded(four().file("5", b"")), LimitExceeded::Entries(4));
    let large = Tar::new().file("bridge", &binary(Arch::Amd64, 700_001));
    assert_eq!(exceeded(large), LimitExceeded::Entry(700_000));
    let zeros = vec![0; 7 << 20];
    assert_eq!(
        exceeded(Tar::new().file("zeros", &zeros)),
        LimitExceeded::Ratio(50)
    );
    let bulk = binary(Arch::Amd64, 7 << 20);
    read(good().file("bulk", &bulk)).unwrap();
    let total = good().file("bulk", &bulk).file("more", &bulk[..1 << 20]);
    assert_eq!(exceeded(total), LimitExceeded::Total(8 << 20));
    // What a header says about the next one would have to be held in memory as a whole.
    for kind in [
        EntryType::GNULongName,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
    ] {
        let tar = good().entry(kind, "x", &bulk[..1 << 20]);
        assert_eq!(exceeded(tar), LimitExceeded::Extension(64 << 10));
    }
    // A size that is only claimed is not believed.
    let claim = good().claiming(EntryType::Regular, "x", 4 << 30, b"");
    assert_eq!(read(claim).unwrap_err().kind().as_str(), "archive");
}

/// Fault 53: a missing member is named, with what is there instead.
#[test]
fn fault_53_a_missing_member_is_named() {
    let error = refused(&Tar::like_upstream().file("bin/bridge", &bridge()).gz());
    assert_eq!(
        error.to_string(),
        "the archive has no 'bridge'; it holds README.md, LICENSE, bin/bridge"
    );
    let mut crowd = Tar::new();
    for n in 0..30 {
        crowd = crowd.file(&format!("plugin-{n}"), b"");
    }
    let error = refused(&crowd.gz()).to_string();
    assert!(error.ends_with("plugin-19 and 10 more"), "{error}");
}

/// Fault 54: a right digest with a wrong architecture is refused before the sink gets anything.
#[test]
fn fault_54_a_wrong_architecture_is_refused() {
    for content in [
        binary(Arch::Arm64, 700_000),
        binary(Arch::S390x, 64),
        b"<!DOCTYPE html>".to_vec(),
        Vec::new(),
    ] {
        let bytes = Tar::new().file("bridge", &content).gz();
        let mut keep = Keep::default();
        let error =
            read_as(wants_bridge(), &bytes, &UnpackLimits::default(), &mut keep).unwrap_err();
        assert_eq!(error.kind().as_str(), "member-not-a-plugin", "{error}");
        assert_eq!(keep.0, []);
    }
    let mut arm = wants_bridge();
    arm.arch = Arch::Arm64;
    let bytes = Tar::new().file("bridge", &binary(Arch::Arm64, 64)).gz();
    read_as(arm, &bytes, &UnpackLimits::default(), &mut Keep::default()).unwrap();
    let script = b"#!/bin/sh\nexit 0\n";
    let taken = read(&Tar::new().file("bridge", script).gz()).unwrap();
    assert_eq!(taken[0].content, script);
}

/// A sink that fails ends the reading, with its reason and not that of the thread that was cut off.
#[test]
fn a_sink_that_fails_ends_the_reading() {
    /// So many steps go well.
    struct Full<'a>(&'a Cell<u32>);
    impl Full<'_> {
        fn step(&self) -> io::Result<()> {
            let left = self.0.get().checked_sub(1);
            self.0.set(left.ok_or(io::ErrorKind::StorageFull)?);
            Ok(())
        }
    }
    impl Write for Full<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.step().map(|()| bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let large = binary(Arch::Amd64, 3_000_000);
    let bytes = Tar::new().file("bridge", &large).file("x", &large).gz();
    let read = |steps| {
        let steps = Cell::new(steps);
        read_into(
            wants_bridge(),
            &bytes,
            &UnpackLimits::default(),
            || Full(&steps).step().map(|()| Full(&steps)),
            |_, file| file.step().map(|()| sha256(b"")),
        )
    };
    // Begin, 46 pieces of 64 KiB, end.
    for steps in 0..48 {
        let error = read(steps).unwrap_err();
        assert!(
            matches!(&error, ArchiveError::Sink { path, .. } if path == "bridge"),
            "{steps}: {error}"
        );
    }
    read(48).unwrap();
}
