//! Who says which bytes an artifact has, and whether that is to be believed.
//!
//! A digest stands in the configuration, or comes from a signed list, or, weakest of all, from a checksum file beside
//! the artifact; a signature over the digest may be asked for on top. Whoever says it: what is downloaded is compared
//! with the digest before a byte of it is unpacked. Nothing here asks anybody; texts come in and a verdict goes out.

mod blob_signature;
mod checksum_list;
mod declared_pin;
mod error;
mod list_key;

pub use blob_signature::{BlobKey, BlobKeyError, BlobSignature};
pub use checksum_list::{find_listed_digest, parse_checksum_file};
pub use declared_pin::{
    DeclaredPin, DigestSource, PinDeclaration, PinList, RequiredSignature, SignatureLocation,
    artifact_file_name, describe_weakness, file_name, list_signature,
};
pub use error::VerificationError;
pub use list_key::{ListKey, ListKeyError};

/// The largest pin list that is read, in bytes: some ten thousand lines.
pub const LARGEST_LIST: u64 = 1 << 20;

/// The largest signature or checksum file that is read, in bytes; a line or four is what they hold.
pub const LARGEST_SIGNATURE: u64 = 8 << 10;
