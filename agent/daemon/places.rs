//! Where to watch, and for which names: a change of any other name never wakes the agent.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{FactSource, Gate, Settings};
use crate::host::{Dir, FileKind, Host, HostError};
use crate::model::{FileName, FileType};
use crate::watch::PathFilter;

/// The directories to watch and the names that matter in them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Directories that exist.
    pub(super) dirs: BTreeSet<PathBuf>,
    /// Paths that matter.
    paths: BTreeSet<PathBuf>,
    /// Directories in which every name matters.
    whole: BTreeSet<PathBuf>,
    /// Directories in which every configuration matters: any may be taken instead of ours.
    conflists: BTreeSet<PathBuf>,
    /// The plugins' directory as it is reached here.
    bin: Option<PathBuf>,
}

impl Places {
    /// Works out where to watch. Blocks for as long as the kernel takes to follow a few paths.
    ///
    /// # Errors
    /// When the machine is short of something (descriptors, memory): what cannot be told then is not gone.
    pub(super) fn of(
        settings: &Settings,
        host: &Host,
        config: &Path,
        network: Option<&str>,
    ) -> Result<Self, HostError> {
        let mut places = Self::default();
        let paths = &settings.paths;
        if let Some(bin) = places.reach(host, &paths.bin_dir)? {
            let members = settings.artifacts.iter().flat_map(|it| &it.members);
            places
                .paths
                .extend(members.map(|member| bin.join(member.plugin.as_str())));
            places.bin = Some(bin);
        }
        if settings.network.is_some()
            && let Some(conf) = places.reach(host, &paths.conf_dir)?
        {
            // libcni merges `<confDir>/<network name>/*.conf`.
            if let Some(network) = network.filter(|name| name.parse::<FileName>().is_ok()) {
                places.paths.insert(conf.join(network));
                if places.reach(host, &paths.conf_dir.join(network))?.is_some() {
                    places.conflists.insert(conf.join(network));
                }
            }
            places.conflists.insert(conf);
        }
        places.reach_name(host, &paths.state_dir)?;
        for file in awaited(settings) {
            places.reach(host, file)?;
        }
        places.follow(&Host::open(Path::new("/"))?, config)?;
        Ok(places)
    }

    /// Watches a path and what leads to it: the path itself where it is a directory, its parent for when it comes
    /// and goes, or the nearest directory above that is there. Returns where it is, if it is there.
    fn reach(&mut self, host: &Host, path: &Path) -> Result<Option<PathBuf>, HostError> {
        let there = self.reach_name(host, path)?;
        if let Some(there) = &there
            && known(host.open_dir(path))?.is_some()
        {
            self.dirs.insert(there.clone());
        }
        Ok(there)
    }

    /// The same for a directory whose content does not matter, only that it is there.
    fn reach_name(&mut self, host: &Host, path: &Path) -> Result<Option<PathBuf>, HostError> {
        let there = known(host.resolve_path(path))?;
        if let Some(there) = &there {
            self.add(there);
        }
        // As it is spelled, too: the nearest directory that is there, and each link on the way, which may come to
        // lead elsewhere. Not all the way up: `/etc` and `/run` are too busy to be watched for nothing.
        let mut nearest = true;
        for (below, above) in path.ancestors().zip(path.ancestors().skip(1)) {
            let (Some(dir), Some(name)) = (known(host.open_dir(above))?, below.file_name()) else {
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

    fn add(&mut self, path: &Path) {
        self.paths.insert(path.to_owned());
        if let Some(parent) = path.parent() {
            self.dirs.insert(parent.to_owned());
        }
    }

    /// Watches the configuration file: where it is named, and where it is. A ConfigMap is a link in the directory
    /// that changes to another one, which lies in a directory of its own.
    fn follow(&mut self, machine: &Host, config: &Path) -> Result<(), HostError> {
        let spelled = std::path::absolute(config).ok();
        let real = match &spelled {
            Some(path) => known(machine.resolve_path(path))?,
            None => None,
        };
        for dir in [spelled, real]
            .iter()
            .flatten()
            .filter_map(|path| path.parent())
        {
            if let Some(dir) = known(machine.open_dir(dir))? {
                self.dirs.insert(dir.path().to_owned());
                self.whole.insert(dir.path().to_owned());
            }
        }
        Ok(())
    }

    /// Whether a path belongs to the agent's own configuration.
    pub(super) fn is_config(&self, path: &Path) -> bool {
        self.whole.contains(path) || path.parent().is_some_and(|dir| self.whole.contains(dir))
    }

    /// The plugin that a path is.
    pub(super) fn plugin(&self, path: &Path) -> Option<FileName> {
        let bin = self.bin.as_deref()?;
        (path.parent()? == bin).then(|| path.file_name()?.to_str()?.parse().ok())?
    }

    fn matters(&self, path: &Path) -> bool {
        if self.paths.contains(path) || self.dirs.contains(path) || self.is_config(path) {
            return true;
        }
        let is_conflist = || {
            let extension = path.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("conf" | "conflist" | "json"))
        };
        let dir = path.parent();
        dir.is_some_and(|dir| self.conflists.contains(dir)) && is_conflist()
    }

    /// The same as a question that the watcher can ask on its own thread.
    pub(super) fn interest(self: &Arc<Self>) -> PathFilter {
        let places = Arc::clone(self);
        Arc::new(move |path| places.matters(path))
    }
}

/// What a path leads to; `None` where nothing is there, or it is closed to us.
fn known<T>(found: Result<T, HostError>) -> Result<Option<T>, HostError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_the_machines() => Err(error),
        Err(_) => Ok(None),
    }
}

fn is_link(dir: &Dir, name: &OsStr) -> bool {
    let name = name.to_str().and_then(|name| name.parse().ok());
    let found = name.and_then(|name| dir.file_metadata(&name).ok()?);
    found.is_some_and(|found| found.kind == FileKind::Other(FileType::Symlink))
}

/// Files on the host that something waits for.
fn awaited(settings: &Settings) -> impl Iterator<Item = &Path> {
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
