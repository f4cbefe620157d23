//! Directories disappear and come back: the watch stays with the path.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::hint;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::{Scene, path_filter};
use crate::support::namespace::{bind, in_private_mounts, mount_tmpfs, unmount};

/// Fault 24: a directory that is removed and made again is reported, and watched again.
#[test]
fn fault_24_a_directory_made_again_is_watched_again() {
    let mut scene = Scene::new();
    for _ in 0..20 {
        fs::remove_dir_all(scene.leaf()).unwrap();
        assert!(scene.reported().contains(&scene.leaf()));
        fs::create_dir(scene.leaf()).unwrap();
        assert!(scene.reported().contains(&scene.leaf()));
        scene.sees_the_leaf();
    }
}

/// Fault 24: the same without an observation in between. The new directory often has the inode number of the old one.
#[test]
fn fault_24_a_directory_made_again_at_once_is_watched_again() {
    let mut scene = Scene::new();
    for _ in 0..20 {
        fs::remove_dir_all(scene.leaf()).unwrap();
        fs::create_dir(scene.leaf()).unwrap();
        scene.sees_the_leaf();
    }
}

/// Fault 24: the same when the old one is held open, so that the kernel does not say it is gone.
#[test]
fn fault_24_a_directory_that_is_held_open_is_left_for_the_new_one() {
    let mut scene = Scene::new();
    let _held = File::open(scene.leaf()).unwrap();
    fs::remove_dir(scene.leaf()).unwrap();
    fs::create_dir(scene.leaf()).unwrap();
    scene.sees_the_leaf();
}

/// Fault 24: a whole path that is gone is watched again, step by step.
#[test]
fn fault_24_parents_made_again_are_watched_again() {
    let mut scene = Scene::new();
    fs::remove_dir_all(scene.top()).unwrap();
    assert!(scene.reported().contains(&scene.top()));
    fs::create_dir(scene.top()).unwrap();
    assert!(scene.reported().contains(&scene.top()));
    fs::create_dir(scene.leaf()).unwrap();
    assert!(scene.reported().contains(&scene.leaf()));
    scene.sees_the_leaf();
}

/// Fault 32: a directory that is renamed away is reported; renamed back, it is watched again.
#[test]
fn a_directory_renamed_away_and_back_is_watched_again() {
    let mut scene = Scene::new();
    for (from, looked) in [
        (scene.leaf(), true),
        (scene.leaf(), false),
        (scene.top(), true),
        (scene.top(), false),
    ] {
        let away = scene.base.join("away");
        fs::rename(&from, &away).unwrap();
        if looked {
            assert!(scene.reported().contains(&from));
        }
        fs::rename(&away, &from).unwrap();
        assert!(scene.reported().contains(&from));
        scene.sees_the_leaf();
    }
}

/// Changes in a directory that was renamed away are not reported.
#[test]
fn a_directory_that_was_renamed_away_is_no_longer_reported() {
    let mut scene = Scene::new();
    let away = scene.base.join("away");
    fs::rename(scene.leaf(), &away).unwrap();
    fs::create_dir(scene.leaf()).unwrap();
    scene.reported();
    fs::write(away.join("wanted"), "").unwrap();
    assert_eq!(scene.reported(), BTreeSet::new());
    scene.sees_the_leaf();
}

/// The same by the next arming, where its parent is not watched.
#[test]
fn a_directory_that_is_gone_is_no_longer_reported() {
    let mut scene = Scene::new();
    let away = scene.base.join("away");
    let dirs = BTreeSet::from([scene.base.clone(), scene.leaf()]);
    scene.watch.watch_dirs(&dirs, path_filter()).unwrap();
    fs::rename(scene.top(), &away).unwrap();
    scene.watch.watch_dirs(&dirs, path_filter()).unwrap();
    fs::write(away.join("leaf/wanted"), "").unwrap();
    let marker = scene.base.join("marker");
    fs::create_dir(&marker).unwrap();
    let mut reported = BTreeSet::new();
    while !reported.contains(&marker) {
        reported.append(&mut scene.hint().paths);
    }
    assert_eq!(reported, BTreeSet::from([marker, scene.top()]));
}

/// Another directory, renamed over an empty one.
#[test]
fn a_directory_renamed_over_is_watched() {
    let mut scene = Scene::new();
    let other = scene.base.join("other");
    fs::create_dir(&other).unwrap();
    fs::rename(&other, scene.leaf()).unwrap();
    assert!(scene.reported().contains(&scene.leaf()));
    scene.sees_the_leaf();
}

