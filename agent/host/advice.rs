//! What an operator can do about a system call that failed, from what this process has and what it lacks. Pure.

use std::path::PathBuf;

use nix::errno::Errno;

/// Capabilities, by their numbers (`linux/capability.h`).
const CHOWN: u32 = 0;
const DAC_OVERRIDE: u32 = 1;
const FOWNER: u32 = 3;

/// What the kernel looks at when it decides what this process may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProcessFacts {
    pub(super) uid: u32,
    /// The effective capabilities, a bit each (`CapEff` in proc_pid_status(5)); none if they are not known.
    pub(super) capabilities: Option<u64>,
    pub(super) confinement: Option<Confinement>,
    /// Whether it is in a user namespace of its own, so that its capabilities do not hold for files of other users.
    pub(super) has_user_namespace: bool,
}

/// A security module that confines this process, with the name of the rules that hold for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Confinement {
    SeLinux(String),
    AppArmor(String),
}

/// What is known of a path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PlaceFacts {
    pub(super) path: PathBuf,
    /// None where nothing is there, or nothing can be seen.
    pub(super) file: Option<FileFacts>,
    /// The directory that it is in.
    pub(super) dir: Option<(PathBuf, FileFacts)>,
    pub(super) mount: Option<MountFacts>,
}

/// What is known of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct FileFacts {
    pub(super) uid: u32,
    pub(super) is_sticky: bool,
    /// Whether it is immutable or append-only (chattr(1)).
    pub(super) is_locked: bool,
}

/// What is known of the mount that a path is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountFacts {
    pub(super) point: PathBuf,
    /// Whether this mount is read-only.
    pub(super) is_read_only: bool,
    /// Whether the file system itself is, under every mount.
    pub(super) is_read_only_everywhere: bool,
}

impl ProcessFacts {
    fn has(&self, capability: u32) -> bool {
        match self.capabilities {
            Some(effective) => effective >> capability & 1 == 1,
            None => self.uid == 0,
        }
    }

    /// Why a process that the owners and modes of files do not stop is stopped all the same.
    fn describe_other_limits(&self) -> Option<String> {
        match &self.confinement {
            Some(Confinement::SeLinux(label)) => Some(format!(
                "SELinux refuses it to {label}; ausearch -m avc shows the rule; let the container run as spc_t \
                 (securityContext.seLinuxOptions.type)"
            )),
            Some(Confinement::AppArmor(profile)) => Some(format!(
                "the AppArmor profile {profile} refuses it; dmesg shows the rule; let the container run without a profile \
                 (securityContext.appArmorProfile.type: Unconfined)"
            )),
            None if self.has_user_namespace => Some(
                "this process is root only in a user namespace of its own; let the pod run without one (hostUsers: true)"
                    .to_owned(),
            ),
            None => None,
        }
    }

    fn describe_missing(&self, capabilities: &[&str]) -> String {
        let names = capabilities.join(" and CAP_");
        match self.uid {
            0 => format!(
                "this process is root without CAP_{names}; add {} under securityContext.capabilities",
                capabilities.join(" and ")
            ),
            uid => format!("this process runs as uid {uid}; run it as root, or with CAP_{names}"),
        }
    }
}

/// What to do about the error; none if no advice is known.
pub(super) fn advise(errno: Errno, process: &ProcessFacts, place: &PlaceFacts) -> Option<String> {
    Some(match errno {
        Errno::EACCES => advise_access(process, place),
        Errno::EPERM => advise_permission(process, place),
        Errno::EROFS => advise_read_only(place),
        Errno::ENOSPC => "free space or inodes on that file system (df, df -i)".to_owned(),
        Errno::EDQUOT => "raise or free the disk quota".to_owned(),
        Errno::EMFILE | Errno::ENFILE => "raise the limit on open files (ulimit -n)".to_owned(),
        Errno::EISDIR => "a directory is in the way: move it aside".to_owned(),
        Errno::ENOTDIR => {
            "something that is not a directory is in the way: move it aside".to_owned()
        }
        Errno::EIO => "the disk reports an error (dmesg)".to_owned(),
        _ => return None,
    })
}

