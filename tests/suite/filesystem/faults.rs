//! Full disks, read-only mounts, immutable files, foreign owners, no descriptors: all real.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use cni_keeper::host::{Host, HostError};
use cni_keeper::model::{FileMode, FileState, LARGEST_PLUGIN};
use cni_keeper::store::{BlobProof, Store, StoreError};
use nix::errno::Errno;

use super::{is_root, name, names, open, publish, regular, rerun, seal};
use crate::support::namespace::{in_private_mounts, mount_tmpfs, remount};

/// Fault 9: no space → the old file is kept, the temp removed, the reason given.
#[test]
fn fault_9_a_full_disk_keeps_the_old_file() {
    in_private_mounts(&fault_9_a_full_disk_keeps_the_old_file, |scratch| {
        mount_tmpfs(scratch, "size=64k");
        let (host, dir) = open(scratch);
        publish(&host, &dir, "bridge", b"old").unwrap();
        let old = regular(&dir, "bridge");

        let error = publish(&host, &dir, "bridge", &[1; 128 << 10]).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENOSPC));
        assert!(
            error
                .to_string()
                .contains("No space left on device; free space")
        );
        assert_eq!(regular(&dir, "bridge"), old);
        assert_eq!(names(scratch), ["bridge"]);

        // All but the last block fits: 15 pages are free besides the old file's one.
        let error = publish(&host, &dir, "bridge", &[1; (15 << 12) + 1]).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENOSPC));
        assert_eq!(regular(&dir, "bridge"), old);
        assert_eq!(names(scratch), ["bridge"]);
        publish(&host, &dir, "bridge", &[1; 15 << 12]).unwrap();
        assert_eq!(regular(&dir, "bridge").size, 15 << 12);
    });
}

/// Fault 10: no inodes → the same.
#[test]
fn fault_10_no_inodes_keep_the_old_file() {
    in_private_mounts(&fault_10_no_inodes_keep_the_old_file, |scratch| {
        // One for the root of the mount, one for the file.
        mount_tmpfs(scratch, "size=1m,nr_inodes=2");
        fs::write(scratch.join("bridge"), "old").unwrap();
        let (host, dir) = open(scratch);
        let old = regular(&dir, "bridge");
        let error = publish(&host, &dir, "bridge", b"new").unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENOSPC));
        assert!(error.to_string().contains("or inodes"), "{error}");
        assert_eq!(regular(&dir, "bridge"), old);
        let error = host.ensure_dir(&scratch.join("x"), 0o755).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENOSPC));
    });
}

/// Fault 11: on a read-only mount files can be observed, and a write fails with the reason.
#[test]
fn fault_11_a_read_only_mount_can_be_observed() {
    in_private_mounts(&fault_11_a_read_only_mount_can_be_observed, |scratch| {
        fs::write(scratch.join("bridge"), "right").unwrap();
        remount(scratch, "ro");
        let (host, dir) = open(scratch);
        assert_eq!(regular(&dir, "bridge").size, 5);
        let error = publish(&host, &dir, "bridge", b"new").unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EROFS));
        assert!(error.to_string().contains("mount it read-write"), "{error}");
        assert_eq!(
            dir.remove_file(&name("bridge")).unwrap_err().errno(),
            Some(Errno::EROFS)
        );
    });
}

/// Fault 15: with no descriptor left every call fails with its reason, and works again afterwards.
#[test]
fn fault_15_no_descriptors_left_is_recovered_from() {
    let test = &fault_15_no_descriptors_left_is_recovered_from;
    if !rerun::is_inside(test) {
        let output = rerun::command(test, &["prlimit", "--nofile=64:64"]).output();
        return rerun::must_pass(&output.expect("prlimit(1) runs"));
    }
    let scratch = tempfile::tempdir().unwrap();
    let (host, dir) = open(scratch.path());
    publish(&host, &dir, "bridge", b"old").unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    let error = publish(&host, &dir, "bridge", b"new").unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EMFILE));
    assert!(error.to_string().contains("ulimit -n"), "{error}");
    assert_eq!(
        host.open_dir(scratch.path()).unwrap_err().errno(),
        Some(Errno::EMFILE)
    );
    assert!(matches!(
        dir.observe_file(&name("bridge"), LARGEST_PLUGIN),
        FileState::Unreadable(reason) if reason.contains("Too many open files")
    ));
    drop(hoard);
    assert_eq!(regular(&dir, "bridge").size, 3);
    publish(&host, &dir, "bridge", b"newer").unwrap();
    assert_eq!(regular(&dir, "bridge").size, 5);
}

/// Fault 17: state and bin on different file systems → a copy, hashed on the way.
#[test]
fn fault_17_a_blob_is_copied_to_another_file_system() {
    in_private_mounts(
        &fault_17_a_blob_is_copied_to_another_file_system,
        |scratch| {
            let (state, bin) = (scratch.join("state"), scratch.join("bin"));
            for path in [&state, &bin] {
                fs::create_dir(path).unwrap();
                mount_tmpfs(path, "size=1m,mode=0700");
            }
            placed_by_copy(&state, &bin);
        },
    );
}

