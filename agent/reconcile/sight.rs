//! What is declared, what is there, and the steps between: everything that a look at the disk tells.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use super::error::ReconcileError;
use super::network::ObservedNetwork;
use super::supply::ledger_key;
use super::{Context, network};
use crate::config::ForeignConflists;
use crate::host::{Dir, HostError};
use crate::model::{FileName, FileState, IfPresent, Sha256};
use crate::plan::{Desired, DesiredConflist, DesiredPlugin, Observed, Plan, plan};
use crate::store::{Ledger, ManagedDir, ManagedDirs, StoreContents};

/// One look at a node.
#[derive(Debug)]
pub struct ObservedState {
    /// What we placed before.
    pub ledger: Ledger,
    /// What is wanted.
    pub desired: Desired,
    /// What is there.
    pub observed: Observed,
    /// The steps from there to what is wanted.
    pub plan: Plan,
    /// The conflist and its directory, where one is declared.
    pub network: Option<ObservedNetwork>,
    /// Whether the bin directory itself does not exist.
    pub bin_is_absent: bool,
    /// Directories that were removed on the host while they are mounted here: what is put into them is lost.
    pub dead: Vec<PathBuf>,
}

impl Context {
    /// Looks at the disk; changes nothing. Also what `plan` prints.
    ///
    /// # Errors
    /// When the disk or the ledger cannot be read, or the conflist has a mistake.
    pub async fn observe_strictly(&self) -> Result<ObservedState, ReconcileError> {
        let keeper = self.clone();
        let sight = tokio::task::spawn_blocking(move || keeper.observe_disk()).await??;
        let network = sight
            .network
            .map(ObservedNetwork::must_render)
            .transpose()?;
        Ok(ObservedState { network, ..sight })
    }

    /// Looks at the disk, whatever is wrong with the conflist. Blocks.
    pub(super) fn observe_disk(&self) -> Result<ObservedState, ReconcileError> {
        let StoreContents { ledger, blobs } =
            StoreContents::read_from(&self.host, &self.settings.paths.state_dir)?;
        self.must_know_where(&ledger)?;
        self.restore_saved_pins()?;
        let network = network::observe_network(self)?;
        let desired = self.desired(&ledger, network.as_ref());
        let observed = self.observe(&ledger, &desired, network.as_ref(), blobs)?;
        let (bin, conf) = (self.bin_dir()?, self.conf_dir()?);
        let mut dead = Vec::new();
        for dir in [&bin, &conf].into_iter().flatten() {
            if dir.is_dead()? {
                dead.push(dir.path().to_owned());
            }
        }
        Ok(ObservedState {
            plan: plan(&desired, &observed),
            ledger,
            desired,
            observed,
            network,
            bin_is_absent: bin.is_none(),
            dead,
        })
    }

    /// The declared directories, as the ledger remembers them.
    pub(super) fn dirs(&self) -> ManagedDirs {
        let paths = &self.settings.paths;
        ManagedDirs {
            bin: paths.bin_dir.clone(),
            conf: paths.conf_dir.clone(),
        }
    }

    /// Refuses a ledger whose files lie elsewhere: by name alone it would claim what is not ours, and
    /// forget what is.
    pub(super) fn must_know_where(&self, ledger: &Ledger) -> Result<(), ReconcileError> {
        match ledger.dirs_other_than(&self.dirs()) {
            Some(was) => Err(ReconcileError::Moved {
                state: self
                    .host
                    .display_path(&self.settings.paths.state_dir)
                    .display()
                    .to_string(),
                was: was.clone(),
            }),
            None => Ok(()),
        }
    }

    /// What is wanted, as far as the ledger knows what the artifacts hold.
    pub(super) fn desired(&self, ledger: &Ledger, network: Option<&ObservedNetwork>) -> Desired {
        let mut plugins = Vec::new();
        for artifact in &self.settings.artifacts {
            let pin = self.pin_of(artifact);
            let known = pin.and_then(|pin| ledger.measured_members(&pin));
            for member in &artifact.members {
                let measured = known.and_then(|known| known.get(ledger_key(artifact, member)));
                plugins.push(DesiredPlugin {
                    plugin: member.plugin.clone(),
                    artifact: artifact.name.clone(),
                    sha256: member.sha256.or(measured.map(|measure| measure.sha256)),
                    keep_foreign: artifact.if_present == IfPresent::Keep,
                });
            }
        }
        let conflist = self.settings.network.as_ref().and_then(|declared| {
            let rendered = network?.rendered.as_ref().ok()?;
            Some(DesiredConflist {
                name: declared.file_name.clone(),
                mode: declared.file_mode,
                sha256: rendered.sha256,
            })
        });
        Desired {
            plugins,
            conflist,
            owner: self.host.owner(),
        }
    }

    fn observe(
        &self,
        ledger: &Ledger,
        desired: &Desired,
        network: Option<&ObservedNetwork>,
        blobs: HashSet<Sha256>,
    ) -> Result<Observed, ReconcileError> {
        let bin = self.bin_dir()?;
        let conf = self.conf_dir()?;
        let mut observed = Observed {
            placed_plugins: placed(ledger, ManagedDir::Bin),
            placed_conflists: placed(ledger, ManagedDir::Conf),
            blobs: blobs.into_iter().collect(),
            ..Observed::default()
        };
        for wanted in &desired.plugins {
            let name = wanted.plugin.file();
            let seen = |bin: &Dir| self.memory.observe(bin, name);
            let state = bin.as_ref().map_or(FileState::Absent, seen);
            observed.plugins.insert(wanted.plugin.clone(), state);
        }
        let declared = self
            .settings
            .network
            .iter()
            .map(|network| &network.file_name);
        for name in declared.chain(observed.placed_conflists.keys()) {
            observed
                .conflists
                .insert(name.clone(), state(conf.as_ref(), name));
        }
        if let Some((network, declared)) = network.zip(self.settings.network.as_ref())
            && self.settings.drift.foreign_conflists == ForeignConflists::Disable
        {
            let is_ours = |name: &FileName| match observed.conflists.get(name) {
                Some(FileState::Regular(file)) => {
                    ledger.owns_content(ManagedDir::Conf, name, &file.sha256)
                }
                _ => false,
            };
            observed.rivals = network.rivals(&declared.file_name, is_ours);
        }
        Ok(observed)
    }

    /// The bin directory; `None` where it does not exist.
    pub(super) fn bin_dir(&self) -> Result<Option<Dir>, HostError> {
        present(self.host.open_dir(&self.settings.paths.bin_dir))
    }

    /// The configuration directory; `None` where it does not exist.
    pub(super) fn conf_dir(&self) -> Result<Option<Dir>, HostError> {
        present(self.host.open_dir(&self.settings.paths.conf_dir))
    }
}

fn present(dir: Result<Dir, HostError>) -> Result<Option<Dir>, HostError> {
    match dir {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

fn state(dir: Option<&Dir>, name: &FileName) -> FileState {
    dir.map_or(FileState::Absent, |dir| dir.observe_file(name))
}

fn placed(ledger: &Ledger, place: ManagedDir) -> BTreeMap<FileName, BTreeSet<Sha256>> {
    ledger
        .files()
        .iter()
        .filter(|file| file.place == place)
        .map(|file| {
            let digests = std::iter::once(file.sha256).chain(file.previous).collect();
            (file.name.clone(), digests)
        })
        .collect()
}
