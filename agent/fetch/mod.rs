//! Getting an artifact: download, verify the pin, then read the wanted members.
//!
//! [`download`] is the only maker of a [`Verified`], and [`read_members`] takes nothing else: no byte is
//! decompressed before the pinned digest matched. Files belong to `host`, so both ends are small traits here:
//! a [`Spool`] takes the archive's bytes, a [`MemberSink`] the plugins', a [`FileSource`] opens `file://` sources.

mod access;
mod archive;
mod caps;
mod client;
mod download;
mod elf;
mod exchange;
mod failure;
mod handshake;
mod intake;
mod pace;
mod proxy;
mod range;
mod redact;
mod redirect;
mod scan;
mod tunnel;

use std::io::{self, Read, Seek, Write};
use std::path::Path;

pub use archive::{ArchiveError, MemberSink, read_members};
pub use caps::{Cap, Limits};
pub use client::{api_client, local_client};
pub use download::{Means, download};
pub use elf::NotAPlugin;
pub use failure::{Failure, FetchError, TimeLimit, Tried, WrongDigest};
pub use intake::Verified;
pub use redact::redacted;
pub use redirect::Refusal;

/// Where the bytes of an artifact go until they are verified and read; starts out empty.
///
/// The agent's own is an unlinked temporary file, which no crash can leave behind.
pub trait Spool: Read + Write + Seek + Send + 'static {
    /// Cuts it to `length` bytes, as `ftruncate(2)` does: the position stays where it is.
    ///
    /// # Errors
    /// As the kernel gives them.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

/// Opens the files that `file://` sources name.
pub trait FileSource {
    /// Opens `path` for reading. It must be a regular file: a pipe could block for ever.
    ///
    /// # Errors
    /// As the kernel gives them.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;
}

/// Somebody who watches a download, such as a progress bar.
pub trait Progress {
    /// `position` bytes are here of `total`, where that is known. A restart from zero shows as a fall.
    fn moved(&self, position: u64, total: Option<u64>);
}

/// Nobody watches.
impl Progress for () {
    fn moved(&self, _position: u64, _total: Option<u64>) {}
}
