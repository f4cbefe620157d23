//! The last answer of the Kubernetes API about the node, saved so that a restart needs no API server.

use std::path::Path;

use super::records::RecordFile;
use super::{Store, StoreError};
use crate::host::{Host, HostError};
use crate::model::NodeFacts;

/// etcd stores objects of up to 1.5 MiB.
pub(super) const NODE_FILE: RecordFile = RecordFile {
    name: "node.json",
    largest: 2 << 20,
};

impl Store {
    /// Saves what is known about the node. Nothing is written if it has not changed.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn save_node(&self, facts: &NodeFacts) -> Result<(), StoreError> {
        NODE_FILE.replace_value(&self.state, self.owner, facts)
    }

    /// Removes what was saved about the node, if anything was.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn forget_node(&self) -> Result<(), HostError> {
        NODE_FILE.remove(&self.state)
    }
}

/// What was last saved about the node of this name; `None` if there is nothing usable.
///
/// # Errors
/// When the state directory cannot be read, or other users can write to it.
pub fn read_saved_node(
    host: &Host,
    state: &Path,
    node: &str,
) -> Result<Option<NodeFacts>, StoreError> {
    let facts: Option<NodeFacts> = NODE_FILE.read_value(host, state)?;
    Ok(facts.filter(|facts| facts.node == node))
}
