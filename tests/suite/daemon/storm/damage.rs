//! Everything that other programs do to a node's disk, at random.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, symlink,
};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use fastrand::Rng;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{mkfifo, truncate};

use super::TEMP;
use super::observer::Observer;
use super::truth::declared;
use crate::support::namespace::{bind, mount_tmpfs};
use crate::support::node::{BIN, CONF, Node};
use crate::support::release::PLUGINS;

const FOREIGN_CONFLIST: &str = "etc/cni/net.d/05-foreign.conflist";
const FOREIGN: [&str; 4] = [
    "opt/cni/bin/cilium-cni",
    "etc/cni/net.d/99-other.conflist",
    "etc/cni/net.d/README",
    "etc/cni/net.d/10-pods.conflist.bak",
];

/// Damage to one declared file. It never follows a link, which may lead out of the sandbox.
const BLOWS: [fn(&Path, &mut Rng) -> io::Result<()>; 22] = [
    |path, _| fs::remove_file(path),
    |path, _| fs::remove_file(path),
    flip_a_bit,
    flip_a_bit,
    |path, random| in_place(path)?.set_len(random.u64(..2000)),
    |path, _| Ok(truncate(no_link(path)?, 0)?),
    |path, random| Ok(truncate(no_link(path)?, random.i64(1..1 << 33))?),
    |path, _| run("chattr", &["+i"], path),
    |path, _| run("setfattr", &FILE_CAPABILITY, path),
    |path, _| run("setfacl", &["-m", "u:1000:rwx"], path),
    |path, _| run("python3", &["-c", WRITE_BY_MAPPING], path),
    |path, _| append(path),
    |path, random| {
        let bits = [0, 0o600, 0o644, 0o666, 0o777, 0o4755, 0o2755];
        let mode = Permissions::from_mode(bits[random.usize(..bits.len())]);
        fs::set_permissions(no_link(path)?, mode)
    },
    |path, _| chown(no_link(path)?, Some(1000), None),
    |path, random| {
        fs::rename(
            path,
            path.with_file_name(format!("moved-{}", random.u8(..4))),
        )
    },
    |path, _| replace(path, |new| fs::write(new, "something else")),
    // For the same reason never to a file of this machine.
    |path, _| replace(path, |new| symlink("nowhere", new)),
    |path, _| replace(path, |new| Ok(mkfifo(new, Mode::S_IRWXU)?)),
    |path, _| replace(path, |new| UnixListener::bind(new).map(drop)),
    |path, _| {
        replace(path, |new| {
            Ok(mknod(new, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3))?)
        })
    },
    // With a foreign file, so that the right one stands under a name that is not declared.
    |path, _| {
        let other = path.with_file_name("exchanged");
        fs::write(&other, "exchanged")?;
        let flags = RenameFlags::RENAME_EXCHANGE;
        Ok(renameat2(AT_FDCWD, path, AT_FDCWD, &other, flags)?)
    },
    |path, _| {
        fs::remove_file(path)?;
        fs::create_dir(path)
    },
];

/// `cap_sys_admin+ep`, as setfattr(1) takes it.
const FILE_CAPABILITY: [&str; 4] = [
    "-n",
    "security.capability",
    "-v",
    "0x0100000200002000000000000000000000000000",
];
/// No event tells of such a write.
const WRITE_BY_MAPPING: &str = "
import mmap, sys
with open(sys.argv[1], 'r+b') as file, mmap.mmap(file.fileno(), 0) as mapping:
    mapping[0] ^= 1
";
/// How many open files the storm keeps, and writes to later.
const MOST_HELD: usize = 4;
/// Where a directory is while a link stands in its place.
const ELSEWHERE: &str = "elsewhere";

/// A storm over one node, in a mount namespace of its own.
pub(super) struct Storm<'a> {
    node: &'a Node,
    random: Rng,
    declared: Vec<PathBuf>,
    /// Everything in both directories that is not declared, as the storm left it.
    others: BTreeMap<PathBuf, Traces>,
    /// Files that are open for writing, whatever their names are by now.
    held: Vec<File>,
    /// What is mounted over, the last one last.
    mounts: Vec<PathBuf>,
}

/// By this a change of a file is seen: its type and content, and when its inode was last changed.
type Traces = (u64, u32, (i64, i64));

