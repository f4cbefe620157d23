//! The kernel refuses watches, and drops events.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use cni_keeper::watch::{PathFilter, WatchError};
use nix::unistd::geteuid;

use super::{DEADLINE, Scene, path_filter};
use crate::support::namespace::in_private_limits;
use crate::support::{rerun, skipped};

/// Fault 23: when the kernel's queue overflows, a rescan is asked for. The removal of a directory may be among the lost
/// events, so every watch is renewed.
#[test]
fn fault_23_a_queue_that_runs_over_asks_for_a_rescan() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: u32 = limit.trim().parse().unwrap();
    let mut scene = Scene::new();
    let (busy, free) = block_at("first");
    scene.watch.watch_dirs(&scene.dirs(), busy).unwrap();

    // The reader is held up here ...
    fs::create_dir(scene.leaf().join("first")).unwrap();
    let (reached, go_on) = free;
    reached.recv_timeout(DEADLINE).unwrap();
    // ... while more happens than the kernel remembers. It merges only what repeats the event before.
    let other = [scene.base.join("other-1"), scene.base.join("other-2")];
    for path in &other {
        fs::write(path, "").unwrap();
    }
    let permissions = Permissions::from_mode(0o600);
    for number in 0..limit + 8 {
        fs::set_permissions(&other[number as usize % 2], permissions.clone()).unwrap();
    }
    fs::remove_dir_all(scene.leaf()).unwrap();
    fs::create_dir(scene.leaf()).unwrap();
    drop(go_on);

    while !scene.hint().rescan {}
    scene.arm().unwrap();
    scene.sees_the_leaf();
}

/// Fault 25: without an inotify instance there is a reason, and the next call tries again.
#[test]
fn fault_25_no_instance() {
    in_private_limits(&fault_25_no_instance, || {
        let dir = tempfile::tempdir().unwrap();
        let mut scene = Scene::within(dir.path());
        limit("max_inotify_instances", 0);
        // Without directories no instance is needed.
        scene
            .watch
            .watch_dirs(&BTreeSet::new(), path_filter())
            .unwrap();
        for _ in 0..3 {
            let error = scene.arm().unwrap_err();
            assert!(matches!(error, WatchError::NoInstance { .. }), "{error}");
            assert_eq!(
                error.to_string(),
                "cannot watch for changes: no inotify instance (Too many open files); raise \
                 fs.inotify.max_user_instances (sysctl), or the limit on open files (ulimit -n)"
            );
        }
        limit("max_inotify_instances", 1);
        scene.arm().unwrap();
        scene.sees_the_leaf();
        // There is one, and it stays the same.
        let watched = watches();
        assert_eq!(watched.len(), 3);
        for _ in 0..3 {
            scene.arm().unwrap();
        }
        assert_eq!(watches(), watched, "nothing changed, so nothing was done");
        scene.watch.invalidate();
        scene.arm().unwrap();
        assert!(watches().is_disjoint(&watched), "all were armed again");
        assert_eq!(watches().len(), 3);
    });
}

/// Fault 25: with fewer watches than directories the error names one of them, the others are watched, and the next call
/// tries again.
#[test]
fn fault_25_no_watch() {
    in_private_limits(&fault_25_no_watch, || {
        let dir = tempfile::tempdir().unwrap();
        let mut scene = Scene::within(dir.path());
        limit("max_inotify_watches", 2);
        let error = scene.arm().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot watch {}: the limit on inotify watches is reached; raise \
                 fs.inotify.max_user_watches (sysctl)",
                scene.leaf().display()
            )
        );
        fs::write(scene.top().join("wanted"), "").unwrap();
        assert!(scene.hint().paths.contains(&scene.top().join("wanted")));
        limit("max_inotify_watches", 3);
        scene.arm().unwrap();
        scene.sees_the_leaf();
        // A directory that is no longer wanted gives its watch back.
        limit("max_inotify_watches", 2);
        scene
            .watch
            .watch_dirs(&[scene.base.clone()].into(), path_filter())
            .unwrap();
        assert_eq!(watches().len(), 1);
        scene
            .watch
            .watch_dirs(&[scene.leaf()].into(), path_filter())
            .unwrap();
        assert_eq!(watches().len(), 1);
    });
}

