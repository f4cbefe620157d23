//! A cgroup with a limit for memory, for processes of a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::skipped;

const ROOT: &str = "/sys/fs/cgroup";

/// It is removed on drop; nothing may run in it then.
pub(crate) struct MemoryCgroup(PathBuf);

impl MemoryCgroup {
    /// Makes it below the cgroup of this process, with this limit in bytes. `None`, and a line that says so, where
    /// cgroups cannot be made.
    pub(crate) fn new(limit: u64) -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cni-keeper-test-{}-{number}", std::process::id());
        // Version 1 and version 2.
        for (mount, controllers, file) in [
            (format!("{ROOT}/memory"), "memory", "memory.limit_in_bytes"),
            (ROOT.to_owned(), "", "memory.max"),
        ] {
            let own = own_cgroup(controllers).unwrap_or_default();
            for parent in [Path::new(&mount).join(own), PathBuf::from(&mount)] {
                let group = parent.join(&name);
                if fs::create_dir(&group).is_err() {
                    continue;
                }
                let made = Self(group);
                if fs::write(made.0.join(file), limit.to_string()).is_ok() {
                    return Some(made);
                }
            }
        }
        skipped("no cgroup with a memory limit can be made here");
        None
    }

    /// The same command, as a process of this cgroup.
    pub(crate) fn contain(&self, command: &Command) -> Command {
        let mut contained = Command::new("sh");
        contained
            .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
            .arg(self.0.join("cgroup.procs"))
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => contained.env(name, value),
                None => contained.env_remove(name),
            };
        }
        contained
    }

    /// How many processes the kernel has killed for want of memory.
    pub(crate) fn kills(&self) -> u64 {
        let events = ["memory.oom_control", "memory.events"]
            .into_iter()
            .find_map(|file| fs::read_to_string(self.0.join(file)).ok());
        let events = events.expect("the kernel counts kills");
        let line = events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        line.map_or(0, |count| count.parse().unwrap())
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The path of the cgroup of this process, from the root of the hierarchy of these controllers.
fn own_cgroup(controllers: &str) -> Option<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        (fields.next()? == controllers)
            .then(|| fields.next())
            .flatten()
    })?;
    Some(path.trim_start_matches('/').to_owned())
}
