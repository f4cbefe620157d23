//! Which directories to watch, and which names in them. A change of any other name never wakes the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cni::has_conflist_extension;
use crate::config::{FactSource, Gate, Settings};
use crate::host::{Dir, FileKind, Host, HostError};
use crate::model::{FileName, FileType, ManagedDir};
use crate::watch::PathFilter;

/// The directories to watch and the names that matter in them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WatchTargets {
    /// Directories that exist.
    pub(super) dirs: BTreeSet<PathBuf>,
    /// Single paths that matter.
    paths: BTreeSet<PathBuf>,
    /// The directories of the configuration file. Every name in them matters.
    config_dirs: BTreeSet<PathBuf>,
    /// Directories in which every conflist matters, because a runtime may take it instead of ours.
    conflist_dirs: BTreeSet<PathBuf>,
    /// The bin and the configuration directory, links followed.
    managed: BTreeMap<ManagedDir, PathBuf>,
}

impl WatchTargets {
    /// Determines what to watch. Blocks while the kernel follows a few paths.
    ///
    /// # Errors
    /// - When the machine has run out of descriptors or memory. A path that cannot be followed then may still exist.
    /// - When a mount on one of the paths was removed on the host.
    pub(super) fn from_settings(
        settings: &Settings,
        host: &Host,
        config: &Path,
        network: Option<&str>,
    ) -> Result<Self, HostError> {
        let mut targets = Self::default();
        let paths = &settings.paths;
        if let Some(bin) = targets.add_dir(host, &paths.bin_dir)? {
            let members = settings.artifacts.iter().flat_map(|it| &it.members);
            targets
                .paths
                .extend(members.map(|member| bin.join(member.plugin.as_str())));
            targets.managed.insert(ManagedDir::Bin, bin);
        }
        if settings.network.is_some()
            && let Some(conf) = targets.add_dir(host, &paths.conf_dir)?
        {
            // libcni merges `<confDir>/<network name>/*.conf`.
            if let Some(network) = network.filter(|name| name.parse::<FileName>().is_ok()) {
                targets.paths.insert(conf.join(network));
                if targets
                    .add_dir(host, &paths.conf_dir.join(network))?
                    .is_some()
                {
                    targets.conflist_dirs.insert(conf.join(network));
                }
            }
            targets.conflist_dirs.insert(conf.clone());
            targets.managed.insert(ManagedDir::Conf, conf);
        }
        targets.add_path(host, &paths.state_dir)?;
        for file in awaited_files(settings) {
            targets.add_dir(host, file)?;
        }
        targets.add_config(&Host::open(Path::new("/"))?, config)?;
        Ok(targets)
    }

    /// Adds a path and the directories that lead to it:
    /// - the path itself, if it is a directory;
    /// - its parent, in which it appears and disappears, or the nearest directory above that exists.
    ///
    /// Returns the real path if it exists.
    fn add_dir(&mut self, host: &Host, path: &Path) -> Result<Option<PathBuf>, HostError> {
        let there = self.add_path(host, path)?;
        if let Some(there) = &there
            && existing(host.open_dir(path))?.is_some()
        {
            self.dirs.insert(there.clone());
        }
        Ok(there)
    }

    /// Adds a path of which only the existence matters.
    fn add_path(&mut self, host: &Host, path: &Path) -> Result<Option<PathBuf>, HostError> {
        let there = existing(host.resolve_path(path))?;
        if let Some(there) = &there {
            self.add_existing(there);
        }
        // Along the path as it is written, add the nearest directory that exists, and each link on the way, because a
        // link may be changed. Other directories above, such as `/etc` and `/run`, change too often.
        let mut nearest = true;
        for (below, above) in path.ancestors().zip(path.ancestors().skip(1)) {
            let (Some(dir), Some(name)) = (existing(host.open_dir(above))?, below.file_name())
            else {
                continue;
            };
            if nearest || is_link(&dir, name) {
                self.paths.insert(dir.path().join(name));
                self.dirs.insert(dir.path().to_owned());
            }
            nearest = false;
        }
        Ok(there)
    }

