//! Which changes of a file are reported.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use cni_keeper::watch::{DirWatcher, PathFilter};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;

use super::{DEADLINE, Scene, path_filter};

/// A change of the first file; the second one does not matter.
type Change = fn(&Path, &Path);

/// Faults 31 and 32: every change of an existing file is reported with its name.
#[test]
fn every_change_of_a_file_is_reported() {
    let changes: &[(&str, Change)] = &[
        ("overwritten", |file, _| fs::write(file, "x").unwrap()),
        ("appended to", |file, _| {
            let mut file = OpenOptions::new().append(true).open(file).unwrap();
            file.write_all(b"x").unwrap();
        }),
        ("truncated", |file, _| {
            let file = OpenOptions::new().write(true).open(file).unwrap();
            file.set_len(1).unwrap();
        }),
        ("mode", |file, _| chmod(file, 0o600)),
        ("set-uid", |file, _| chmod(file, 0o4755)),
        ("owner", |file, _| {
            std::os::unix::fs::chown(file, Some(65534), None).unwrap();
        }),
        ("times put back", |file, _| {
            let (file, then) = (File::open(file).unwrap(), SystemTime::UNIX_EPOCH);
            let times = FileTimes::new().set_accessed(then).set_modified(then);
            file.set_times(times).unwrap();
        }),
        ("removed", |file, _| fs::remove_file(file).unwrap()),
        ("renamed away", |file, other| {
            fs::rename(file, other).unwrap();
        }),
        ("moved out", |file, other| {
            fs::rename(file, other.with_file_name("../elsewhere")).unwrap();
        }),
        ("renamed over", |file, other| {
            fs::rename(other, file).unwrap();
        }),
        ("exchanged", |file, other| {
            renameat2(
                AT_FDCWD,
                other,
                AT_FDCWD,
                file,
                RenameFlags::RENAME_EXCHANGE,
            )
            .unwrap();
        }),
        ("replaced by a hard link", |file, other| {
            fs::remove_file(file).unwrap();
            fs::hard_link(other, file).unwrap();
        }),
        ("replaced by a link", |file, other| {
            fs::remove_file(file).unwrap();
            symlink(other, file).unwrap();
        }),
        ("replaced by a directory", |file, _| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }),
    ];
    for (what, change) in changes {
        let mut scene = Scene::new();
        let other = scene.leaf().join("other");
        for file in [&scene.wanted(), &other] {
            fs::write(file, "content").unwrap();
        }
        scene.reported();
        change(&scene.wanted(), &other);
        assert_eq!(scene.reported(), BTreeSet::from([scene.wanted()]), "{what}");
    }
}

/// Everything that appears is reported, also what is never closed because it is no file.
#[test]
fn everything_that_appears_is_reported() {
    let changes: &[(&str, Change)] = &[
        ("a file", |file, _| fs::write(file, "x").unwrap()),
        ("a file moved in", |file, other| {
            let outside = other.with_file_name("../elsewhere");
            fs::write(&outside, "x").unwrap();
            fs::rename(outside, file).unwrap();
        }),
        ("a hard link", |file, other| {
            fs::hard_link(other, file).unwrap();
        }),
        ("a link", |file, other| symlink(other, file).unwrap()),
        ("a dangling link", |file, _| {
            symlink("nowhere", file).unwrap();
        }),
        ("a directory", |file, _| fs::create_dir(file).unwrap()),
        ("a FIFO", |file, _| {
            nix::unistd::mkfifo(file, Mode::S_IRWXU).unwrap();
        }),
    ];
    for (what, change) in changes {
        let mut scene = Scene::new();
        let other = scene.leaf().join("other");
        fs::write(&other, "content").unwrap();
        scene.reported();
        change(&scene.wanted(), &other);
        assert_eq!(scene.reported(), BTreeSet::from([scene.wanted()]), "{what}");
    }
}

/// Plugins are read and run each time a pod starts, and hashed by us.
#[test]
fn reading_and_running_is_not_reported() {
    let mut scene = Scene::new();
    let program = scene.wanted();
    fs::copy("/bin/true", &program).unwrap();
    scene.reported();
    assert!(!fs::read(&program).unwrap().is_empty());
    assert!(Command::new(&program).status().unwrap().success());
    assert_eq!(fs::read_dir(scene.leaf()).unwrap().count(), 1);
    assert_eq!(scene.reported(), BTreeSet::new());
}

/// Fault 33: a file that is being written is reported when it is closed.
#[test]
fn a_write_is_reported_when_it_has_ended() {
    let mut scene = Scene::new();
    fs::write(scene.wanted(), "content").unwrap();
    scene.reported();
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(scene.wanted())
        .unwrap();
    for _ in 0..100 {
        file.write_all(b"more").unwrap();
    }
    assert_eq!(scene.reported(), BTreeSet::new());
    drop(file);
    assert_eq!(scene.reported(), BTreeSet::from([scene.wanted()]));
}

/// Fault 35: a name that does not matter never wakes the loop.
#[test]
fn names_of_no_interest_are_not_reported() {
    let mut scene = Scene::new();
    let other = scene.leaf().join("other");
    for _ in 0..100 {
        fs::write(&other, "content").unwrap();
        chmod(&other, 0o600);
        fs::rename(&other, other.with_extension("tmp")).unwrap();
        fs::remove_file(other.with_extension("tmp")).unwrap();
    }
    assert_eq!(scene.reported(), BTreeSet::new());
}

