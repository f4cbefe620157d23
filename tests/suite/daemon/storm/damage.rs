//! Everything that other programs do to a node's disk, at random.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, symlink,
};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, truncate};

use super::TEMP;
use super::observer::Observer;
use super::truth::declared;
use crate::support::node::{BIN, CONF, Node};

const FOREIGN_CONFLIST: &str = "etc/cni/net.d/05-foreign.conflist";
const FOREIGN: [&str; 4] = [
    "opt/cni/bin/cilium-cni",
    "etc/cni/net.d/99-other.conflist",
    "etc/cni/net.d/README",
    "etc/cni/net.d/10-pods.conflist.bak",
];

/// Damage to one declared file. It never follows a link, which may lead out of the sandbox.
const BLOWS: [fn(&Path, &mut Rng) -> io::Result<()>; 14] = [
    |path, _| fs::remove_file(path),
    |path, _| fs::remove_file(path),
    flip_a_bit,
    flip_a_bit,
    |path, random| in_place(path)?.set_len(random.u64(..2000)),
    |path, _| Ok(truncate(no_link(path)?, 0)?),
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
    |path, _| {
        fs::remove_file(path)?;
        fs::create_dir(path)
    },
];

/// A storm over one node.
pub(super) struct Storm<'a> {
    node: &'a Node,
    random: Rng,
    declared: Vec<PathBuf>,
    /// Everything in both directories that is not declared, as the storm left it.
    others: BTreeMap<PathBuf, Traces>,
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

    /// Removes what the agent leaves to people: directories in the place of files, and foreign conflists.
    pub(super) fn abate(&mut self, observer: &Observer) {
        observer.strike(|| {
            self.nothing_else_was_touched();
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
        match self.random.u8(..20) {
            0 => self.remove_tree(),
            1..4 => self.foreign_conflist(),
            4..6 => {
                let file = FOREIGN[self.random.usize(..FOREIGN.len())];
                self.node.write(file, b"not yours", 0o644);
                Ok(())
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

    /// As a package upgrade does: the directory is removed, and comes back later or not.
    fn remove_tree(&mut self) -> io::Result<()> {
        let dir = self.node.path([BIN, CONF][self.random.usize(..2)]);
        fs::remove_dir_all(&dir)?;
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
