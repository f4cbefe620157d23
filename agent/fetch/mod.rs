//! Getting an artifact: download, verify the pin, then read the wanted members.
//!
//! [`download`] is the only maker of a [`Verified`], and [`read_members`] takes nothing else: no byte is
//! decompressed before the pinned digest matched. Files belong to `host`, so both ends are small traits here:
//! a [`Spool`] takes the archive's bytes, a [`MemberSink`] the plugins', a [`FileSource`] opens `file://` sources.

mod archive;
mod caps;
mod client;
mod download;
mod elf;
mod entries;
mod exchange;
mod failure;
mod image;
mod intake;
mod pace;
mod range;
mod redact;
mod redirect;
mod scan;

use std::io::{self, Read, Seek, Write};
use std::path::Path;

pub use archive::{ArchiveError, MemberSink, read_members};
pub use caps::{Cap, Limits};
pub use client::{api_client, local_client};
pub use download::{Means, download};
pub use elf::NotAPlugin;
pub use failure::{Failure, FetchError, TimeLimit, Tried, WrongDigest};
pub use image::{Blobs, Descriptor, GatherError, Image, ImageError, Kind, gather};
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

    /// How many times a source gave bytes that are not the pinned ones.
    #[must_use]
    pub const fn impostors(&self) -> u32 {
        match self {
            Self::Whole(bytes) => bytes.impostors(),
            Self::Image(image) => image.impostors(),
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