/// A link in the place of a directory is not followed; the loop resolves paths and knows where it leads.
#[test]
fn a_link_in_the_place_of_a_directory_is_reported_and_not_followed() {
    let mut scene = Scene::new();
    let elsewhere = scene.base.join("elsewhere");
    fs::rename(scene.leaf(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, scene.leaf()).unwrap();
    assert!(scene.reported().contains(&scene.leaf()));
    fs::write(elsewhere.join("wanted"), "").unwrap();
    assert_eq!(scene.reported(), BTreeSet::new());
}

/// A directory that changes itself gives a hint, whether or not its name passes the filter.
#[test]
fn a_change_of_a_watched_directory_is_reported() {
    let mut scene = Scene::new();
    let nothing = Arc::new(|path: &Path| super::is_called(path, "marker"));
    scene.watch.watch_dirs(&scene.dirs(), nothing).unwrap();
    let permissions = fs::metadata(scene.leaf()).unwrap().permissions();
    fs::set_permissions(scene.leaf(), permissions).unwrap();
    assert_eq!(scene.hint().paths, BTreeSet::from([scene.leaf()]));
}

/// Fault 24: a mount is no event to the kernel; the next arming finds it.
#[test]
fn fault_24_what_is_mounted_over_is_watched() {
    in_private_mounts(&fault_24_what_is_mounted_over_is_watched, |scratch| {
        let mut scene = Scene::within(scratch);
        let other = scene.base.join("other");
        fs::create_dir(&other).unwrap();
        scene.arm().unwrap();
        bind(&other, &scene.leaf());
        scene.sees_the_leaf();
        unmount(&scene.leaf());
        scene.sees_the_leaf();
        mount_tmpfs(&scene.leaf(), "size=64k");
        scene.sees_the_leaf();
    });
}

/// A file system that is unmounted and mounted again has the same inode numbers as before, and no watch.
#[test]
fn what_is_mounted_again_is_watched_after_a_resync() {
    in_private_mounts(
        &what_is_mounted_again_is_watched_after_a_resync,
        |scratch| {
            let mut scene = Scene::within(scratch);
            for _ in 0..3 {
                mount_tmpfs(&scene.leaf(), "size=64k");
                scene.arm().unwrap();
                unmount(&scene.leaf());
                mount_tmpfs(&scene.leaf(), "size=64k");
                scene.watch.invalidate();
                scene.sees_the_leaf();
                unmount(&scene.leaf());
            }
        },
    );
}

/// A directory that changes while its watch is made is watched, or a hint makes the loop renew the watch.
#[test]
fn a_directory_that_changes_while_it_is_armed_is_watched() {
    let mut scene = Scene::new();
    let (leaf, other) = (scene.leaf(), scene.base.join("other"));
    fs::create_dir(&other).unwrap();
    // Without its parents, which would tell.
    let dirs = BTreeSet::from([scene.leaf()]);
    for round in 0..1000 {
        scene.watch.invalidate();
        thread::scope(|scope| {
            scope.spawn(|| {
                // Sooner or later while it is armed.
                (0..round).for_each(|_| hint::spin_loop());
                exchange(&leaf, &other);
            });
            scene.watch.watch_dirs(&dirs, path_filter()).unwrap();
        });
        let files = (0..).map(|number| leaf.join(format!("wanted-{round}-{number}")));
        for file in files {
            fs::create_dir(&file).unwrap();
            if scene.hint().paths.contains(&file) {
                break;
            }
            scene.watch.watch_dirs(&dirs, path_filter()).unwrap();
        }
    }
}

/// Whatever happens to the directories while watches are made, in the end the last ones are watched.
#[test]
fn a_storm_ends_with_the_last_directories_watched() {
    let mut scene = Scene::new();
    for seed in 0..20 {
        let over = AtomicBool::new(false);
        let (top, leaf) = (scene.top(), scene.leaf());
        let away = scene.base.join("away");
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..200 {
                    // Each may fail, as another one left things.
                    let _ = match random.u8(0..6) {
                        0 => fs::remove_dir_all(&leaf),
                        1 => fs::remove_dir_all(&top),
                        2 => fs::create_dir_all(&leaf),
                        3 => fs::rename(&leaf, &away),
                        4 => fs::rename(&top, &away),
                        _ => fs::rename(&away, &leaf),
                    };
                }
                fs::create_dir_all(&leaf).unwrap();
                over.store(true, Ordering::Release);
            });
            while !over.load(Ordering::Acquire) {
                scene.arm().unwrap();
            }
        });
        scene.sees_the_leaf();
        let _ = fs::remove_dir_all(&away);
    }
}

fn exchange(one: &Path, other: &Path) {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).unwrap();
}
