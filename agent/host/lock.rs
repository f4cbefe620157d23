//! One agent at a time.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};

use super::syscalls::{FileMetadata, open_at};
use super::{Dir, HostError};
use crate::model::FileName;

/// A lock on a file, held until it is dropped or the process ends. The file stays: if it were removed, two processes
/// could lock two different files of the same name.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Whether the lock's file was removed, so that the lock no longer excludes other processes.
    #[must_use]
    pub fn is_void(&self) -> bool {
        fstat(&self.file).is_ok_and(|stat| stat.st_nlink == 0)
    }
}

impl Dir {
    /// Waits for the lock of the directory itself, which is held until it is dropped. Hold it only for a few steps.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn lock_itself(&self) -> Result<Lock, HostError> {
        let file = self.open_to_read().map(File::from).map_err(io::Error::from);
        file.and_then(|file| file.lock().map(|()| Lock { file }))
            .map_err(|error| HostError::new("lock", self.path(), error))
    }

    /// Takes a lock (`flock`) without waiting, and writes our process id into the file for others to read.
    ///
    /// # Errors
    /// When another process holds it ([`HostError::is_held`]), which is named by its id; or when the
    /// file cannot be opened.
    pub fn lock_file(&self, name: &FileName) -> Result<Lock, HostError> {
        let take = || {
            let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
            let mode = Mode::from_bits_truncate(0o600);
            let mut file = File::from(open_at(self.fd(), name.as_str(), flags, mode)?);
            FileMetadata::from(&fstat(&file)?).kind.must_be_regular()?;
            match file.try_lock() {
                Ok(()) => {
                    // The process id only helps the message of a second agent. A full disk must not prevent the lock.
                    let _ = file
                        .set_len(0)
                        .and_then(|()| writeln!(file, "{}", std::process::id()));
                    Ok(Lock { file })
                }
                Err(TryLockError::WouldBlock) => Err(held_by(&mut file)),
                Err(TryLockError::Error(error)) => Err(error),
            }
        };
        take().map_err(|error| HostError::new("lock", self.path_of(name), error))
    }
}

fn held_by(file: &mut File) -> io::Error {
    let mut text = String::new();
    let holder = match file.take(32).read_to_string(&mut text) {
        Ok(_) if text.trim().parse::<u32>().is_ok() => format!("process {}", text.trim()),
        _ => "another process".to_owned(),
    };
    io::Error::new(
        io::ErrorKind::WouldBlock,
        format!("{holder} holds it; two must not work there at once, wait for it or stop it"),
    )
}
