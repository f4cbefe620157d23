//! What the Kubernetes API last said of the node, so that a restart needs no API server.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::Path;

use super::blobs::must_be_private;
use super::{Store, StoreError};
use crate::host::{Host, HostError};
use crate::model::{FileMode, FileName, NodeFacts};

const FILE: &str = "node.json";

/// The largest file that is read, in bytes: etcd takes objects of 1.5 MiB.
const LARGEST: u64 = 2 << 20;

impl Store {
    /// Writes down what is known of the node, mode 0600, as everything is written; the same again costs no write.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remember_node(&self, facts: &NodeFacts) -> Result<(), StoreError> {
        let fail = |error| HostError::new("write", self.state.path().join(FILE), error);
        let text = serde_json::to_vec(facts)
            .map_err(io::Error::from)
            .map_err(fail)?;
        let there = self.state.read(OsStr::new(FILE), LARGEST);
        if there.is_ok_and(|there| there == text) {
            return Ok(());
        }
        let mut temp = self.state.create_temp()?;
        temp.write_all(&text).map_err(fail)?;
        let name = FileName::fixed(FILE);
        temp.publish(&self.state, &name, FileMode::PRIVATE, self.owner)?;
        Ok(self.state.sync()?)
    }

    /// Removes what was written down of the node.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget_node(&self) -> Result<(), HostError> {
        self.state.remove(&FileName::fixed(FILE)).map(drop)
    }
}

/// What was last written down of the node of this name; `None` where nothing of use is there.
///
/// # Errors
/// When it is there and cannot be read, or others could have written it.
pub fn remembered_node(
    host: &Host,
    state: &Path,
    node: &str,
) -> Result<Option<NodeFacts>, StoreError> {
    let absent = |error: HostError| match error.is_absent() {
        true => Ok(None),
        false => Err(StoreError::from(error)),
    };
    let dir = match host.dir(state) {
        Ok(dir) => dir,
        Err(error) => return absent(error),
    };
    must_be_private(&dir, host.owner())?;
    let bytes = match dir.read(OsStr::new(FILE), LARGEST) {
        Ok(bytes) => bytes,
        Err(error) => return absent(error),
    };
    // A damaged one is as good as none: the next answer replaces it.
    let facts: Option<NodeFacts> = serde_json::from_slice(&bytes).ok();
    Ok(facts.filter(|facts| facts.node == node))
}
