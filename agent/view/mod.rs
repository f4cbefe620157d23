//! What people are shown of a [`Status`]: one view, which the page renders as HTML and `cni-keeper status` as text.
//!
//! Each text in a view is safe to show: no secret is in it, and nothing that would break a line or control a terminal.
//! A renderer only has to escape what its own format needs.

mod agent;
mod checks;
mod drift;
mod files;
mod headline;
mod network;
mod text;
mod tone;

use std::time::SystemTime;

pub use agent::AgentView;
pub use checks::CheckRow;
pub use drift::{DriftRow, ErrorRow};
pub use files::{FileDigests, FileRow};
pub use headline::Headline;
pub use network::{CandidateRow, NetworkView, RuntimeRow, SeenNetwork, TakenNetwork};
pub use text::{ShownTime, count_of, display_safe};
pub use tone::Tone;

use crate::model::Status;

/// Everything that is shown of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// The answer to the first question of a reader: is the node ready?
    pub headline: Headline,
    /// All checks, in their fixed order.
    pub checks: Vec<CheckRow>,
    /// All declared files, the wrong ones first.
    pub files: Vec<FileRow>,
    /// What the container runtimes take.
    pub network: NetworkView,
    /// The drift log, newest first.
    pub drifts: Vec<DriftRow>,
    /// The last failures of the agent's own work, newest first.
    pub errors: Vec<ErrorRow>,
    /// The running agent and its settings.
    pub agent: AgentView,
}

impl NodeView {
    /// The view of a status. `now` decides nothing but ages such as `3 min ago`.
    #[must_use]
    pub fn new(status: &Status, now: SystemTime) -> Self {
        Self {
            headline: Headline::new(status, now),
            checks: checks::check_rows(status),
            files: files::file_rows(status),
            network: NetworkView::new(status),
            drifts: drift::drift_rows(status, now),
            errors: drift::error_rows(status, now),
            agent: AgentView::new(status, now),
        }
    }
}
