//! Where the digest of an artifact comes from, and whether it can be trusted.
//!
//! The digest is written in the configuration, or it comes from a signed list, or from a checksum file beside the
//! artifact, which is the weakest. The configuration may require a signature over the digest as well. In each case a
//! download is compared with the digest before a byte of it is unpacked. Nothing here does I/O.

mod blob_signature;
mod checksum_list;
mod declared_pin;
mod error;
mod list_key;

pub use blob_signature::{BlobKey, BlobKeyError, BlobSignature};
pub use checksum_list::{find_listed_digest, parse_checksum_file};
pub use declared_pin::{
    DeclaredPin, DigestSource, PinDeclaration, PinList, RequiredSignature, SignatureLocation,
    artifact_file_name, describe_weakness, file_name, list_signature_url,
};
pub use error::VerificationError;
pub use list_key::{ListKey, ListKeyError};

/// The largest pin list that is read, in bytes: some ten thousand lines.
pub const LARGEST_LIST: u64 = 1 << 20;

/// The largest signature or checksum file that is read, in bytes. They have between one and four lines.
pub const LARGEST_SIGNATURE: u64 = 8 << 10;
