//! Observes and reads files, without waiting for a FIFO, without using a device and without following a link unseen.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstatat};
use sha2::Digest;

use super::attributes::read_attributes;
use super::resolve::ResolvedPath;
use super::syscalls::{self, FileKind, FileMetadata};
use super::{Dir, HostError, Temp};
use crate::model::{FileName, FileState, FileType, LARGEST_PLUGIN, Regular};

/// How long a file must have been unchanged before its times prove that it is unchanged. The kernel stamps changes
/// with the time of its last tick, at most 10 ms ago: a second change within one tick leaves no trace in them.
const SETTLED: Duration = Duration::from_millis(20);

/// How long the reading of one file may take. A disk or a mount that is slower than that keeps everything else waiting.
const LONGEST_READING: Duration = Duration::from_secs(60);

/// Shows, without reading a file, whether it is unchanged: any write, chmod, chown, rename or link changes the last
/// field (ctime), which only the kernel sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFingerprint {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A regular file as it was when it was last read and hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashedFile {
    fingerprint: FileFingerprint,
    regular: Regular,
}

impl From<&FileStat> for FileFingerprint {
    fn from(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

impl FileFingerprint {
    /// Whether a later change must show in the times. It does if the recorded change is clearly older than `now`, or
    /// clearly newer, which happens after the clock was set back.
    fn is_settled(&self, now: SystemTime) -> bool {
        let (seconds, nanos) = self.changed;
        let changed = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok());
        changed.is_some_and(|(seconds, nanos)| {
            let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
            let between = match now.duration_since(changed) {
                Ok(since) => since,
                Err(ahead) => ahead.duration(),
            };
            between >= SETTLED
        })
    }
}

impl HashedFile {
    /// As long as the file has this fingerprint, its content is what was read.
    #[must_use]
    pub const fn fingerprint(&self) -> FileFingerprint {
        self.fingerprint
    }
}

/// An open regular file, read from its start.
#[derive(Debug)]
pub struct FileReader {
    file: File,
    path: PathBuf,
    /// The size when it was opened; 0 for files that the kernel makes up (procfs).
    size: u64,
}

impl FileReader {
    pub(super) fn open_resolved(resolved: &ResolvedPath<'_>) -> Result<Self, HostError> {
        let path = resolved.path();
        let open = || {
            resolved.file_kind()?.must_be_regular()?;
            // A regular file is not the root, so it has a name.
            syscalls::open_regular(resolved.parent_fd(), path.file_name().unwrap_or_default())
        };
        match open() {
            Ok((file, metadata)) => Ok(Self {
                file,
                path,
                size: metadata.size,
            }),
            Err(error) => Err(HostError::new("open", path, error)),
        }
    }

    /// When it was last written to, by the machine's clock.
    #[must_use]
    pub fn modified(&self) -> Option<SystemTime> {
        self.file.metadata().ok()?.modified().ok()
    }

    /// Reads the rest of a small file.
    ///
    /// # Errors
    /// When it is larger than `cap` bytes, or cannot be read.
    pub fn read_to_vec(self, cap: u64) -> Result<Vec<u8>, HostError> {
        let mut bytes = Vec::new();
        let read = || {
            must_not_exceed(self.size, cap)?;
            // Read one byte more than allowed: the size from stat is not reliable (procfs says 0).
            let mut limited = self.file.take(cap.saturating_add(1));
            must_not_exceed(limited.read_to_end(&mut bytes)? as u64, cap)
        };
        match read() {
            Ok(()) => Ok(bytes),
            Err(error) => Err(HostError::new("read", self.path, error)),
        }
    }
}

fn too_slow(size: u64) -> io::Error {
    let seconds = LONGEST_READING.as_secs();
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!(
            "{size} bytes were read in {seconds} s; look whether the disk or the mount is slow"
        ),
    )
}