/// Fault 56: a ConfigMap volume changes by the rename of one link.
#[test]
fn fault_56_the_swap_of_a_link_is_reported() {
    let mut scene = Scene::new();
    let data = scene.leaf().join("..data");
    let swap = |target: &str| {
        let next = data.with_file_name("..data_tmp");
        symlink(target, &next).unwrap();
        fs::rename(&next, &data).unwrap();
    };
    swap("..2026_01");
    let (at, dirs) = (data.clone(), scene.dirs());
    let matters: PathFilter = Arc::new(move |path| *path == at);
    scene.watch.watch_dirs(&dirs, matters).unwrap();
    swap("..2026_02");
    assert_eq!(scene.hint().paths, BTreeSet::from([data.clone()]));
}

/// What matters can change without the directories changing.
#[test]
fn the_latest_interest_counts() {
    let mut scene = Scene::new();
    let (first, second) = (scene.leaf().join("first"), scene.leaf().join("second"));
    let only = |name: &PathBuf| -> PathFilter {
        let name = name.clone();
        Arc::new(move |path| *path == name)
    };
    for matters in [&first, &second] {
        scene
            .watch
            .watch_dirs(&scene.dirs(), only(matters))
            .unwrap();
        for file in [&first, &second] {
            fs::create_dir(file).unwrap();
            fs::remove_dir(file).unwrap();
        }
        assert_eq!(scene.hint().paths, BTreeSet::from([matters.clone()]));
        scene
            .watch
            .watch_dirs(&scene.dirs(), path_filter())
            .unwrap();
        scene.reported();
    }
}

/// One hint stands for all events since the last hint, and has the time of the first.
#[test]
fn changes_between_two_hints_are_one_hint() {
    let mut scene = Scene::new();
    let (last, asked) = ends_with("last");
    scene.watch.watch_dirs(&scene.dirs(), last).unwrap();
    let before = Instant::now();
    for name in ["wanted-1", "wanted-2", "last"] {
        fs::create_dir(scene.leaf().join(name)).unwrap();
    }
    asked.recv_timeout(DEADLINE).unwrap();
    let after = Instant::now();
    let hint = scene.hint();
    assert!(!hint.rescan);
    assert!((before..after).contains(&hint.at));
    for name in ["wanted-1", "wanted-2"] {
        assert!(hint.paths.contains(&scene.leaf().join(name)), "{hint:?}");
    }
}

/// Memory is bounded: beyond a thousand names a hint says only that anything may have changed.
#[test]
fn more_names_than_a_hint_holds_mean_a_rescan() {
    let mut scene = Scene::new();
    let (last, asked) = ends_with("last");
    scene.watch.watch_dirs(&scene.dirs(), last).unwrap();
    for number in 0..2000 {
        fs::create_dir(scene.leaf().join(format!("wanted-{number}"))).unwrap();
    }
    fs::create_dir(scene.leaf().join("last")).unwrap();
    asked.recv_timeout(DEADLINE).unwrap();
    let hint = scene.hint();
    assert!(hint.rescan);
    assert_eq!(hint.paths.len(), 1024);
}

/// The loop waits for several things at once, and gives up waiting for this one again and again.
#[test]
fn giving_up_on_a_hint_loses_none() {
    let mut scene = Scene::new();
    scene.reported();
    for _ in 0..100 {
        fs::create_dir(scene.wanted()).unwrap();
        fs::remove_dir(scene.wanted()).unwrap();
        let now = scene.runtime.block_on(async {
            tokio::time::timeout(Duration::ZERO, scene.watch.next_hint()).await
        });
        let mut paths = now.map(|hint| hint.paths).unwrap_or_default();
        paths.extend(scene.reported());
        assert_eq!(paths, BTreeSet::from([scene.wanted()]));
    }
}

/// Without a directory to watch there is no cost and no hint.
#[test]
fn where_nothing_is_watched_nothing_is_reported() {
    let mut scene = Scene::new();
    scene
        .watch
        .watch_dirs(&BTreeSet::new(), path_filter())
        .unwrap();
    fs::write(scene.wanted(), "").unwrap();
    let waited = |watch: &mut DirWatcher| {
        let wait = async { tokio::time::timeout(Duration::ZERO, watch.next_hint()).await };
        scene.runtime.block_on(wait)
    };
    assert!(waited(&mut DirWatcher::new()).is_err());
    assert!(waited(&mut scene.watch).is_err());
    scene.arm().unwrap();
    scene.sees_the_leaf();
}

/// PathFilter in what begins with `wanted`; tells when it is asked for the given name, and so has been asked
/// for everything before.
fn ends_with(name: &'static str) -> (PathFilter, std::sync::mpsc::Receiver<()>) {
    let (ask, asked) = channel();
    let wanted = path_filter();
    let filter: PathFilter = Arc::new(move |path| {
        if path.ends_with(name) {
            let _ = ask.send(());
        }
        wanted(path)
    });
    (filter, asked)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
