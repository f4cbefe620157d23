//! Reads what an advice is drawn from: what this process is, and what is at a path.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use super::advice::{Confinement, FileFacts, MountFacts, PlaceFacts, ProcessFacts};

/// The whole range of users, as `/proc/self/uid_map` shows it outside of user namespaces (user_namespaces(7)).
const EVERY_UID: [&str; 3] = ["0", "0", "4294967295"];
/// Types of SELinux that no rule of the reference policy stops.
const UNCONFINED_TYPES: [&str; 4] = ["spc_t", "unconfined_t", "kernel_t", "init_t"];

/// What this process is now.
pub(super) fn read_process() -> ProcessFacts {
    ProcessFacts {
        uid: geteuid().as_raw(),
        capabilities: read_capabilities(),
        confinement: read_confinement(),
        has_user_namespace: fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| !map.split_whitespace().eq(EVERY_UID)),
    }
}

fn read_capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let effective = lines.find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(effective.trim(), 16).ok()
}

/// The security module that confines this process, if any does.
fn read_confinement() -> Option<Confinement> {
    let own = fs::read_to_string("/proc/self/attr/apparmor/current").ok();
    let label = own.or_else(|| fs::read_to_string("/proc/self/attr/current").ok())?;
    // Where SELinux only reports, this file says 0. In a container it is often not mounted.
    let is_permissive = fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|mode| mode == "0");
    parse_label(&label, is_permissive)
}

/// What the label of a process says. AppArmor writes `PROFILE (MODE)` or `unconfined`, SELinux `USER:ROLE:TYPE:LEVEL`.
fn parse_label(label: &str, is_permissive: bool) -> Option<Confinement> {
    let label = label.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    if let Some((profile, mode)) = label.rsplit_once(" (") {
        return matches!(mode, "enforce)" | "kill)")
            .then(|| Confinement::AppArmor(profile.to_owned()));
    }
    let kind = label.split(':').nth(2)?;
    let is_free = is_permissive || UNCONFINED_TYPES.contains(&kind);
    (!is_free).then(|| Confinement::SeLinux(label.to_owned()))
}

/// What is at a path, and around it.
pub(super) fn read_place(path: &Path) -> PlaceFacts {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let dir = path.parent().unwrap_or(path);
    PlaceFacts {
        path: path.to_owned(),
        file: read_file_facts(path),
        dir: read_file_facts(dir).map(|facts| (dir.to_owned(), facts)),
        mount: find_mount(&mounts, path),
    }
}

fn read_file_facts(path: &Path) -> Option<FileFacts> {
    let found = fs::symlink_metadata(path).ok()?;
    let more = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MODE);
    let locks = StatxAttributes::IMMUTABLE.union(StatxAttributes::APPEND);
    Some(FileFacts {
        uid: found.uid(),
        is_sticky: found.mode() & 0o1000 != 0,
        is_locked: more.is_ok_and(|more| more.stx_attributes.intersects(locks)),
    })
}

/// The topmost mount that a path is on, from the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn find_mount(mounts: &str, path: &Path) -> Option<MountFacts> {
    let mounts = mounts.lines().filter_map(parse_mount);
    let around = mounts.filter(|mount| path.starts_with(&mount.point));
    // Of several on one directory, the last one covers the others.
    around.max_by_key(|mount| mount.point.components().count())
}

fn parse_mount(line: &str) -> Option<MountFacts> {
    let (of_mount, of_file_system) = line.split_once(" - ")?;
    let mut fields = of_mount.split(' ').skip(4);
    let point = fields.next()?;
    let is_read_only = |options: &str| options.split(',').any(|option| option == "ro");
    Some(MountFacts {
        // Blanks and the like are written as octal numbers.
        point: PathBuf::from(point.replace("\\040", " ").replace("\\134", "\\")),
        is_read_only: is_read_only(fields.next()?),
        is_read_only_everywhere: is_read_only(of_file_system.split(' ').nth(2)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_both_modules() {
        let selinux = |label: &str| Some(Confinement::SeLinux(label.to_owned()));
        let apparmor = |profile: &str| Some(Confinement::AppArmor(profile.to_owned()));
        let container = "system_u:system_r:container_t:s0:c1,c2";
        for (label, is_permissive, want) in [
            ("", false, None),
            ("unconfined\n", false, None),
            (
                "cri-containerd.apparmor.d (enforce)\n",
                false,
                apparmor("cri-containerd.apparmor.d"),
            ),
            ("two words (enforce)", false, apparmor("two words")),
            ("theirs (complain)\n", false, None),
            (
                "system_u:system_r:container_t:s0:c1,c2\0",
                false,
                selinux(container),
            ),
            ("system_u:system_r:container_t:s0:c1,c2\0", true, None),
            ("system_u:system_r:spc_t:s0", false, None),
            ("kernel", false, None),
        ] {
            assert_eq!(parse_label(label, is_permissive), want, "{label:?}");
        }
    }

    #[test]
    fn the_mount_that_a_path_is_on() {
        let mounts = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                      22 21 8:1 /opt /host/opt/cni ro,relatime - ext4 /dev/sda1 rw\n\
                      23 21 7:0 / /usr ro,relatime - squashfs /dev/loop0 ro\n\
                      24 21 0:9 / /a\\040b rw - tmpfs none rw,size=4k\n\
                      25 24 0:9 / /a\\040b ro master:2 - tmpfs none rw\n";
        let find = |path: &str| {
            let mount = find_mount(mounts, Path::new(path)).unwrap();
            let point = mount.point.display().to_string();
            (point, mount.is_read_only, mount.is_read_only_everywhere)
        };
        for (path, point, is_read_only, everywhere) in [
            ("/host/opt/cni/bin/bridge", "/host/opt/cni", true, false),
            ("/host/opt/cni2", "/", false, false),
            ("/usr/lib", "/usr", true, true),
            ("/a b/c", "/a b", true, false),
        ] {
            assert_eq!(
                find(path),
                (point.to_owned(), is_read_only, everywhere),
                "{path}"
            );
        }
        assert_eq!(find_mount("garbage\n1 2 - 3\n", Path::new("/")), None);
    }
}