    fn add_existing(&mut self, path: &Path) {
        self.paths.insert(path.to_owned());
        if let Some(parent) = path.parent() {
            self.dirs.insert(parent.to_owned());
        }
    }

    /// Adds the configuration file: the directory of its path, and the directory in which the file really is. In a
    /// ConfigMap volume the file is a link into a directory that is replaced at each change.
    fn add_config(&mut self, machine: &Host, config: &Path) -> Result<(), HostError> {
        let spelled = std::path::absolute(config).ok();
        let real = match &spelled {
            Some(path) => existing(machine.resolve_path(path))?,
            None => None,
        };
        for dir in [spelled, real]
            .iter()
            .flatten()
            .filter_map(|path| path.parent())
        {
            if let Some(dir) = existing(machine.open_dir(dir))? {
                self.dirs.insert(dir.path().to_owned());
                self.config_dirs.insert(dir.path().to_owned());
            }
        }
        Ok(())
    }

    /// The file of a managed directory at this path, if it is in one.
    pub(super) fn managed_file_at(&self, path: &Path) -> Option<(ManagedDir, FileName)> {
        let parent = path.parent()?;
        let (dir, _) = self.managed.iter().find(|(_, real)| *real == parent)?;
        Some((*dir, path.file_name()?.to_str()?.parse().ok()?))
    }

    /// The bin and the configuration directory as far as they exist, links followed.
    pub(super) const fn managed_dirs(&self) -> &BTreeMap<ManagedDir, PathBuf> {
        &self.managed
    }

    /// Whether a path belongs to the agent's own configuration.
    pub(super) fn is_config(&self, path: &Path) -> bool {
        self.config_dirs.contains(path)
            || path
                .parent()
                .is_some_and(|dir| self.config_dirs.contains(dir))
    }

    /// The plugin at this path, if it is one.
    pub(super) fn plugin_at(&self, path: &Path) -> Option<FileName> {
        let (dir, name) = self.managed_file_at(path)?;
        (dir == ManagedDir::Bin).then_some(name)
    }

    fn matters(&self, path: &Path) -> bool {
        if self.paths.contains(path) || self.dirs.contains(path) || self.is_config(path) {
            return true;
        }
        let is_conflist = || path.file_name().is_some_and(has_conflist_extension);
        let dir = path.parent();
        dir.is_some_and(|dir| self.conflist_dirs.contains(dir)) && is_conflist()
    }

    /// The filter for the watcher, which calls it on its own thread.
    pub(super) fn path_filter(self: &Arc<Self>) -> PathFilter {
        let targets = Arc::clone(self);
        Arc::new(move |path| targets.matters(path))
    }
}

/// `None` if nothing is at the path, or access to it is denied.
fn existing<T>(found: Result<T, HostError>) -> Result<Option<T>, HostError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_the_machines() || error.is_removed_mount() => Err(error),
        Err(_) => Ok(None),
    }
}

fn is_link(dir: &Dir, name: &OsStr) -> bool {
    let name = name.to_str().and_then(|name| name.parse().ok());
    let found = name.and_then(|name| dir.file_metadata(&name).ok()?);
    found.is_some_and(|found| found.kind == FileKind::Other(FileType::Symlink))
}

/// The files on the host for which a fact or a gate waits.
fn awaited_files(settings: &Settings) -> impl Iterator<Item = &Path> {
    let network = settings.network.iter();
    network.flat_map(|network| {
        let facts = network.facts.iter().filter_map(|fact| match fact {
            FactSource::EnvFile(path) => Some(path.as_path()),
            FactSource::Values(_) | FactSource::KubernetesNode => None,
        });
        let gates = network.requires.iter().filter_map(|gate| match gate {
            Gate::File(path) | Gate::Unix(path) => Some(path.as_path()),
            Gate::Tcp(_) | Gate::Http(_) => None,
        });
        facts.chain(gates)
    })
}
