//! The cgroups of a run: under a parent of its own, so that they can be found and removed whatever happened.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
const PREFIX: &str = "cni-keeper-e2e-";

/// The parent of all cgroups of one run; removed on drop at the latest.
pub(crate) struct CgroupParent {
    name: String,
}

impl CgroupParent {
    /// A name that no other run has: the process id of this one and the name of the test.
    pub(crate) fn new(test: &str) -> Self {
        let test = test.replace("::", "-");
        Self {
            name: format!("{PREFIX}{}-{test}", std::process::id()),
        }
    }

    /// The path that the runtime gets, from the root of every hierarchy.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// Removes them and returns the ones that would not go because something still runs in them.
    pub(crate) fn remove(&self) -> Vec<PathBuf> {
        let ours = || find(|name| name == self.name);
        ours().iter().for_each(|dir| remove(dir));
        ours()
    }
}

impl Drop for CgroupParent {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes the cgroups of runs that were killed: those whose process id no longer exists.
pub(crate) fn sweep() {
    let of_the_dead = |name: &str| {
        name.strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next())
            .is_some_and(|pid| !Path::new("/proc").join(pid).exists())
    };
    find(of_the_dead).iter().for_each(|dir| remove(dir));
}

/// Directories of that name at the root of the unified hierarchy, or of each hierarchy of version 1.
fn find(wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let hierarchies = children(Path::new(ROOT));
    hierarchies
        .iter()
        .flat_map(|hierarchy| children(hierarchy))
        .chain(hierarchies.iter().cloned())
        .filter(|dir| {
            dir.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(&wanted)
        })
        .collect()
}

fn children(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// A cgroup goes by `rmdir`, leaves first: its files are the kernel's own.
fn remove(dir: &Path) {
    children(dir).iter().for_each(|child| remove(child));
    let _ = fs::remove_dir(dir);
}
