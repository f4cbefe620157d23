//! Which servers were found dead.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::retry;

/// Which servers were found dead; shared by all downloads of a run.
#[derive(Debug, Default)]
pub struct Health(Mutex<retry::Health>);

impl Health {
    pub(in crate::fetch) fn lock(&self) -> MutexGuard<'_, retry::Health> {
        // It only puts sources in order: what a panic left half said does no harm.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
