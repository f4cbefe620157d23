//! What the agent is started with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Settings;
use crate::host::Host;
use crate::reconcile::{Context, KnownNode};
use crate::watch::UnclosedFiles;

/// Reads the configuration again. `Err` holds the mistakes in it, a line each. Blocks.
pub type ReadConfig = Arc<dyn Fn() -> Result<Settings, Vec<String>> + Send + Sync>;

/// What the agent is started with.
pub struct DaemonOptions {
    /// The declaration.
    pub settings: Settings,
    /// The node's file system.
    pub host: Host,
    /// The node's name, if it was given.
    pub node_name: Option<String>,
    /// The configuration file.
    pub config: PathBuf,
    /// Reads the configuration file again.
    pub read_config: ReadConfig,
    /// Every flag with the value in force, for `/flagz`.
    pub flags: BTreeMap<String, String>,
}

impl DaemonOptions {
    /// The context of a reconciler with these settings.
    pub(super) fn new_context(
        &self,
        settings: Settings,
        known: KnownNode,
        unclosed: UnclosedFiles,
    ) -> Context {
        Context::new(settings, self.host.clone(), self.node_name.clone())
            .with_node(known)
            .with_unclosed_files(unclosed)
    }
}
