//! Getting an artifact: download, verify the pin, then read the wanted members.
//!
//! [`download`] is the only maker of a [`Verified`], and [`read_members`] takes nothing else: no byte is
//! decompressed before the pinned digest matched. Both ends are small traits, which `files` joins to `host`:
//! a [`Spool`] takes the archive's bytes, a [`MemberSink`] the plugins', a [`FileSource`] opens `file://` sources.
//!
//! Its parts: `download` (rounds over places; `place` says where, `courier` goes there, `small` and `inquiry` are for
//! what vouches for pins), `exchange` (one HTTP attempt: `redirect`, `range`, `pace`; `access` says as whom, by `client`,
//! `proxy` and `tunnel`; `registry` opens registries), `intake` (bytes into the spool and the proof), `image` (which
//! blobs, and where in them the wanted files are), `archive` (members out of what is proven: `scan`, `entries`, `caps`,
//! `elf`), `failure` and `handshake` (what went wrong, in an operator's words).

mod access;
mod archive;
mod caps;
mod client;
mod courier;
mod download;
mod elf;
mod entries;
mod exchange;
mod failure;
mod files;
mod handshake;
mod image;
mod inquiry;
mod intake;
mod memory;
mod pace;
mod place;
mod proxy;
mod range;
mod redact;
mod redirect;
mod registry;
mod scan;
mod small;
mod tunnel;

use std::io::{self, Read, Seek, Write};
use std::path::Path;

use crate::model::Pin;

pub use archive::{ArchiveError, MemberSink, read_members};
pub use caps::{Cap, Limits};
pub use client::{api_client, local_client};
pub use courier::Health;
pub use download::{Means, download};
pub use elf::NotAPlugin;
pub use failure::{Failure, FetchError, TimeLimit, Tried, WrongDigest};
pub use files::LocalFiles;
pub use image::{Image, ImageError};
pub use inquiry::inquire;
pub use intake::Verified;
pub use redact::redacted;
pub use redirect::Refusal;
pub use registry::Denied;
pub use small::read_small;

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

/// What was fetched for an artifact, every byte of it verified.
#[derive(Debug)]
pub enum Fetched<S> {
    /// The archive, or the plugin itself.
    Whole(Verified<S>),
    /// The layers of a container image that hold the wanted files.
    Image(Image<S>),
}

impl<S> Fetched<S> {
    /// How many bytes were fetched.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.bytes(),
            Self::Image(image) => image.bytes(),
        }
    }

    /// The source that gave them, without user information and query; of an image the one of what its reference
    /// names.
    #[must_use]
    pub fn source(&self) -> &str {
        match self {
            Self::Whole(bytes) => bytes.source(),
            Self::Image(image) => image.source(),
        }
    }

    /// What failed on the way.
    #[must_use]
    pub fn tried(&self) -> &[Tried] {
        match self {
            Self::Whole(bytes) => bytes.tried(),
            Self::Image(image) => image.tried(),
        }
    }
}

impl<S> From<Verified<S>> for Fetched<S> {
    fn from(bytes: Verified<S>) -> Self {
        Self::Whole(bytes)
    }
}

impl<S> From<Image<S>> for Fetched<S> {
    fn from(image: Image<S>) -> Self {
        Self::Image(image)
    }
}

/// Opens the files that `file://` sources name.
pub trait FileSource: Sync {
    /// Opens `path` for reading. It must be a regular file: a pipe could block for ever.
    ///
    /// # Errors
    /// As the kernel gives them.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;

    /// Reads a file of at most `limit` bytes.
    ///
    /// # Errors
    /// As the kernel gives them; [`io::ErrorKind::FileTooLarge`] for a larger one.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let file = self.open(path)?;
        file.take(limit.saturating_add(1))
            .read_to_end(&mut content)?;
        if content.len() as u64 > limit {
            let what = format!("it has more than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        }
        Ok(content)
    }
}

/// Keeps copies of what was downloaded.
pub trait Keep {
    /// Takes all of something, once it was proven as far as it can be.
    ///
    /// # Errors
    /// As the kernel gives them; the download then fails.
    fn keep(&self, what: Kept<'_>, bytes: &mut dyn Read) -> io::Result<()>;
}

/// What a copy is known by.
#[derive(Debug, Clone, Copy)]
pub enum Kept<'a> {
    /// Its digest, which matched.
    Blob(&'a Pin),
    /// The URL that it is declared by; nothing was proven.
    Url(&'a str),
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
