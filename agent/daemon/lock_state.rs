//! Whether the agent holds the lock on the state directory, so that it may write.

use crate::reconcile::{ReconcileError, Reconciler};

/// The lock on the state directory.
#[derive(Debug, Default)]
pub(super) enum LockState {
    /// The lock is held, or nothing is to be written at all.
    #[default]
    Available,
    /// The lock cannot be acquired: another agent holds it, or the disk refuses.
    Unavailable(ReconcileError),
}

impl LockState {
    /// Acquires the lock unless it is held already. `true` if it was unavailable until now.
    pub(super) async fn acquire(&mut self, reconciler: &mut Reconciler) -> bool {
        let was_unavailable = self.is_unavailable();
        match reconciler.acquire_state_dir().await {
            Ok(()) => {
                *self = Self::Available;
                if was_unavailable {
                    tracing::info!("the state directory is locked by this agent now");
                }
                was_unavailable
            }
            Err(error) => {
                if !was_unavailable && !error.is_told_elsewhere() {
                    tracing::warn!("{error}");
                }
                *self = Self::Unavailable(error);
                false
            }
        }
    }

    pub(super) const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Why the lock cannot be acquired.
    pub(super) const fn error(&self) -> Option<&ReconcileError> {
        match self {
            Self::Available => None,
            Self::Unavailable(error) => Some(error),
        }
    }
}