fn must_not_exceed(size: u64, cap: u64) -> io::Result<()> {
    match size > cap {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than the {cap} bytes allowed"),
        )),
        false => Ok(()),
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Dir {
    /// Everything that is enforced about a name: type, content, mode and owner. Never follows a link,
    /// never waits for a FIFO, never opens a device. A failure is a state too: [`FileState::Unreadable`].
    ///
    /// A file of more than `largest` bytes is not read ([`FileState::TooLarge`]): a sparse file of a terabyte costs its
    /// writer nothing, and a reader hours.
    #[must_use]
    pub fn observe_file(&self, name: &FileName, largest: u64) -> FileState {
        match self.try_observe(name, largest) {
            Ok(state) => state,
            Err(error) => FileState::Unreadable(error.to_string()),
        }
    }

    /// The same, but a file whose fingerprint is still that of `seen` is not read again. Sets `seen` to what can be
    /// relied on next time; `None` where nothing can.
    #[must_use]
    pub fn observe_file_again(
        &self,
        name: &FileName,
        largest: u64,
        seen: &mut Option<HashedFile>,
    ) -> FileState {
        if let (Some(known), Ok(Some(fingerprint))) = (&*seen, self.fingerprint(name))
            && known.fingerprint == fingerprint
        {
            return FileState::Regular(known.regular);
        }
        *seen = None;
        let now = SystemTime::now();
        let before = self.fingerprint(name);
        let state = self.observe_file(name, largest);
        if let (FileState::Regular(regular), Ok(Some(fingerprint))) =
            (&state, self.fingerprint(name))
            && before.is_ok_and(|before| before == Some(fingerprint))
            && fingerprint.is_settled(now)
        {
            *seen = Some(HashedFile {
                fingerprint,
                regular: *regular,
            });
        }
        state
    }

    /// The fingerprint of a regular file; `None` where no regular file is there.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn fingerprint(&self, name: &FileName) -> Result<Option<FileFingerprint>, HostError> {
        match fstatat(self.fd(), name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if FileKind::of(&stat) == FileKind::Regular => {
                Ok(Some(FileFingerprint::from(&stat)))
            }
            Ok(_) | Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(HostError::new("inspect", self.path_of(name), error)),
        }
    }

    fn try_observe(&self, name: &FileName, largest: u64) -> Result<FileState, HostError> {
        match self.file_metadata(name)?.map(|metadata| metadata.kind) {
            None => return Ok(FileState::Absent),
            Some(FileKind::Other(other)) => return Ok(FileState::Other(other)),
            Some(FileKind::Regular) => {}
        }
        match self.hash_file(name, largest) {
            Ok(state) => Ok(state),
            // It was removed between the check and the opening.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(FileState::Absent),
            Err(error) => Err(HostError::new("read", self.path_of(name), error)),
        }
    }

    fn hash_file(&self, name: &FileName, largest: u64) -> io::Result<FileState> {
        let (file, seen) = syscalls::open_regular(self.fd(), name.as_str())?;
        if seen.size > largest {
            return Ok(FileState::TooLarge(seen.size));
        }
        let attributes = read_attributes(&file);
        let mut hasher = sha2::Sha256::new();
        let (mut size, began) = (0, Instant::now());
        // It may grow while it is read.
        syscalls::each_chunk(file.take(largest.saturating_add(1)), |chunk| {
            hasher.update(chunk);
            size += chunk.len() as u64;
            match began.elapsed() > LONGEST_READING {
                true => Err(too_slow(size)),
                false => Ok(()),
            }
        })?;
        if size > largest {
            return Ok(FileState::TooLarge(size));
        }
        Ok(FileState::Regular(Regular {
            sha256: syscalls::finish_digest(hasher),
            size,
            mode: seen.mode,
            owner: seen.owner,
            attributes,
        }))
    }

    /// Reads a small file whole, following links inside the host root, as libcni does with the files
    /// of the configuration directory.
    ///
    /// # Errors
    /// When it is absent, not a regular file in the end, larger than `cap` bytes, or cannot be accessed.
    pub fn read_file(&self, name: &OsStr, cap: u64) -> Result<Vec<u8>, HostError> {
        let path = self.path().join(name);
        match self.stat_name(name)?.map(|metadata| metadata.kind) {
            Some(FileKind::Regular) => match syscalls::open_regular(self.fd(), name) {
                Ok((file, metadata)) => FileReader {
                    file,
                    path,
                    size: metadata.size,
                }
                .read_to_vec(cap),
                Err(error) => Err(HostError::new("open", path, error)),
            },
            // A link may lead out of the directory, so it is resolved from the root.
            Some(FileKind::Other(FileType::Symlink)) => {
                FileReader::open_resolved(&self.root().resolve(&self.path_in_root(name), None)?)?
                    .read_to_vec(cap)
            }
            Some(other) => {
                let refused = other.must_be_regular().map(|()| Vec::new());
                refused.map_err(|error| HostError::new("read", path, error))
            }
            None => Err(HostError::new("read", path, Errno::ENOENT)),
        }
    }

    /// Checks the type before opening, as everywhere: opening a device can already use it.
    pub(super) fn open_regular(&self, name: &FileName) -> io::Result<(File, FileMetadata)> {
        self.must_be_regular(name)?;
        syscalls::open_regular(self.fd(), name.as_str())
    }

    /// Opens a regular file that is copied: one larger than any plugin would fill the disk for nothing.
    pub(super) fn open_to_copy(&self, name: &FileName) -> io::Result<io::Take<File>> {
        let (file, metadata) = self.open_regular(name)?;
        must_not_exceed(metadata.size, LARGEST_PLUGIN)?;
        Ok(file.take(metadata.size))
    }

    /// Fills an empty temp with a regular file's content, and hashes what the temp then holds.
    ///
    /// # Errors
    /// When it is not a regular file, or reading or writing fails.
    pub fn copy_to(&self, name: &FileName, temp: &mut Temp) -> Result<(), HostError> {
        let mut file = self
            .open_to_copy(name)
            .map_err(|error| HostError::new("read", self.path_of(name), error))?;
        temp.fill_from(&mut file)
            .map_err(|error| HostError::new("copy to", temp.path(), error))
    }
}
