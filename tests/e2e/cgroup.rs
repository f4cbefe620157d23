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

/// A cgroup with a limit for memory.
pub(crate) struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Makes it below `parent`, with this limit in bytes.
    pub(crate) fn below(parent: &str, limit: u64) -> Self {
        let path = format!("{parent}/memory-limit");
        make(&path);
        let groups = hierarchies().into_iter().map(|root| join(&root, &path));
        // In version 1 and in version 2.
        let files = ["memory.limit_in_bytes", "memory.max"];
        let mut groups = groups.filter(|group| files.iter().any(|file| group.join(file).exists()));
        let group = groups.next().unwrap();
        for file in files.map(|file| group.join(file)) {
            if file.exists() {
                fs::write(file, limit.to_string()).unwrap();
            }
        }
        Self(group)
    }

    /// The file that moves a process into it.
    pub(crate) fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

/// Makes a cgroup in every hierarchy, below one that is there. A kubelet wants its root to be there.
pub(crate) fn make(path: &str) {
    for hierarchy in hierarchies() {
        let dir = join(&hierarchy, path);
        fs::create_dir_all(&dir).unwrap();
        // In version 1, a new group may use no processor before it is told which.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let parent = dir.parent().unwrap().join(file);
            if let (Ok(allowed), true) = (fs::read(parent), dir.join(file).exists()) {
                fs::write(dir.join(file), allowed).unwrap();
            }
        }
    }
}

/// Removes a cgroup with all below it, and returns what would not go because something still runs in it.
pub(crate) fn remove_path(path: &str) -> Vec<PathBuf> {
    let dirs: Vec<PathBuf> = hierarchies().iter().map(|root| join(root, path)).collect();
    dirs.iter().for_each(|dir| remove(dir));
    dirs.into_iter().filter(|dir| dir.exists()).collect()
}

fn join(hierarchy: &Path, path: &str) -> PathBuf {
    hierarchy.join(path.trim_start_matches('/'))
}

/// Where the hierarchies of version 1 are mounted, or the one of version 2.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup").then(|| place.into())
    });
    mounts.collect()
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