impl<'a> Storm<'a> {
    pub(super) fn new(node: &'a Node, random: Rng) -> Self {
        let mut storm = Self {
            node,
            random,
            declared: declared().map(|file| node.path(&file)).collect(),
            others: BTreeMap::new(),
            held: Vec::new(),
            mounts: Vec::new(),
        };
        storm.others = storm.look_at_others();
        storm
    }

    /// Does damage once, and lets the observer take some samples. Sometimes it waits until everything is right again.
    pub(super) fn blow(&mut self, observer: &Observer) {
        if self.random.u8(..6) == 0 {
            self.abate(observer);
            observer.takes(10);
        }
        observer.strike(|| {
            self.nothing_else_was_touched();
            // The damage may fail: the file is gone already, or a directory is in the way.
            let _ = self.strike();
            self.others = self.look_at_others();
        });
        // Sometimes the next damage comes at once, sometimes after the repair.
        let pause = [0, 0, 1, 2, 3];
        observer.takes(pause[self.random.usize(..pause.len())]);
    }

    /// Removes what the agent leaves to people: mounts, links in the place of directories, directories in the place of
    /// files, flags that it may not clear, and foreign conflists.
    pub(super) fn abate(&mut self, observer: &Observer) {
        observer.strike(|| {
            self.nothing_else_was_touched();
            self.held.clear();
            while let Some(mount) = self.mounts.pop() {
                // The agent may be reading there.
                run("umount", &["--lazy"], &mount).unwrap();
            }
            for dir in [BIN, CONF].map(|dir| self.node.path(dir)) {
                let _ = run("chattr", &["-R", "-i"], &dir);
                unlink_dir(&dir).unwrap();
            }
            let _ = fs::remove_file(self.node.path(FOREIGN_CONFLIST));
            for path in &self.declared {
                let _ = fs::remove_dir_all(path);
            }
            self.others = self.look_at_others();
        });
    }

    /// Fails if anything that is not declared is not as the storm left it.
    pub(super) fn nothing_else_was_touched(&self) {
        assert_eq!(self.others, self.look_at_others());
    }

