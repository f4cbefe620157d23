//! Getting an artifact: download, verify the pin, then read the wanted members.
//!
//! [`download()`] leads to a [`Verified`], and [`read_members`] takes nothing else: no byte is decompressed before the
//! pinned digest matched. A [`DownloadSpool`] takes the bytes as they come, and a [`FileSource`] opens `file://` sources.
//!
//! The way of a blob: [`download()`] asks its sources in rounds, each attempt writes a `PartialBlob`, `verify_digest`
//! compares it with the pin, and [`read_members`] unpacks the [`FetchedArtifact`] that `download` returns.
//!
//! The rooms, of which each imports only from those before it:
//!
//! - `spool`, `local_files`: where the bytes go, and the files of this machine.
//! - `verify`: the digest comparison.
//! - `http`: clients, proxies, credentials, redirects, ranges.
//! - `unpack`: archives and layers within limits, and the plugins in them.
//! - `oci`: registry auth, manifests, and where in an image the wanted files are.
//! - `sources`: rounds over the sources of a blob, retry, resume, dead servers.
//! - `pin_resolver`: digests and signatures that the configuration leaves to lists and checksum files.
//! - `download`: an artifact as a whole.

mod download;
mod http;
mod local_files;
mod oci;
mod pin_resolver;
mod sources;
mod spool;
mod unpack;
mod verify;

pub use download::download;
pub use http::{
    HttpError, RedirectError, TimeLimit, api_client, innermost_message, local_client, redact_url,
};
pub use local_files::{FileSource, LocalFiles};
pub use oci::{ImageError, RegistryError};
pub use pin_resolver::{ResolvedPin, resolve_pin};
pub use sources::{
    CopyKeeper, CopyKey, DownloadProgress, FailedSource, FetchError, FetchReceipt,
    SharedServerHealth, SourceError, SourceOptions,
};
pub use spool::DownloadSpool;
pub use unpack::{
    ArchiveError, FetchedArtifact, LimitExceeded, NotAPlugin, UnpackLimits, read_members,
};
pub use verify::{DigestMismatch, Verified};
