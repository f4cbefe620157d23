//! Who says which bytes an artifact has, and whether that is to be believed.
//!
//! A digest stands in the configuration, or comes from a signed list, or, weakest of all, from a checksum file beside
//! the artifact; a signature over the digest may be asked for on top. Whoever says it: what is downloaded is compared
//! with the digest before a byte of it is unpacked. Nothing here asks anybody; texts come in and a verdict goes out.

mod blob;
mod checksums;
mod declared;
mod distrust;
mod list;

pub use blob::{BlobKey, BlobKeyError, Signed};
pub use checksums::{alone, listed};
pub use declared::{
    BlobSignature, Declaration, PinList, Pinned, Voucher, Whereabouts, declaration, file_name,
    file_of, signature_beside, weakness,
};
pub use distrust::Distrust;
pub use list::{ListKey, ListKeyError};

/// The largest pin list that is read, in bytes: some ten thousand lines.
pub const LARGEST_LIST: u64 = 1 << 20;

/// The largest signature or checksum file that is read, in bytes; a line or four is what they hold.
pub const LARGEST_SIGNATURE: u64 = 8 << 10;