    fn strike(&mut self) -> io::Result<()> {
        match self.random.u8(..26) {
            0 => self.remove_tree(),
            20 | 21 => self.hold_or_write(),
            22 => self.mount(),
            23 => self.link_dir(),
            24 => {
                let dir = self.node.path([BIN, CONF][self.random.usize(..2)]);
                run("chattr", &["+i"], &dir)
            }
            25 => {
                let paths = [0, 1].map(|_| self.random.usize(..self.declared.len()));
                let [one, other] = paths.map(|index| &self.declared[index]);
                let flags = RenameFlags::RENAME_EXCHANGE;
                Ok(renameat2(AT_FDCWD, one, AT_FDCWD, other, flags)?)
            }
            1..4 => self.foreign_conflist(),
            4..6 => {
                let file = FOREIGN[self.random.usize(..FOREIGN.len())];
                fs::write(self.node.path(file), "not yours")
            }
            _ => {
                let path = &self.declared[self.random.usize(..self.declared.len())];
                if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
                    return fs::remove_dir(path);
                }
                BLOWS[self.random.usize(..BLOWS.len())](path, &mut self.random)
            }
        }
    }

    /// Opens a declared file for writing and keeps it open, or writes to one that is open.
    fn hold_or_write(&mut self) -> io::Result<()> {
        if self.held.len() < MOST_HELD && self.random.bool() {
            let path = &self.declared[self.random.usize(..self.declared.len())];
            self.held.push(in_place(path)?);
            return Ok(());
        }
        let index = self.random.usize(..self.held.len().max(1));
        match self.held.get_mut(index) {
            Some(file) => file.write_all(b"later"),
            None => Ok(()),
        }
    }

    /// Mounts a file over a plugin, a directory over the bin directory, or an empty tmpfs.
    fn mount(&mut self) -> io::Result<()> {
        let (from, over) = match self.random.u8(..3) {
            0 => {
                let file = self.node.path("etc/mounted-file");
                fs::write(&file, "mounted")?;
                (
                    Some(file),
                    self.declared[self.random.usize(..PLUGINS.len())].clone(),
                )
            }
            1 => {
                let dir = self.node.path("etc/mounted-dir");
                fs::create_dir_all(&dir)?;
                (Some(dir), self.node.path(BIN))
            }
            _ => (None, self.node.path(BIN)),
        };
        let found = fs::symlink_metadata(&over)?;
        if found.is_symlink() || found.is_file() != from.as_ref().is_some_and(|from| from.is_file())
        {
            return Ok(());
        }
        match from {
            Some(from) => bind(&from, &over),
            None => mount_tmpfs(&over, "size=64m"),
        }
        self.mounts.push(over);
        Ok(())
    }

    /// Moves the configuration directory and leaves a link to it, or takes that back.
    fn link_dir(&self) -> io::Result<()> {
        let dir = self.node.path(CONF);
        if fs::symlink_metadata(&dir)?.is_symlink() {
            return unlink_dir(&dir);
        }
        fs::rename(&dir, dir.with_file_name(ELSEWHERE))?;
        symlink(ELSEWHERE, dir)
    }

    /// As a package upgrade does: the directory is removed, and comes back later or not.
    fn remove_tree(&mut self) -> io::Result<()> {
        let dir = self.node.path([BIN, CONF][self.random.usize(..2)]);
        // The agent waits for a link that is missing.
        fs::remove_dir_all(no_link(&dir)?)?;
        match self.random.bool() {
            true => fs::create_dir(dir),
            false => Ok(()),
        }
    }

    /// A foreign conflist that sorts before ours: it appears, loads or not, and disappears.
    fn foreign_conflist(&mut self) -> io::Result<()> {
        let path = self.node.path(FOREIGN_CONFLIST);
        if path.exists() {
            return fs::remove_file(path);
        }
        let loads =
            r#"{"cniVersion": "1.0.0", "name": "foreign", "plugins": [{"type": "loopback"}]}"#;
        let text = if self.random.bool() { loads } else { "{" };
        fs::write(path, text)
    }

    fn look_at_others(&self) -> BTreeMap<PathBuf, Traces> {
        let mut others = BTreeMap::new();
        for dir in [BIN, CONF] {
            let Ok(entries) = fs::read_dir(self.node.path(dir)) else {
                continue;
            };
            for path in entries.map(|entry| entry.unwrap().path()) {
                let name = path.file_name().unwrap().to_string_lossy();
                if name.starts_with(TEMP) || self.declared.contains(&path) {
                    continue;
                }
                let found = fs::symlink_metadata(&path).unwrap();
                let traces = (
                    found.ino(),
                    found.mode(),
                    (found.ctime(), found.ctime_nsec()),
                );
                others.insert(path, traces);
            }
        }
        others
    }
}

/// Puts a directory back in the place of the link to it.
fn unlink_dir(dir: &Path) -> io::Result<()> {
    if fs::symlink_metadata(dir).is_ok_and(|found| found.is_symlink()) {
        fs::remove_file(dir)?;
        let elsewhere = dir.with_file_name(ELSEWHERE);
        return match elsewhere.exists() {
            true => fs::rename(elsewhere, dir),
            false => fs::create_dir(dir),
        };
    }
    Ok(())
}

/// Runs a program on a file that is no link.
fn run(program: &str, arguments: &[&str], path: &Path) -> io::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .arg(no_link(path)?)
        .output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )),
    }
}

/// Opens what is there for writing, as long as it is a file.
fn in_place(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    options.write(true).custom_flags(flags.bits()).open(path)
}

/// The same size, and sometimes the same time.
fn flip_a_bit(path: &Path, random: &mut Rng) -> io::Result<()> {
    let file = in_place(path)?;
    let modified = file.metadata()?.modified()?;
    let at = random.u64(..file.metadata()?.len().max(1));
    file.write_all_at(&[random.u8(..)], at)?;
    match random.bool() {
        true => file.set_modified(modified),
        false => Ok(()),
    }
}

/// What is there, unless it is a link; only the storm makes those.
fn no_link(path: &Path) -> io::Result<&Path> {
    match fs::symlink_metadata(path)?.is_symlink() {
        true => Err(io::ErrorKind::InvalidInput.into()),
        false => Ok(path),
    }
}

fn append(path: &Path) -> io::Result<()> {
    use std::io::Seek as _;
    let mut file = in_place(path)?;
    file.seek(io::SeekFrom::End(0))?;
    file.write_all(b"more")
}

/// Puts something in the place of a file in one step.
fn replace(path: &Path, with: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let new = path.with_file_name("replacement");
    with(&new)?;
    fs::rename(new, path)
}
