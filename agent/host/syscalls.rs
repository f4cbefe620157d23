//! The system calls that the files of this room share, with the flags that must not be forgotten.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown};
use sha2::Digest;

use super::attributes;
use crate::model::{FileMode, FileType, Owner, Sha256};

/// Whether the program is ending, so that nothing is read any more.
static ENDING: AtomicBool = AtomicBool::new(false);

/// How much is read at once for hashing and copying.
const CHUNK: usize = 128 << 10;

/// What kind of thing a name refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// Anything else.
    Other(FileType),
}

/// What the kernel knows about a name without reading the content; links are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMetadata {
    /// Its kind.
    pub kind: FileKind,
    /// Size in bytes.
    pub size: u64,
    /// Mode bits, set-uid, set-gid and sticky included (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub owner: Owner,
    /// How many names (hard links) it has.
    pub links: u64,
}

impl From<&FileStat> for FileMetadata {
    fn from(stat: &FileStat) -> Self {
        Self {
            kind: FileKind::of(stat),
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            mode: stat.st_mode & 0o7777,
            owner: Owner {
                uid: stat.st_uid,
                gid: stat.st_gid,
            },
            // Its type is another one on other processors.
            #[allow(clippy::useless_conversion)]
            links: stat.st_nlink.into(),
        }
    }
}

impl FileMetadata {
    /// Whether it is a directory that was removed while it is open.
    pub(super) fn is_removed_dir(&self) -> bool {
        self.kind == FileKind::Other(FileType::Directory) && self.links == 0
    }
}

impl FileKind {
    pub(super) fn of(stat: &FileStat) -> Self {
        let format = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        if format == SFlag::S_IFREG {
            Self::Regular
        } else if format == SFlag::S_IFLNK {
            Self::Other(FileType::Symlink)
        } else if format == SFlag::S_IFDIR {
            Self::Other(FileType::Directory)
        } else {
            Self::Other(FileType::Special)
        }
    }

    /// Refuses everything but a regular file.
    pub(super) fn must_be_regular(self) -> io::Result<()> {
        match self {
            Self::Regular => Ok(()),
            Self::Other(other) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("it is {other}, not a regular file; move it away"),
            )),
        }
    }
}

/// `openat` with `O_CLOEXEC`, repeated when a signal interrupts it.
pub(super) fn open_at<P: ?Sized + NixPath>(
    dir: impl AsFd,
    name: &P,
    flags: OFlag,
    mode: Mode,
) -> nix::Result<OwnedFd> {
    loop {
        match openat(dir.as_fd(), name, flags | OFlag::O_CLOEXEC, mode) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// The number of the mount that the descriptor is on (`mnt_id` in proc_pid_fdinfo(5)).
pub(super) fn mount_id(fd: &OwnedFd) -> Option<String> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    Some(line.trim().to_owned())
}

/// Opens a regular file of a directory for reading, without following a link and without ever waiting
/// for a FIFO's writer. The caller has checked that it is regular; this checks again what was opened.
pub(super) fn open_regular<P: ?Sized + NixPath>(
    dir: impl AsFd,
    name: &P,
) -> io::Result<(File, FileMetadata)> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::from(open_at(dir, name, flags, Mode::empty())?);
    let metadata = FileMetadata::from(&fstat(&file)?);
    metadata.kind.must_be_regular()?;
    Ok((file, metadata))
}

/// Gives an open file exactly this owner and mode, and removes what it must not have beside them: flags, capabilities, an
/// ACL that lets others write.
pub(super) fn set_owner_and_mode(file: &File, owner: Owner, mode: FileMode) -> io::Result<()> {
    attributes::unlock(file)?;
    let now = FileMetadata::from(&fstat(file)?);
    // The owner first: a change of owner clears set-uid and set-gid, and may clear more on other systems. It also removes
    // file capabilities, for which this process would need a capability of its own otherwise.
    if now.owner != owner || attributes::has_capabilities(file) {
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        fchown(file, Some(uid), Some(gid))?;
    }
    attributes::remove_acl(file)?;
    Ok(fchmod(file, Mode::from_bits_truncate(mode.bits()))?)
}

/// Ends every reading of a file's content at its next chunk, because the program is ending. A thread that reads a large
/// file or a slow disk would keep it from that.
pub fn end_readings() {
    ENDING.store(true, Ordering::Relaxed);
}

/// Reads to the end, chunk by chunk.
pub(super) fn each_chunk(
    mut from: impl Read,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        if ENDING.load(Ordering::Relaxed) {
            return Err(io::Error::other("the program was told to end"));
        }
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The digest of what was hashed.
pub(super) fn finish_digest(hasher: sha2::Sha256) -> Sha256 {
    Sha256::from_bytes(hasher.finalize().into())
}
