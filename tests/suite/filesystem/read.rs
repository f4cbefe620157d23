//! Observing and reading: every type of file, without waiting for any.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use cni_keeper::host::FileKind;
use cni_keeper::model::{FileState, FileType, LARGEST_PLUGIN};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{name, open, regular};

#[test]
fn every_type_is_distinguished_and_nothing_blocks() {
    let scratch = tempfile::tempdir().unwrap();
    let (_, dir) = open(scratch.path());
    let at = |file: &str| scratch.path().join(file);
    fs::write(at("file"), "x").unwrap();
    fs::create_dir(at("folder")).unwrap();
    symlink("file", at("link")).unwrap();
    // Nothing ever writes to it: an ordinary open would wait for ever.
    mkfifo(&at("fifo"), Mode::S_IRUSR).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();

    let special = FileState::Other(FileType::Special);
    assert_eq!(
        dir.observe_file(&name("nothing"), LARGEST_PLUGIN),
        FileState::Absent
    );
    assert_eq!(regular(&dir, "file").size, 1);
    assert_eq!(
        dir.observe_file(&name("folder"), LARGEST_PLUGIN),
        FileState::Other(FileType::Directory)
    );
    assert_eq!(
        dir.observe_file(&name("link"), LARGEST_PLUGIN),
        FileState::Other(FileType::Symlink)
    );
    assert_eq!(dir.observe_file(&name("fifo"), LARGEST_PLUGIN), special);
    assert_eq!(dir.observe_file(&name("socket"), LARGEST_PLUGIN), special);

    let listed = dir.list_entries().unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|e| (e.name.to_str().unwrap(), e.kind))
        .collect();
    assert_eq!(
        listed,
        [
            ("fifo", FileKind::Other(FileType::Special)),
            ("file", FileKind::Regular),
            ("folder", FileKind::Other(FileType::Directory)),
            ("link", FileKind::Other(FileType::Symlink)),
            ("socket", FileKind::Other(FileType::Special)),
        ]
    );
}

/// Fault 27: a corruption of the same size with the time put back is seen; so is every chunk of a big file.
#[test]
fn fault_27_a_digest_is_of_the_content_and_of_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, dir) = open(scratch.path());
    let mut content: Vec<u8> = (0..3_000_001_u32).map(|n| n.to_le_bytes()[0]).collect();
    let sealed = super::seal(&host, &dir, &content).unwrap();
    let digest = sealed.sha256();
    sealed.publish(&dir, &name("big")).unwrap();
    assert_eq!(regular(&dir, "big").sha256, digest);

    let path = scratch.path().join("big");
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    let last = content.len() - 1;
    content[last] ^= 1;
    fs::write(&path, content).unwrap();
    let file = fs::File::options().append(true).open(&path).unwrap();
    file.set_modified(written).unwrap();
    assert_ne!(regular(&dir, "big").sha256, digest);
}

#[test]
fn a_file_is_read_through_links_and_only_up_to_the_cap() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, dir) = open(scratch.path());
    fs::write(scratch.path().join("a.conf"), "12345").unwrap();
    symlink("a.conf", scratch.path().join("b.conf")).unwrap();
    assert_eq!(dir.read_file("a.conf".as_ref(), 5).unwrap(), b"12345");
    assert_eq!(dir.read_file("b.conf".as_ref(), 5).unwrap(), b"12345");
    assert_eq!(
        host.read_file(&scratch.path().join("b.conf"), 5).unwrap(),
        b"12345"
    );
    let error = dir.read_file("b.conf".as_ref(), 4).unwrap_err();
    let text = error.to_string();
    assert!(
        text.ends_with("it is larger than the 4 bytes allowed"),
        "{text}"
    );
    assert!(dir.read_file("c.conf".as_ref(), 4).unwrap_err().is_absent());
}

#[test]
fn what_is_not_regular_is_not_read_even_through_a_link() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, dir) = open(scratch.path());
    mkfifo(&scratch.path().join("fifo"), Mode::S_IRUSR).unwrap();
    symlink("fifo", scratch.path().join("a.conf")).unwrap();
    symlink("/dev/zero", scratch.path().join("b.conf")).unwrap();
    symlink(".", scratch.path().join("c.conf")).unwrap();
    symlink("nothing", scratch.path().join("d.conf")).unwrap();
    // To open a device can be to use it. A socket shows whether it was tried: that fails as such.
    let _socket = UnixListener::bind(scratch.path().join("socket")).unwrap();
    symlink("socket", scratch.path().join("e.conf")).unwrap();
    for (file, reason) in [
        ("fifo", "a device, socket or FIFO"),
        ("a.conf", "a device, socket or FIFO"),
        ("b.conf", "a device, socket or FIFO"),
        ("c.conf", "a directory"),
        ("d.conf", "No such file"),
        ("socket", "a device, socket or FIFO"),
        ("e.conf", "a device, socket or FIFO"),
    ] {
        let error = dir.read_file(file.as_ref(), 10).unwrap_err().to_string();
        assert!(error.contains(reason), "{file}: {error}");
        let error = host.read_file(&scratch.path().join(file), 10).unwrap_err();
        assert!(error.to_string().contains(reason), "{file}: {error}");
    }
}

/// Fault 24: a directory that was deleted and made again is distinguished from the open one.
#[test]
fn fault_24_a_removed_directory_is_dead() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bin");
    fs::create_dir(&path).unwrap();
    let (_, dir) = open(&path);
    assert!(!dir.is_removed().unwrap());
    fs::remove_dir(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(dir.is_removed().unwrap());
    assert!(dir.create_temp().unwrap_err().is_absent());
    assert!(!open(&path).1.is_removed().unwrap());
}