/// EACCES: the mode of a file or directory forbids it, or a security module.
fn advise_access(process: &ProcessFacts, place: &PlaceFacts) -> String {
    // In a user namespace the capability may be there and of no use.
    if !process.has(DAC_OVERRIDE) {
        return process.describe_missing(&["DAC_OVERRIDE"]);
    }
    process.describe_other_limits().unwrap_or_else(|| {
        format!(
            "modes and owners do not stop this process; look for a network file system that refuses root (findmnt -T {}), and \
             in dmesg",
            place.path.display()
        )
    })
}

/// EPERM: what the mode of a file does not decide.
fn advise_permission(process: &ProcessFacts, place: &PlaceFacts) -> String {
    if place.file.is_some_and(|file| file.is_locked) {
        return describe_lock(&place.path);
    }
    if let Some((path, dir)) = &place.dir {
        if dir.is_locked {
            return describe_lock(path);
        }
        let is_foreign = |owner: u32| owner != process.uid;
        let is_other_file = place.file.is_none_or(|file| is_foreign(file.uid));
        if dir.is_sticky && is_foreign(dir.uid) && is_other_file && !process.has(FOWNER) {
            return format!(
                "{} belongs to uid {} and is sticky, so that only the owner of a file may replace it; chmod -t it, or {}",
                path.display(),
                dir.uid,
                process.describe_way_to("FOWNER")
            );
        }
    }
    let missing = [("CHOWN", CHOWN), ("FOWNER", FOWNER)];
    let missing = missing
        .iter()
        .filter(|(_, number)| !process.has(*number))
        .map(|(name, _)| *name);
    let missing: Vec<&str> = missing.collect();
    if !missing.is_empty() {
        return process.describe_missing(&missing);
    }
    process.describe_other_limits().unwrap_or_else(|| {
        "neither owners nor flags forbid it; look for a seccomp profile (securityContext.seccompProfile), and in dmesg"
            .to_owned()
    })
}

impl ProcessFacts {
    fn describe_way_to(&self, capability: &str) -> String {
        match self.uid {
            0 => format!("add {capability} under securityContext.capabilities"),
            _ => format!("run the agent as root, or with CAP_{capability}"),
        }
    }
}

fn describe_lock(path: &std::path::Path) -> String {
    let path = path.display();
    format!("{path} is immutable or append-only (lsattr); run chattr -i -a {path}")
}