/// Fault 17 with two mounts of one file system, which the device number does not show.
#[test]
fn fault_17_a_blob_is_copied_to_another_mount_of_the_same_file_system() {
    let test = &fault_17_a_blob_is_copied_to_another_mount_of_the_same_file_system;
    in_private_mounts(test, |scratch| {
        let (state, bin) = (scratch.join("state"), scratch.join("bin"));
        for path in [&state, &bin] {
            fs::create_dir(path).unwrap();
            remount(path, "rw");
        }
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        assert_eq!(device(&state), device(&bin));
        placed_by_copy(&state, &bin);
    });
}

fn placed_by_copy(state: &Path, bin_path: &Path) {
    let (host, bin) = open(bin_path);
    let store = Store::open(&host, state).unwrap();
    let mut temp = store.temp_dir().create_temp().unwrap();
    temp.write_all(b"plugin").unwrap();
    let sealed = temp.seal(FileMode::PLUGIN, host.owner()).unwrap();
    let digest = store.insert_blob(sealed).unwrap();

    let placed = store.place_blob(&digest, &bin, &name("bridge"), BlobProof::Proven);
    placed.unwrap();
    let seen = regular(&bin, "bridge");
    assert_eq!(
        (seen.sha256, seen.mode, seen.owner),
        (digest, 0o755, host.owner())
    );
    assert!(store.has_blob(&digest).unwrap(), "a copy leaves the spare");

    // Trusted or not, a copy is hashed while it is made.
    fs::write(state.join("store").join(digest.to_string()), "rotten").unwrap();
    let error = store.place_blob(&digest, &bin, &name("bridge"), BlobProof::Proven);
    assert!(
        matches!(error, Err(StoreError::Corrupt { .. })),
        "{error:?}"
    );
    assert_eq!(regular(&bin, "bridge").sha256, digest);
    assert_eq!(names(bin_path), ["bridge"]);

    let spool = seal(&host, store.temp_dir(), b"x").unwrap();
    let error = spool.publish(&bin, &name("bridge")).unwrap_err();
    assert!(error.crosses_file_systems());
    assert_eq!(names(&state.join("tmp")), [""; 0]);
}

/// Fault 21: the flag is removed by whoever may do that, also where nothing else is wrong.
#[test]
fn fault_21_an_immutable_file_is_unlocked() {
    in_private_mounts(&fault_21_an_immutable_file_is_unlocked, |scratch| {
        mount_tmpfs(scratch, "size=1m");
        let (host, dir) = open(scratch);
        let bridge = name("bridge");
        let deeds: [&dyn Fn() -> Result<(), HostError>; 3] = [
            &|| publish(&host, &dir, "bridge", b"new"),
            &|| dir.set_mode_owner(&bridge, "0700".parse().unwrap(), host.owner()),
            &|| dir.remove_file(&bridge).map(|was_there| assert!(was_there)),
        ];
        for flag in ["+i", "+a"] {
            for deed in deeds {
                publish(&host, &dir, "bridge", b"old").unwrap();
                let chattr = Command::new("chattr")
                    .arg(flag)
                    .arg(dir.path_of(&bridge))
                    .output();
                if !chattr.is_ok_and(|output| output.status.success()) {
                    println!("skipped: tmpfs takes no flags on this kernel (since 6.6)");
                    return;
                }
                assert!(regular(&dir, "bridge").attributes.is_locked);
                deed().unwrap();
            }
        }
        assert_eq!(names(scratch), [""; 0]);
    });
}

/// Fault 22: a directory that belongs to another user is used, and the placed files belong to root.
#[test]
fn fault_22_a_directory_of_another_owner_is_worked_in() {
    if !is_root() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    chown(scratch.path(), Some(1001), Some(1002)).unwrap();
    let (host, dir) = open(scratch.path());
    publish(&host, &dir, "bridge", b"x").unwrap();
    assert_eq!(regular(&dir, "bridge").owner, host.owner());
    let folder = fs::metadata(scratch.path()).unwrap();
    assert_eq!(
        (folder.uid(), folder.gid()),
        (1001, 1002),
        "and it stays theirs"
    );
}

/// Fault 22: without `CAP_DAC_OVERRIDE` the error says so.
#[test]
fn fault_22_without_the_capability_the_error_is_precise() {
    let test = &fault_22_without_the_capability_the_error_is_precise;
    if !rerun::is_inside(test) {
        if is_root() {
            let wrapper = [
                "setpriv",
                "--bounding-set",
                "-dac_override,-dac_read_search",
            ];
            let output = rerun::command(test, &wrapper).output();
            rerun::must_pass(&output.expect("setpriv(1) runs"));
        }
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let bin = scratch.path().join("bin");
    fs::create_dir(&bin).unwrap();
    chown(&bin, Some(1001), Some(1002)).unwrap();
    let (host, dir) = open(&bin);
    let error = publish(&host, &dir, "bridge", b"x").unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EACCES));
    let text = error.to_string();
    assert!(text.contains(&*bin.to_string_lossy()), "{text}");
    assert!(text.contains("CAP_DAC_OVERRIDE"), "{text}");
    let host = Host::open(scratch.path()).unwrap();
    let error = host.ensure_dir(Path::new("/bin/x"), 0o755).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EACCES));
}
