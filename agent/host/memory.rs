//! How much memory is left for files that are kept in memory.
//!
//! What is written to a tmpfs counts against the memory limit of the process's cgroup and stays there. The kernel kills
//! whoever goes beyond, and does so again at every start, so the limit is looked at before something is written.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::Dir;

/// How much is left for the work of the agent itself and for a plugin that is asked, in bytes.
const RESERVE: u64 = 12 << 20;
/// The kernel is asked again after so many bytes.
const INTERVAL: u64 = 1 << 20;
const CGROUPS: &str = "/sys/fs/cgroup";

/// The memory limit of a cgroup, and what of it is used for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The limit, in bytes.
    pub limit: u64,
    /// What is used, in bytes, without the content of files on disks, which the kernel can drop.
    pub used: u64,
}

/// More would be written than the memory limit leaves room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the directory is kept in memory (tmpfs), and of the memory limit of {} only {} are left; raise the limit \
     (resources.limits.memory), or keep the directory on a disk",
    describe_size(found.limit), describe_size(found.left())
)]
pub struct MemoryLimitError {
    /// What was found.
    pub found: MemoryLimit,
}

impl MemoryLimit {
    /// The limit that leaves the least room, of the cgroup of this process and of those around it that it can see; `None`
    /// if there is none. Reads cgroup version 2 (`memory.max`) and version 1 (`memory.limit_in_bytes`).
    #[must_use]
    pub fn read() -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let limits = list_memory_cgroups(&groups, Path::new(CGROUPS))
            .into_iter()
            .filter_map(|(directory, files)| files.read(&directory));
        limits.min_by_key(|found| found.left())
    }

    /// How much is left, in bytes.
    #[must_use]
    pub const fn left(self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// The limit that is needed to keep so many bytes more.
    #[must_use]
    pub const fn with_room_for(self, bytes: u64) -> u64 {
        self.used.saturating_add(bytes).saturating_add(RESERVE)
    }

    /// Refuses to keep so many bytes more in memory if they do not fit beside [`RESERVE`].
    fn require(self, bytes: u64) -> Result<(), MemoryLimitError> {
        match self.with_room_for(bytes) <= self.limit {
            true => Ok(()),
            false => Err(MemoryLimitError { found: self }),
        }
    }
}

/// Asks the kernel to kill this child first when memory runs out (`oom_score_adj`). Anybody may ask that of a child. An
/// error is ignored, because the child may have ended.
pub fn offer_to_oom_killer(child: u32) {
    let _ = fs::write(format!("/proc/{child}/oom_score_adj"), "1000");
}

