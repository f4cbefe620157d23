//! Holding the state directory: one agent at a time, and nothing left over from a killed one.

use std::sync::Arc;

use super::error::ReconcileError;
use super::{Keeper, network};
use crate::host::Lock;
use crate::store::Store;

/// The state directory with the lock held. Shared with blocking work, so that the lock outlives it.
pub(super) struct Session {
    pub(super) keeper: Keeper,
    pub(super) store: Store,
    _lock: Lock,
}

impl Keeper {
    /// Refuses a wrong conflist, takes the lock, and sweeps what a killed run left behind.
    pub(super) fn open(&self) -> Result<Arc<Session>, ReconcileError> {
        network::look(self)?;
        let store = Store::open(&self.host, &self.settings.paths.state_dir)?;
        let lock = store.lock()?;
        self.sweep(&store)?;
        Ok(Arc::new(Session {
            keeper: self.clone(),
            store,
            _lock: lock,
        }))
    }
    /// Removes the temps that a killed run left, in every directory that is ours to write to. To be
    /// called with the lock held.
    pub(super) fn sweep(&self, store: &Store) -> Result<(), ReconcileError> {
        let mut swept = store.sweep()?;
        for dir in [self.bin_dir()?, self.conf_dir()?].into_iter().flatten() {
            match dir.sweep() {
                Ok(names) => swept.extend(names),
                // A read-only node that is right already is right all the same.
                Err(error) => tracing::warn!("{error}"),
            }
        }
        if !swept.is_empty() {
            tracing::info!(files = swept.len(), "removed what an interrupted run left");
        }
        Ok(())
    }
}
