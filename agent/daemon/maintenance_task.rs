//! Maintenance beside passes: read the plugins again, keep the store complete and clean.

use tokio::task::JoinHandle;

use crate::reconcile::{Context, Maintenance, MaintenanceOutcome, Reconciler};

/// The maintenance work, and the step of it that is under way.
#[derive(Debug, Default)]
pub(super) struct MaintenanceTask {
    /// The work that is left. A running step takes the work with it, so this then has only the requests since its
    /// start.
    work: Maintenance,
    state: MaintenanceState,
}

#[derive(Debug, Default)]
enum MaintenanceState {
    /// There may be work.
    #[default]
    Due,
    /// A step is being done.
    Running(JoinHandle<(Maintenance, MaintenanceOutcome)>),
    /// Nothing is left to do until there is a new request.
    Done,
}

impl MaintenanceTask {
    /// Work that begins with a sweep of the store.
    pub(super) fn with_sweep() -> Self {
        let mut task = Self::default();
        task.work.request_sweep();
        task
    }

    pub(super) const fn is_running(&self) -> bool {
        matches!(self.state, MaintenanceState::Running(_))
    }

    /// Asks for a sweep of the store, since something was placed in it.
    pub(super) fn request_sweep(&mut self) {
        self.work.request_sweep();
        self.set_due();
    }

    /// Asks for a full reading of all plugins.
    pub(super) fn request_full_reading(&mut self, context: &Context) {
        self.work.restart(context);
        self.set_due();
    }

    /// Records whether the last download found the disk full.
    pub(super) fn set_disk_full(&mut self, is_full: bool) {
        self.work.set_disk_full(is_full);
        self.set_due();
    }

    /// There may be work again. A running step decides for itself at its end.
    pub(super) fn set_due(&mut self) {
        if !self.is_running() {
            self.state = MaintenanceState::Due;
        }
    }

    /// Starts the next step if there may be work.
    pub(super) fn start_if_due(&mut self, reconciler: &Reconciler) {
        if matches!(self.state, MaintenanceState::Due) {
            let work = std::mem::take(&mut self.work);
            self.state = MaintenanceState::Running(reconciler.run_maintenance_step(work));
        }
    }

    /// Waits until the running step ends; for ever if there is none. Cancel-safe: the step is kept until its outcome is
    /// returned.
    pub(super) async fn wait_for_step(&mut self) -> MaintenanceOutcome {
        let MaintenanceState::Running(step) = &mut self.state else {
            return std::future::pending().await;
        };
        // A panic is in the log already. The next full reading tries again.
        let (left, outcome) = step
            .await
            .unwrap_or_else(|_| (Maintenance::default(), MaintenanceOutcome::Nothing));
        let requested = std::mem::replace(&mut self.work, left);
        let has_more = self.work.merge_requests(requested);
        self.state = match outcome == MaintenanceOutcome::Nothing && !has_more {
            true => MaintenanceState::Done,
            false => MaintenanceState::Due,
        };
        outcome
    }

    /// Waits until the running step has ended, so that it no longer holds the state directory. Then starts over.
    pub(super) async fn reset(&mut self) {
        if let MaintenanceState::Running(step) = &mut self.state {
            let _ = step.await;
        }
        *self = Self::with_sweep();
    }
}