/// A size as people read it, rounded up.
#[must_use]
pub fn describe_size(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// Looks at the memory limit while a file is written, if the file is kept in memory.
#[derive(Debug)]
pub(super) struct MemoryGuard {
    is_in_memory: bool,
    /// How many bytes may be written before the kernel is asked again.
    granted: u64,
}

impl MemoryGuard {
    /// The guard of a file in this directory.
    pub(super) fn of(dir: &Dir) -> Self {
        Self {
            is_in_memory: dir.is_in_memory(),
            granted: 0,
        }
    }

    /// Refuses the next `bytes` bytes if the memory limit leaves no room for them.
    ///
    /// # Errors
    /// [`MemoryLimitError`], as an error of the kind [`io::ErrorKind::StorageFull`].
    pub(super) fn require(&mut self, bytes: u64) -> io::Result<()> {
        if !self.is_in_memory {
            return Ok(());
        }
        if self.granted < bytes {
            let asked = bytes.max(INTERVAL);
            if let Some(found) = MemoryLimit::read() {
                found
                    .require(asked)
                    .map_err(|error| io::Error::new(io::ErrorKind::StorageFull, error))?;
            }
            self.granted = asked;
        }
        self.granted -= bytes;
        Ok(())
    }
}

/// The files of a version of cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CgroupFiles {
    limit: &'static str,
    used: &'static str,
    /// The fields of `memory.stat` with the content of files on disks.
    droppable: [&'static str; 2],
}

const VERSION_1: CgroupFiles = CgroupFiles {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    droppable: ["total_inactive_file", "total_active_file"],
};
const VERSION_2: CgroupFiles = CgroupFiles {
    limit: "memory.max",
    used: "memory.current",
    droppable: ["inactive_file", "active_file"],
};

impl CgroupFiles {
    /// The limit of a cgroup, if it has one.
    fn read(self, cgroup: &Path) -> Option<MemoryLimit> {
        let read = |name: &str| fs::read_to_string(cgroup.join(name)).ok();
        let limit = read(self.limit)?.trim().parse().ok()?;
        let used: u64 = read(self.used)?.trim().parse().ok()?;
        let stat = read("memory.stat")?;
        let droppable = stat.lines().filter_map(|line| {
            let (field, bytes) = line.split_once(' ')?;
            let is_file = self.droppable.contains(&field);
            is_file.then(|| bytes.parse::<u64>().ok()).flatten()
        });
        Some(MemoryLimit {
            limit,
            used: used.saturating_sub(droppable.sum()),
        })
    }
}

/// The directories of the memory cgroup that the text of `/proc/self/cgroup` names, and of those around it. In a
/// container it may name a path that is not mounted there: the root of the mount is then the container's own cgroup.
fn list_memory_cgroups(groups: &str, mount: &Path) -> Vec<(PathBuf, CgroupFiles)> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let is_memory = controllers.split(',').any(|name| name == "memory");
        let (root, files) = match controllers {
            "" => (mount.to_owned(), VERSION_2),
            _ if is_memory => (mount.join("memory"), VERSION_1),
            _ => continue,
        };
        let own = Path::new(path.trim_start_matches('/'));
        found.extend(own.ancestors().map(|path| (root.join(path), files)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_cgroups_of_a_process() {
        let list = |groups| -> Vec<String> {
            let found = list_memory_cgroups(groups, Path::new("/c"));
            let shown = found.iter().map(|(path, files)| {
                let path = path.display().to_string();
                format!("{} {}", path.trim_end_matches('/'), files.limit)
            });
            shown.collect()
        };
        assert_eq!(list("0::/\n"), ["/c memory.max"]);
        assert_eq!(
            list("0::/kubepods/pod1/x\n"),
            [
                "/c/kubepods/pod1/x memory.max",
                "/c/kubepods/pod1 memory.max",
                "/c/kubepods memory.max",
                "/c memory.max"
            ]
        );
        assert_eq!(
            list("7:cpu,memory:/a\n3:pids:/b\n0::/\n"),
            [
                "/c/memory/a memory.limit_in_bytes",
                "/c/memory memory.limit_in_bytes",
                "/c memory.max"
            ]
        );
        assert!(list("nonsense").is_empty());
    }

    #[test]
    fn a_limit_counts_what_cannot_be_dropped() {
        for files in [VERSION_1, VERSION_2] {
            let dir = tempfile::tempdir().unwrap();
            let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
            write(files.used, "100\n");
            let [one, other] = files.droppable;
            write("memory.stat", &format!("anon 7\n{one} 20\n{other} 30\n"));
            write(files.limit, "max\n");
            assert_eq!(files.read(dir.path()), None);
            write(files.limit, "400\n");
            let found = MemoryLimit {
                limit: 400,
                used: 50,
            };
            assert_eq!(files.read(dir.path()), Some(found));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let found = MemoryLimit {
            limit: 64 * MIB,
            used: 10 * MIB,
        };
        assert_eq!(found.require(42 * MIB), Ok(()));
        let refused = found.require(42 * MIB + 1).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the directory is kept in memory (tmpfs), and of the memory limit of 64 MiB only 54 MiB are left; raise \
             the limit (resources.limits.memory), or keep the directory on a disk"
        );
    }
}
