//! A file is old or new, never between: temporary files, sealing, renaming, sweeping.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};

use cni_keeper::host::FileKind;
use cni_keeper::model::{FileMode, FileType};
use nix::errno::Errno;

use super::{name, names, open, publish, regular, seal};

#[test]
fn a_published_file_has_its_content_mode_and_owner() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, dir) = open(scratch.path());
    let sealed = seal(&host, &dir, b"plugin").unwrap();
    assert_eq!(sealed.size(), 6);
    let digest = sealed.sha256();
    sealed.publish(&dir, &name("bridge")).unwrap();

    let seen = regular(&dir, "bridge");
    assert_eq!((seen.sha256, seen.size), (digest, 6));
    assert_eq!((seen.mode, seen.owner), (0o755, host.owner()));
    assert_eq!(
        digest.to_string(),
        "5e689e2b01672bf33996e75d5e372ff60c536ce1599a1458e867cd8f4bef5160".to_owned(),
    );
    assert_eq!(names(scratch.path()), ["bridge"]);
}

#[test]
fn a_temp_is_private_while_it_is_written_and_gone_when_dropped() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, dir) = open(scratch.path());
    let mut temp = dir.create_temp().unwrap();
    temp.write_all(b"half").unwrap();
    assert_eq!(fs::metadata(temp.path()).unwrap().mode() & 0o7777, 0o600);
    let extension = temp.path().extension().map(ToOwned::to_owned);
    assert_eq!(extension.unwrap(), "tmp", "no runtime loads it");
    drop(temp);
    drop(seal(&host, &dir, b"sealed, never published").unwrap());
    assert_eq!(names(scratch.path()), [""; 0]);
}

/// Fault 8: foreign temps are preserved, own ones removed.
#[test]
fn fault_8_sweeping_removes_own_temps_only() {
    let scratch = tempfile::tempdir().unwrap();
    let (_, dir) = open(scratch.path());
    let own = ".cni-keeper-00000000deadbeef.tmp";
    let foreign = [
        ".bridge.tmp",
        ".cni-keeper-00000000DEADBEEF.tmp",
        ".cni-keeper-short.tmp",
        "bridge",
    ];
    for file in foreign.iter().chain([&own]) {
        fs::write(scratch.path().join(file), "x").unwrap();
    }
    // These match the pattern, but we never make such: they are not ours.
    let (link, folder) = (
        ".cni-keeper-0000000000000001.tmp",
        ".cni-keeper-0000000000000002.tmp",
    );
    symlink("bridge", scratch.path().join(link)).unwrap();
    fs::create_dir(scratch.path().join(folder)).unwrap();

    assert_eq!(dir.remove_stale_temps().unwrap(), [own]);
    let mut left: Vec<&str> = foreign.into_iter().chain([link, folder]).collect();
    left.sort_unstable();
    assert_eq!(names(scratch.path()), left);
}

/// Fault 16: a plugin that is running is replaced under its process, never written in place, and the
/// new one can be executed at once: nothing holds it open for writing.
#[test]
fn fault_16_a_running_plugin_is_replaced() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, dir) = open(scratch.path());
    let cat = fs::read("/bin/cat").unwrap();
    publish(&host, &dir, "plugin", &cat).unwrap();
    let mut running = Command::new(dir.path_of(&name("plugin")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();

    let script = b"#!/bin/sh\necho new\n";
    publish(&host, &dir, "plugin", script).unwrap();
    let new = Command::new(dir.path_of(&name("plugin"))).output().unwrap();
    assert_eq!(new.stdout, b"new\n");

    running.stdin.take().unwrap().write_all(b"old").unwrap();
    let old = running.wait_with_output().unwrap();
    assert_eq!((old.stdout, old.status.success()), (b"old".to_vec(), true));
}

/// Fault 18: a directory under the target's name is refused, and left as it is.
#[test]
fn fault_18_a_directory_in_the_way_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, dir) = open(scratch.path());
    fs::create_dir(scratch.path().join("bridge")).unwrap();
    let error = publish(&host, &dir, "bridge", b"x").unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EISDIR));
    assert_eq!(
        error.to_string(),
        format!(
            "cannot publish {}/bridge: Is a directory; a directory is in the way: move it aside",
            scratch.path().display()
        )
    );
    let kind = dir.file_metadata(&name("bridge")).unwrap().unwrap().kind;
    assert_eq!(kind, FileKind::Other(FileType::Directory));
    let error = dir.remove_file(&name("bridge")).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EISDIR), "nor is it removed");
    assert_eq!(names(scratch.path()), ["bridge"]);
}

