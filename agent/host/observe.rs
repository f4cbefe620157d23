//! Reading: what is on the disk, without waiting for anything and without being led astray.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use sha2::Digest;

use super::sys::{self, Kind, Metadata};
use super::walk::Trail;
use super::{Dir, HostError, Temp};
use crate::model::{FileName, FileState, FileType, Regular};

/// An open regular file, read from its start.
#[derive(Debug)]
pub struct Reader {
    file: File,
    size: u64,
    path: PathBuf,
}

impl Reader {
    pub(super) fn at(trail: &Trail<'_>) -> Result<Self, HostError> {
        let path = trail.path();
        let open = || {
            trail.kind()?.must_be_regular()?;
            // Not a directory, hence not the root, hence with a name.
            sys::open_regular(trail.parent(), path.file_name().unwrap_or_default())
        };
        match open() {
            Ok((file, Metadata { size, .. })) => Ok(Self { file, size, path }),
            Err(error) => Err(HostError::new("open", path, error)),
        }
    }

    /// Its size in bytes when it was opened.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn read_whole(self, cap: u64) -> Result<Vec<u8>, HostError> {
        let mut bytes = Vec::new();
        // One byte more than allowed: the size told beforehand is not to be trusted (procfs says 0).
        let read = self
            .file
            .take(cap.saturating_add(1))
            .read_to_end(&mut bytes);
        let checked = read.and_then(|count| match count as u64 > cap {
            true => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it is larger than the {cap} bytes allowed"),
            )),
            false => Ok(()),
        });
        match checked {
            Ok(()) => Ok(bytes),
            Err(error) => Err(HostError::new("read", self.path, error)),
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Dir {
    /// Everything that is enforced about a name: type, content, mode and owner. Never follows a link,
    /// never waits for a FIFO, never opens a device. A failure is a state too: [`FileState::Unreadable`].
    #[must_use]
    pub fn observe(&self, name: &FileName) -> FileState {
        match self.look(name) {
            Ok(state) => state,
            Err(error) => FileState::Unreadable(error.to_string()),
        }
    }

    fn look(&self, name: &FileName) -> Result<FileState, HostError> {
        match self.metadata(name)?.map(|metadata| metadata.kind) {
            None => return Ok(FileState::Absent),
            Some(Kind::Other(other)) => return Ok(FileState::Other(other)),
            Some(Kind::Regular) => {}
        }
        match self.hash(name) {
            Ok(regular) => Ok(FileState::Regular(regular)),
            // It went away between the look and the opening.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(FileState::Absent),
            Err(error) => Err(HostError::new("read", self.file(name), error)),
        }
    }

    fn hash(&self, name: &FileName) -> io::Result<Regular> {
        let (file, seen) = sys::open_regular(self.fd(), name.as_str())?;
        let mut hasher = sha2::Sha256::new();
        let mut size = 0;
        sys::each_chunk(&file, |chunk| {
            hasher.update(chunk);
            size += chunk.len() as u64;
            Ok(())
        })?;
        Ok(Regular {
            sha256: sys::digest(hasher),
            size,
            mode: seen.mode,
            owner: seen.owner,
        })
    }

    /// Reads a small file whole, following links inside the host root, as libcni does with the files
    /// of the configuration directory.
    ///
    /// # Errors
    /// When it is absent, not a regular file in the end, larger than `cap` bytes, or closed to us.
    pub fn read(&self, name: &OsStr, cap: u64) -> Result<Vec<u8>, HostError> {
        let path = self.path().join(name);
        match self.stat(name)?.map(|metadata| metadata.kind) {
            Some(Kind::Regular) => match sys::open_regular(self.fd(), name) {
                Ok((file, Metadata { size, .. })) => Reader { file, size, path }.read_whole(cap),
                Err(error) => Err(HostError::new("open", path, error)),
            },
            // Only a link leaves the directory, and only the root knows where it leads.
            Some(Kind::Other(FileType::Symlink)) => {
                Reader::at(&self.root().walk(&self.inside(name), None)?)?.read_whole(cap)
            }
            Some(other) => {
                let refused = other.must_be_regular().map(|()| Vec::new());
                refused.map_err(|error| HostError::new("read", path, error))
            }
            None => Err(HostError::new("read", path, nix::errno::Errno::ENOENT)),
        }
    }

    /// Looks before opening, as everywhere: to open a device can be to use it.
    pub(super) fn open_regular(&self, name: &FileName) -> io::Result<(File, Metadata)> {
        self.must_be_regular(name)?;
        sys::open_regular(self.fd(), name.as_str())
    }

    /// Copies a regular file's content to the end of a temp, which hashes it on the way: the bytes that
    /// are checked are the bytes that were written.
    ///
    /// # Errors
    /// When it is not a regular file, or reading or writing fails.
    pub fn copy_to(&self, name: &FileName, temp: &mut Temp) -> Result<(), HostError> {
        let (file, _) = self
            .open_regular(name)
            .map_err(|error| HostError::new("read", self.file(name), error))?;
        sys::each_chunk(&file, |chunk| temp.write_all(chunk))
            .map_err(|error| HostError::new("copy to", temp.path(), error))?;
        Ok(())
    }
}
