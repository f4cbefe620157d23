//! Getting an artifact: download, verify the pin, then read the wanted members.
//!
//! [`download`] is the only maker of a [`Verified`], and [`read_members`] takes nothing else: no byte is
//! decompressed before the pinned digest matched. Both ends are small traits, which `files` joins to `host`:
//! a [`Spool`] takes the archive's bytes, a [`MemberSink`] the plugins', a [`FileSource`] opens `file://` sources.
//!
//! The rooms, of which each imports only from those before it:
//!
//! - `spool`, `local_files`: where the bytes go, and the files of this machine.
//! - `http`: clients, proxies, credentials, redirects, ranges.
//! - `unpack`: archives and layers within limits, and the plugins in them.
//! - `oci`: registry auth, manifests, and where in an image the wanted files are.
//! - `sources`: rounds over the sources of a blob, retry, resume, dead servers.
//! - `pin_resolver`: digests and signatures that the configuration leaves to others.

mod http;
mod local_files;
mod oci;
mod pin_resolver;
mod sources;
mod spool;
mod unpack;

pub use http::client::{api_client, local_client};
pub use http::redact::redacted;
pub use http::redirect::Refusal;
pub use local_files::{FileSource, LocalFiles};
pub use oci::auth::error::Denied;
pub use oci::gather::Image;
pub use oci::manifest::ImageError;
pub use pin_resolver::inquire;
pub use sources::error::{Failure, FetchError, TimeLimit, Tried, WrongDigest};
pub use sources::health::Health;
pub use sources::options::{Keep, Kept, Means, Progress};
pub use sources::partial::Verified;
pub use sources::rounds::download;
pub use sources::small_file::read_small;
pub use spool::Spool;
pub use unpack::elf::NotAPlugin;
pub use unpack::fetched::Fetched;
pub use unpack::limits::{Cap, Limits};
pub use unpack::members::{ArchiveError, MemberSink, read_members};