fn advise_read_only(place: &PlaceFacts) -> String {
    match &place.mount {
        Some(mount) if mount.is_read_only_everywhere => format!(
            "the file system on {} is itself read-only, as after a disk error (dmesg) or on an image; remount it read-write, \
             or choose a writable directory under paths",
            mount.point.display()
        ),
        Some(mount) if mount.is_read_only => format!(
            "only the mount {} is read-only; mount it read-write (volumeMounts.readOnly: false), or choose a writable \
             directory under paths",
            mount.point.display()
        ),
        _ => "mount it read-write, or choose a writable directory under paths".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = (1 << 41) - 1;

    fn root(without: &[u32]) -> ProcessFacts {
        let without = without.iter().fold(0, |bits, number| bits | 1 << number);
        ProcessFacts {
            uid: 0,
            capabilities: Some(ALL & !without),
            confinement: None,
            has_user_namespace: false,
        }
    }

    fn user(uid: u32, capabilities: u64) -> ProcessFacts {
        ProcessFacts {
            uid,
            capabilities: Some(capabilities),
            ..root(&[])
        }
    }

    fn confined(by: Confinement) -> ProcessFacts {
        ProcessFacts {
            confinement: Some(by),
            ..root(&[])
        }
    }

    fn place(file: Option<FileFacts>, dir: FileFacts) -> PlaceFacts {
        PlaceFacts {
            path: "/d/f".into(),
            file,
            dir: Some(("/d".into(), dir)),
            mount: None,
        }
    }

    fn on_mount(is_read_only: bool, is_read_only_everywhere: bool) -> PlaceFacts {
        PlaceFacts {
            mount: Some(MountFacts {
                point: "/d".into(),
                is_read_only,
                is_read_only_everywhere,
            }),
            ..PlaceFacts::default()
        }
    }

    #[test]
    fn the_advice_is_drawn_from_what_the_process_has_and_lacks() {
        let selinux = || confined(Confinement::SeLinux("u:r:container_t:s0".to_owned()));
        let apparmor = || confined(Confinement::AppArmor("cri-containerd".to_owned()));
        let in_namespace = ProcessFacts {
            has_user_namespace: true,
            ..root(&[])
        };
        let unknown = ProcessFacts {
            capabilities: None,
            ..root(&[])
        };
        let plain = || place(Some(FileFacts::default()), FileFacts::default());
        let locked = FileFacts {
            is_locked: true,
            ..FileFacts::default()
        };
        let theirs = FileFacts {
            uid: 7,
            ..FileFacts::default()
        };
        let sticky = FileFacts {
            is_sticky: true,
            ..theirs
        };
        for (errno, process, place, want) in [
            (
                Errno::EACCES,
                user(1000, 0),
                plain(),
                "runs as uid 1000; run it as root",
            ),
            (
                Errno::EACCES,
                root(&[DAC_OVERRIDE]),
                plain(),
                "root without CAP_DAC_OVERRIDE; add DAC_OVERRIDE",
            ),
            (
                Errno::EACCES,
                selinux(),
                plain(),
                "SELinux refuses it to u:r:container_t:s0",
            ),
            (
                Errno::EACCES,
                apparmor(),
                plain(),
                "the AppArmor profile cri-containerd",
            ),
            (
                Errno::EACCES,
                in_namespace.clone(),
                plain(),
                "hostUsers: true",
            ),
            (Errno::EACCES, root(&[]), plain(), "findmnt -T /d/f"),
            (Errno::EACCES, unknown, plain(), "findmnt -T /d/f"),
            (
                Errno::EACCES,
                user(1000, ALL),
                plain(),
                "modes and owners do not stop this process",
            ),
            (
                Errno::EPERM,
                root(&[]),
                place(Some(locked), FileFacts::default()),
                "run chattr -i -a /d/f",
            ),
            (
                Errno::EPERM,
                root(&[]),
                place(None, locked),
                "run chattr -i -a /d",
            ),
            (
                Errno::EPERM,
                root(&[FOWNER]),
                place(Some(theirs), sticky),
                "/d belongs to uid 7 and is sticky, so that only the owner of a file may replace it; chmod -t it, or add FOWNER",
            ),
            (
                Errno::EPERM,
                user(1000, 0),
                place(Some(theirs), sticky),
                "chmod -t it, or run the agent as root",
            ),
            // Its own file in a sticky directory is not what is refused.
            (
                Errno::EPERM,
                user(1000, 0),
                place(
                    Some(FileFacts {
                        uid: 1000,
                        ..theirs
                    }),
                    sticky,
                ),
                "runs as uid 1000; run it as root, or with CAP_CHOWN and CAP_FOWNER",
            ),
            (
                Errno::EPERM,
                root(&[CHOWN]),
                plain(),
                "root without CAP_CHOWN; add CHOWN under",
            ),
            (
                Errno::EPERM,
                selinux(),
                place(Some(theirs), sticky),
                "spc_t",
            ),
            (Errno::EPERM, in_namespace, plain(), "hostUsers: true"),
            (
                Errno::EPERM,
                root(&[]),
                place(Some(theirs), sticky),
                "seccomp profile",
            ),
            (
                Errno::EROFS,
                root(&[]),
                on_mount(true, false),
                "only the mount /d is read-only",
            ),
            (
                Errno::EROFS,
                root(&[]),
                on_mount(true, true),
                "the file system on /d is itself read-only",
            ),
            (
                Errno::EROFS,
                root(&[]),
                PlaceFacts::default(),
                "mount it read-write",
            ),
            (Errno::ENOSPC, root(&[]), plain(), "df -i"),
        ] {
            let advice = advise(errno, &process, &place).unwrap_or_default();
            assert!(
                advice.contains(want),
                "{errno} {process:?} {place:?}: {advice}"
            );
            let is_root = process.uid == 0;
            assert!(!is_root || !advice.contains("as root"), "to root: {advice}");
        }
        assert_eq!(advise(Errno::ENOENT, &root(&[]), &plain()), None);
    }
}
