//! What the agent keeps for itself in `stateDir`: the ledger of what it placed, and the content store.
//!
//! ```text
//! <stateDir>/ledger.json    what is ours, and what a pinned artifact was found to hold
//! <stateDir>/node.json      what the Kubernetes API last said of the node, where it is asked
//! <stateDir>/pins.json      what lists and checksum files said of digests, where they are asked
//! <stateDir>/lock           one agent at a time
//! <stateDir>/store/<hex>    blobs: plugins by the digest of their content
//! <stateDir>/spare/<hex>    spares: the same once more, to be renamed into place by a running agent
//! <stateDir>/tmp/           files being written
//! ```

mod blobs;
mod error;
mod ledger;
mod node;
mod notes;
mod pins;
mod spares;

pub use blobs::{Placement, Store, StoreContents, Trust};
pub use error::StoreError;
pub use ledger::{Ledger, ManagedDirs, MeasuredFile, PlacedFile, PluginOrigin, SetAsideFile};
pub use node::read_saved_node;
pub use pins::{LearnedPin, read_saved_pins};
pub use spares::SpareState;
