//! Which servers were found dead.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::retry;

/// Which servers were found dead; shared by all downloads of a run.
#[derive(Debug, Default)]
pub struct SharedServerHealth(Mutex<retry::ServerHealth>);

impl SharedServerHealth {
    pub(in crate::fetch) fn lock(&self) -> MutexGuard<'_, retry::ServerHealth> {
        // It only decides an order, so what a panic left incomplete does no harm.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