/// Fault 25: without a thread to read events there is a reason. notify itself says nothing, and would abort the
/// agent later.
#[test]
fn fault_25_no_thread() {
    let test = &fault_25_no_thread;
    if rerun::is_inside(test) {
        let dir = tempfile::tempdir().unwrap();
        let mut scene = Scene::within(dir.path());
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        for _ in 0..3 {
            let error = scene.arm().unwrap_err();
            assert!(matches!(error, WatchError::NoThread { .. }), "{error}");
            assert!(error.to_string().contains("pids.max"), "{error}");
        }
        assert_eq!(open(), before, "and nothing is left of it");
        return;
    }
    if !geteuid().is_root() {
        return skipped("to become another user needs root");
    }
    // Of a user who may have no more than this one thread, which the test harness does without.
    let user = [
        "setpriv",
        "--reuid=64999",
        "--regid=64999",
        "--clear-groups",
    ];
    let wrapper = [user.as_slice(), &["prlimit", "--nproc=1:1"]].concat();
    rerun::must_pass(&rerun::command(test, &wrapper).output().unwrap());
}

/// A directory without permission is named, with what to do; the others are watched.
#[test]
fn a_directory_that_is_closed_to_us() {
    let test = &a_directory_that_is_closed_to_us;
    if rerun::is_inside(test) {
        let dir = tempfile::tempdir().unwrap();
        let mut scene = Scene::within(dir.path());
        for (path, mode) in [(scene.leaf(), 0o700), (scene.top(), 0o755)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            chown(&path, Some(1001), None).unwrap();
        }
        let error = scene.arm().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot watch {}: Permission denied; this process is root without CAP_DAC_OVERRIDE; add DAC_OVERRIDE under securityContext.capabilities",
                scene.leaf().display()
            )
        );
        assert_eq!(watches().len(), 2);
        chown(scene.leaf(), Some(0), None).unwrap();
        scene.arm().unwrap();
        scene.sees_the_leaf();
        return;
    }
    if !geteuid().is_root() {
        return skipped("to give files away needs root");
    }
    let without = "-dac_override,-dac_read_search";
    let wrapper = ["setpriv", "--bounding-set", without];
    rerun::must_pass(&rerun::command(test, &wrapper).output().unwrap());
}

/// Sets a limit of the user namespace that this runs in.
fn limit(name: &str, value: u32) {
    fs::write(format!("/proc/sys/user/{name}"), value.to_string()).unwrap();
}

/// The numbers of this process's watches; the kernel gives each a new one.
fn watches() -> BTreeSet<String> {
    let mut watches = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap() {
        // The descriptor of this very listing is gone by then.
        let info = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        let lines = info
            .lines()
            .filter_map(|line| line.strip_prefix("inotify "));
        watches.extend(lines.map(|line| line.split(' ').next().unwrap().to_owned()));
    }
    watches
}

/// What a test holds of a filter that waits.
type Gate = (std::sync::mpsc::Receiver<()>, std::sync::mpsc::Sender<()>);

/// The usual filter, which at the given name says so and waits until the sender is dropped.
fn block_at(name: &'static str) -> (PathFilter, Gate) {
    let (reach, reached) = channel();
    let (go_on, may_go_on) = channel();
    let may_go_on = Mutex::new(may_go_on);
    let usual = path_filter();
    let filter: PathFilter = Arc::new(move |path| {
        if path.ends_with(name) {
            let _ = reach.send(());
            let _ = may_go_on.lock().unwrap().recv();
        }
        usual(path)
    });
    (filter, (reached, go_on))
}
