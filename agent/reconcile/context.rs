//! What is declared, and the node that it is declared for.

use std::path::PathBuf;
use std::sync::Arc;

use super::conflist_facts::default_node_name;
use super::env_files::EnvFiles;
use super::error::ReconcileError;
use super::known_node::KnownNode;
use crate::config::{NetworkSettings, Settings};
use crate::host::{Dir, Host, HostError, MissingLink};
use crate::model::{FileName, ManagedDir, NodeFacts};
use crate::retry::Spread;
use crate::store::{Ledger, ManagedDirs, read_saved_node};
use crate::watch::UnclosedFiles;

/// The settings, the host and the node. A context never changes: other settings make another context.
#[derive(Debug, Clone)]
pub struct Context {
    pub(super) settings: Arc<Settings>,
    pub(super) host: Host,
    /// The name that was given on the command line.
    pub(super) given_node_name: Option<String>,
    /// What the Kubernetes API answered about the node. The daemon's node query fills it.
    pub(super) node: KnownNode,
    pub(super) spread: Arc<Spread>,
    pub(super) env_files: EnvFiles,
}

impl Context {
    /// Makes a context. Reads only the machine's name.
    #[must_use]
    pub fn new(settings: Settings, host: Host, node_name: Option<String>) -> Self {
        let name = node_name.clone().or_else(default_node_name);
        // Without any name all nodes would draw the same numbers, so a random one is better.
        let name = name.unwrap_or_else(|| fastrand::u64(..).to_string());
        Self {
            settings: Arc::new(settings),
            host,
            given_node_name: node_name,
            node: KnownNode::default(),
            spread: Arc::new(Spread::for_node(&name)),
            env_files: EnvFiles::default(),
        }
    }

    /// The same context with what is known of the node.
    #[must_use]
    pub fn with_node(self, node: KnownNode) -> Self {
        Self { node, ..self }
    }

    /// The same context with what the watcher knows of files that somebody is writing.
    #[must_use]
    pub fn with_unclosed_files(self, unclosed: UnclosedFiles) -> Self {
        Self {
            env_files: EnvFiles::watched(unclosed),
            ..self
        }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A shared handle to the settings in force.
    #[must_use]
    pub fn settings_shared(&self) -> Arc<Settings> {
        Arc::clone(&self.settings)
    }

    /// The paths of the bin and the configuration directory as people see them: with the host root in front.
    #[must_use]
    pub fn shown_dirs(&self) -> (PathBuf, PathBuf) {
        (
            self.shown_dir(ManagedDir::Bin),
            self.shown_dir(ManagedDir::Conf),
        )
    }

    /// The path of a file as people see it: with the host root in front.
    #[must_use]
    pub fn shown_path(&self, dir: ManagedDir, name: &FileName) -> PathBuf {
        self.shown_dir(dir).join(name.as_str())
    }

    pub(super) fn shown_dir(&self, dir: ManagedDir) -> PathBuf {
        let paths = &self.settings.paths;
        self.host.display_path(match dir {
            ManagedDir::Bin => &paths.bin_dir,
            ManagedDir::Conf => &paths.conf_dir,
        })
    }

    /// The path of the state directory as people see it: with the host root in front.
    #[must_use]
    pub fn shown_state_dir(&self) -> PathBuf {
        self.host.display_path(&self.settings.paths.state_dir)
    }

    /// The node's name: the one from the command line, or the machine's.
    #[must_use]
    pub fn node_name(&self) -> Option<String> {
        self.given_node_name.clone().or_else(default_node_name)
    }

    /// Spreads this node's requests, so that the nodes of a cluster do not send them all at once.
    #[must_use]
    pub fn spread(&self) -> &Spread {
        &self.spread
    }

    /// Whether the conflist depends on the node's object in the Kubernetes API.
    #[must_use]
    pub fn needs_node_facts(&self) -> bool {
        let network = self.settings.network.as_ref();
        network.is_some_and(NetworkSettings::needs_node_object)
    }

    /// The facts of the node: from the API's answer, or from the state directory if the API has not answered yet.
    /// Blocks.
    ///
    /// # Errors
    /// When the saved facts cannot be read.
    pub(super) fn node_facts(&self) -> Result<Option<NodeFacts>, ReconcileError> {
        if !self.needs_node_facts() {
            return Ok(None);
        }
        if let (None, Some(name)) = (self.node.facts(), self.node_name()) {
            let state = &self.settings.paths.state_dir;
            if let Some(facts) = read_saved_node(&self.host, state, &name)? {
                self.node.restore_saved(facts);
            }
        }
        Ok(self.node.facts())
    }

    /// Which of the two directories are behind links, and where they really are: a sentence each.
    #[must_use]
    pub fn describe_links(&self) -> Vec<String> {
        let paths = &self.settings.paths;
        let describe = |path: &PathBuf| {
            let (shown, real) = (
                self.host.display_path(path),
                self.host.resolve_path(path).ok()?,
            );
            (shown != real).then(|| {
                format!(
                    "{} leads through a link to {}",
                    shown.display(),
                    real.display()
                )
            })
        };
        [&paths.bin_dir, &paths.conf_dir]
            .into_iter()
            .filter_map(describe)
            .collect()
    }

    /// The declared directories, in the form that the ledger keeps.
    pub(super) fn managed_dirs(&self) -> ManagedDirs {
        let paths = &self.settings.paths;
        ManagedDirs {
            bin: paths.bin_dir.clone(),
            conf: paths.conf_dir.clone(),
        }
    }

    /// Refuses a ledger whose files are in other directories. The ledger knows files by name only, so it would claim
    /// files that are not ours and lose those that are.
    pub(super) fn check_dirs_of(&self, ledger: &Ledger) -> Result<(), ReconcileError> {
        match ledger.dirs_other_than(&self.managed_dirs()) {
            Some(was) => Err(ReconcileError::Moved {
                state: self.shown_state_dir().display().to_string(),
                was: was.clone(),
            }),
            None => Ok(()),
        }
    }

    /// The bin directory; `None` where it does not exist.
    pub(super) fn open_bin_dir(&self) -> Result<Option<Dir>, HostError> {
        none_if_absent(self.host.open_dir(&self.settings.paths.bin_dir))
    }

    /// The configuration directory; `None` where it does not exist.
    pub(super) fn open_conf_dir(&self) -> Result<Option<Dir>, HostError> {
        none_if_absent(self.host.open_dir(&self.settings.paths.conf_dir))
    }

    /// The links on the way to these directories that were there before and are missing.
    pub(super) fn list_missing_links(&self) -> Vec<MissingLink> {
        let paths = &self.settings.paths;
        let dirs = [&paths.bin_dir, &paths.conf_dir].into_iter();
        let errors = dirs.filter_map(|dir| self.host.open_dir(dir).err());
        let mut links: Vec<_> = errors
            .filter_map(|error| error.missing_link().cloned())
            .collect();
        links.dedup();
        links
    }
}

fn none_if_absent(dir: Result<Dir, HostError>) -> Result<Option<Dir>, HostError> {
    match dir {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}
