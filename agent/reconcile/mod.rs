//! One pass over a node: observe → plan → apply → say what is true now.
//!
//! The commands are thin readings of this room. Its parts: `sight` (what is declared and what is there; `facts`,
//! `node`, `network` and `pins` feed it), `questions` (what has to be asked: gates, plugins), `judge` (both into a [`Snapshot`];
//! `precedence` is its view of the runtimes), `session` (the state directory, held), `supply` (artifacts into the
//! store), `apply` (steps onto the disk), `converge` and `uninstall` (the orders of steps).

mod apply;
mod caretaker;
mod chores;
mod converge;
mod error;
mod facts;
mod faults;
mod judge;
mod memory;
mod network;
mod node;
mod pins;
mod precedence;
mod questions;
mod session;
mod sight;
mod supply;
mod uninstall;

use std::path::PathBuf;
use std::sync::Arc;

pub use caretaker::{AppliedSteps, FilesInBackoff, PassReport, Reconciler};
pub use chores::{Maintenance, MaintenanceOutcome};
pub use converge::{
    DownloadObserver, DownloadedArtifact, InstallOptions, InstallReport, StoredArtifact,
};
pub use error::ReconcileError;
pub use faults::{DriftCause, FileDrift};
pub use network::{NotRendered, RenderedConflist};
pub use node::KnownNode;
pub use sight::ObservedState;
pub use uninstall::{RemovalOutcome, UninstallReport};

use memory::FileStateCache;
use pins::LearnedPins;

use crate::config::Settings;
use crate::fetch::SharedServerHealth;
use crate::host::Host;
use crate::model::{FileName, Snapshot};
use crate::retry::Spread;

/// A node and what is declared for it.
#[derive(Debug, Clone)]
pub struct Context {
    settings: Arc<Settings>,
    host: Host,
    node_name: Option<String>,
    node: KnownNode,
    memory: FileStateCache,
    health: Arc<SharedServerHealth>,
    pins: LearnedPins,
    spread: Arc<Spread>,
}

impl Context {
    /// Brings a declaration and a node together; touches nothing.
    #[must_use]
    pub fn new(settings: Settings, host: Host, node_name: Option<String>) -> Self {
        let name = node_name.clone().or_else(facts::default_node_name);
        // Without any name nodes would all decide alike: chance does as well then.
        let name = name.unwrap_or_else(|| fastrand::u64(..).to_string());
        Self {
            settings: Arc::new(settings),
            host,
            node_name,
            node: KnownNode::default(),
            memory: FileStateCache::default(),
            health: Arc::default(),
            pins: LearnedPins::default(),
            spread: Arc::new(Spread::for_node(&name)),
        }
    }

    /// The same with what is known of the node; whoever learns more of it tells that to `node`.
    #[must_use]
    pub fn with_node(self, node: KnownNode) -> Self {
        Self { node, ..self }
    }

    /// The same for an agent that stays: a file is read again only where it may have changed.
    #[must_use]
    pub fn with_file_cache(self) -> Self {
        Self {
            memory: FileStateCache::of_a_lifetime(),
            ..self
        }
    }

    /// What is declared.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The bin and the configuration directory as people see them, the host root in front.
    #[must_use]
    pub fn shown_dirs(&self) -> (PathBuf, PathBuf) {
        let paths = &self.settings.paths;
        (
            self.host.display_path(&paths.bin_dir),
            self.host.display_path(&paths.conf_dir),
        )
    }

    /// The same, shared.
    #[must_use]
    pub fn settings_shared(&self) -> Arc<Settings> {
        Arc::clone(&self.settings)
    }

    /// The node's name, where it was told.
    #[must_use]
    pub fn node_name(&self) -> Option<String> {
        self.node_name.clone().or_else(facts::default_node_name)
    }

    /// What spreads this node's requests among those of its cluster.
    #[must_use]
    pub fn spread(&self) -> &Spread {
        &self.spread
    }

    /// The state directory as people see it, the host root in front.
    #[must_use]
    pub fn shown_state_dir(&self) -> PathBuf {
        self.host.display_path(&self.settings.paths.state_dir)
    }

    /// Has a plugin read the next time, whatever its times say.
    pub fn forget_plugin_state(&self, plugin: &FileName) {
        self.memory.forget(plugin);
    }

    /// Why each gate that does not hold does not, a line each.
    pub async fn ask_gates(&self) -> Vec<String> {
        questions::closed_gates(self).await
    }

    /// Observes the disk, asks the gates and the plugins, and says what is true. Changes nothing.
    ///
    /// # Errors
    /// When the disk or the ledger cannot be read, or the conflist cannot be rendered.
    pub async fn verify(&self) -> Result<Snapshot, ReconcileError> {
        let sight = self.observe_strictly().await?;
        let answers = questions::ask(self, &sight).await?;
        Ok(judge::snapshot(self, &sight, &answers))
    }
}