/// Fault 19: a link under the target's name is replaced, its target untouched.
#[test]
fn fault_19_a_link_is_replaced_and_its_target_untouched() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, dir) = open(scratch.path());
    fs::write(scratch.path().join("elsewhere"), "theirs").unwrap();
    symlink("elsewhere", scratch.path().join("bridge")).unwrap();
    publish(&host, &dir, "bridge", b"ours").unwrap();
    assert_eq!(regular(&dir, "bridge").size, 4);
    let theirs = fs::read(scratch.path().join("elsewhere")).unwrap();
    assert_eq!(theirs, b"theirs");

    symlink("elsewhere", scratch.path().join("ptp")).unwrap();
    assert!(dir.remove_file(&name("ptp")).unwrap());
    assert!(
        !dir.remove_file(&name("ptp")).unwrap(),
        "there is none left"
    );
    assert!(scratch.path().join("elsewhere").exists());
}

/// Faults 31 and 32: mode, owner and set-uid are repaired in place, by descriptor, without writing the content.
#[test]
fn fault_31_mode_and_owner_are_repaired_without_following_a_link() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, dir) = open(scratch.path());
    publish(&host, &dir, "bridge", b"x").unwrap();
    let before = fs::metadata(scratch.path().join("bridge")).unwrap().ino();
    if host.is_root() {
        std::os::unix::fs::chown(scratch.path().join("bridge"), Some(1001), Some(1002)).unwrap();
    }
    let set_uid = fs::Permissions::from_mode(0o6777);
    fs::set_permissions(scratch.path().join("bridge"), set_uid.clone()).unwrap();
    assert_eq!(regular(&dir, "bridge").mode, 0o6777);

    dir.set_mode_owner(&name("bridge"), FileMode::PLUGIN, host.owner())
        .unwrap();
    let after = regular(&dir, "bridge");
    assert_eq!((after.mode, after.owner), (0o755, host.owner()));
    let inode = fs::metadata(scratch.path().join("bridge")).unwrap().ino();
    assert_eq!(inode, before);

    fs::set_permissions(scratch.path().join("bridge"), set_uid).unwrap();
    symlink("bridge", scratch.path().join("link")).unwrap();
    let error = dir
        .set_mode_owner(&name("link"), FileMode::PLUGIN, host.owner())
        .unwrap_err();
    assert!(error.to_string().contains("a symbolic link"), "{error}");
    assert_eq!(regular(&dir, "bridge").mode, 0o6777);
}

/// Fault 32: a hard link to the old file keeps the old content: the name is replaced, not the file.
#[test]
fn fault_32_a_hard_link_to_the_old_file_is_untouched() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, dir) = open(scratch.path());
    publish(&host, &dir, "bridge", b"old").unwrap();
    let kept = scratch.path().join("kept");
    fs::hard_link(scratch.path().join("bridge"), &kept).unwrap();
    publish(&host, &dir, "bridge", b"new").unwrap();
    assert_eq!(fs::read(kept).unwrap(), b"old");
    assert_eq!(fs::read(scratch.path().join("bridge")).unwrap(), b"new");
}

#[test]
fn a_spool_has_no_name_and_can_be_rewound_and_cut() {
    let scratch = tempfile::tempdir().unwrap();
    let (_, dir) = open(scratch.path());
    let mut spool = dir.create_spool().unwrap();
    assert_eq!(names(scratch.path()), [""; 0]);
    spool.write_all(b"0123456789").unwrap();
    spool.truncate(4).unwrap();
    spool.seek(SeekFrom::Start(1)).unwrap();
    let mut text = String::new();
    spool.read_to_string(&mut text).unwrap();
    assert_eq!(text, "123");
}

#[test]
fn a_temp_that_someone_else_writes_to_is_not_published() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, dir) = open(scratch.path());
    let mut temp = dir.create_temp().unwrap();
    temp.write_all(b"ours").unwrap();
    fs::write(temp.path(), "longer than ours").unwrap();
    let error = temp.seal(FileMode::PLUGIN, host.owner()).unwrap_err();
    assert!(error.to_string().contains("something else"), "{error}");
    assert_eq!(names(scratch.path()), [""; 0]);
}

/// Fault 6: the second agent is refused, and the error names the first.
#[test]
fn fault_6_the_second_lock_names_the_holder() {
    let scratch = tempfile::tempdir().unwrap();
    let (_, dir) = open(scratch.path());
    let first = dir.lock_file(&name("lock")).unwrap();
    let error = dir.lock_file(&name("lock")).unwrap_err();
    assert!(error.is_held());
    let holder = format!("process {} holds it", std::process::id());
    assert!(error.to_string().contains(&holder), "{error}");
    drop(first);
    dir.lock_file(&name("lock")).unwrap();

    symlink("lock", scratch.path().join("link")).unwrap();
    let error = dir.lock_file(&name("link")).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ELOOP), "a link is not followed");
}
