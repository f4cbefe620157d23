//! What the kernel reports about directories, and what of it reaches the loop.

mod changes;
mod directories;
mod limits;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cni_keeper::watch::{DirWatcher, Hint, PathFilter, WatchError};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};

/// Reached only by a hint that never comes.
const DEADLINE: Duration = Duration::from_secs(20);

/// `base/top/leaf`, each watched where it is there.
struct Scene {
    base: PathBuf,
    watch: DirWatcher,
    runtime: Runtime,
    markers: u32,
    _dir: Option<TempDir>,
}

impl Scene {
    /// With all three directories, watched.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut scene = Self::within(dir.path());
        scene._dir = Some(dir);
        scene.arm().unwrap();
        scene
    }

    /// In an empty directory that the caller removes; not watched yet.
    fn within(base: &Path) -> Self {
        let mut runtime = runtime::Builder::new_current_thread();
        let scene = Self {
            base: base.canonicalize().unwrap(),
            watch: DirWatcher::new(),
            runtime: runtime.enable_time().build().unwrap(),
            markers: 0,
            _dir: None,
        };
        fs::create_dir_all(scene.leaf()).unwrap();
        scene
    }

    fn top(&self) -> PathBuf {
        self.base.join("top")
    }

    fn leaf(&self) -> PathBuf {
        self.base.join("top/leaf")
    }

    /// A name that matters.
    fn wanted(&self) -> PathBuf {
        self.leaf().join("wanted")
    }

    fn dirs(&self) -> BTreeSet<PathBuf> {
        let dirs = [self.base.clone(), self.top(), self.leaf()];
        dirs.into_iter().filter(|dir| dir.is_dir()).collect()
    }

    /// What the loop does before each observation.
    fn arm(&mut self) -> Result<(), WatchError> {
        self.watch.watch_dirs(&self.dirs(), path_filter())
    }

    fn hint(&mut self) -> Hint {
        let wait = async { tokio::time::timeout(DEADLINE, self.watch.next_hint()).await };
        self.runtime.block_on(wait).expect("a hint")
    }

    /// Everything that was reported until now. The kernel keeps events in order, so an event of our own marks the end.
    /// The directories are armed again at each hint, as by the loop.
    #[track_caller]
    fn reported(&mut self) -> BTreeSet<PathBuf> {
        self.markers += 1;
        let marker = self.base.join(format!("marker-{}", self.markers));
        // A directory, because that is a single event.
        fs::create_dir(&marker).unwrap();
        let mut reported = BTreeSet::new();
        loop {
            let hint = self.hint();
            assert!(!hint.rescan, "{hint:?}");
            let ended = hint.paths.contains(&marker);
            reported.extend(hint.paths);
            self.arm().unwrap();
            if ended {
                reported.remove(&marker);
                return reported;
            }
        }
    }

    /// Fails unless a change of this file in the leaf is reported, and nothing else.
    #[track_caller]
    fn sees_the_leaf(&mut self) {
        self.reported();
        fs::write(self.wanted(), "seen").unwrap();
        assert_eq!(self.reported(), BTreeSet::from([self.wanted()]));
    }
}

/// Names that begin like this matter, wherever they are.
fn path_filter() -> PathFilter {
    Arc::new(|path| {
        let names = ["wanted", "marker", "top", "leaf"];
        names.iter().any(|name| is_called(path, name))
    })
}

fn is_called(path: &Path, beginning: &str) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with(beginning)
}
