//! The content of `stateDir`: the ledger of the files that the agent placed, and the content store.
//!
//! ```text
//! <stateDir>/ledger.json    which files are ours, and which files each pinned artifact has
//! <stateDir>/node.json      the last answer of the Kubernetes API about the node, if it is asked
//! <stateDir>/pins.json      digests from lists and checksum files, if any are declared
//! <stateDir>/lock           keeps other agents out
//! <stateDir>/store/<hex>    blobs: plugins by the digest of their content
//! <stateDir>/spare/<hex>    spares: second copies, which a running agent renames into place
//! <stateDir>/tmp/           files that are being written
//! <stateDir>/*.damaged-<n>  what stood under one of these names and could not be used; three of each are kept
//! <stateDir>/*.schema-<n>   a record that a newer version wrote, kept for it
//! ```

mod blobs;
mod error;
mod ledger;
mod node;
mod parts;
mod pins;
mod records;
mod recovery;
mod spares;

pub use blobs::{BlobProof, Store, StoreContents};
pub use error::{DamagedRecord, StoreError};
pub use ledger::{Ledger, ManagedDirs, MeasuredFile, PlacedFile, PluginOrigin, SetAsideFile};
pub use node::read_saved_node;
pub use pins::{LearnedPin, read_saved_pins};
pub use spares::SpareState;
