//! What the Kubernetes API last said of the node, so that a restart needs no API server.

use std::path::Path;

use super::notes::{StateFile, read_state_file};
use super::{Store, StoreError};
use crate::host::{Host, HostError};
use crate::model::NodeFacts;

/// etcd takes objects of 1.5 MiB.
const NOTE: StateFile = StateFile {
    file: "node.json",
    largest: 2 << 20,
};

impl Store {
    /// Writes down what is known of the node; the same again costs no write.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save_node(&self, facts: &NodeFacts) -> Result<(), StoreError> {
        self.write_state_file(NOTE, facts)
    }

    /// Removes what was written down of the node, if anything was.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget_node(&self) -> Result<(), HostError> {
        self.remove_state_file(NOTE)
    }
}

/// What was last written down of the node of this name; `None` where nothing of use is there.
///
/// # Errors
/// When it is there and cannot be read, or others could have written it.
pub fn read_saved_node(
    host: &Host,
    state: &Path,
    node: &str,
) -> Result<Option<NodeFacts>, StoreError> {
    let facts: Option<NodeFacts> = read_state_file(host, state, NOTE)?;
    Ok(facts.filter(|facts| facts.node == node))
}
