//! The last answer of the Kubernetes API about the node, saved so that a restart needs no API server.

use std::path::Path;

use super::answers::read_state_file;
use super::state_file::StateFile;
use super::{Store, StoreError};
use crate::host::{Host, HostError};
use crate::model::NodeFacts;

/// etcd stores objects of up to 1.5 MiB.
const NODE_FILE: StateFile = StateFile {
    name: "node.json",
    largest: 2 << 20,
};

impl Store {
    /// Saves what is known about the node. Nothing is written if it has not changed.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn save_node(&self, facts: &NodeFacts) -> Result<(), StoreError> {
        self.write_state_file(NODE_FILE, facts)
    }

    /// Removes what was saved about the node, if anything was.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn forget_node(&self) -> Result<(), HostError> {
        self.remove_state_file(NODE_FILE)
    }
}

/// What was last saved about the node of this name; `None` if there is nothing usable.
///
/// # Errors
/// When the file exists and cannot be read, or other users could have written it.
pub fn read_saved_node(
    host: &Host,
    state: &Path,
    node: &str,
) -> Result<Option<NodeFacts>, StoreError> {
    let facts: Option<NodeFacts> = read_state_file(host, state, NODE_FILE)?;
    Ok(facts.filter(|facts| facts.node == node))
}
