//! Observes the disk, and plans the steps from what is there to what is declared.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::context::Context;
use super::error::{ReconcileError, run_blocking};
use super::file_cache::FileStateCache;
use super::foreign_files::{ForeignFiles, LARGEST_CONFLIST};
use super::learned_pins::LearnedPins;
use super::observed_network::{ObservedNetwork, observe_network};
use crate::config::ForeignConflists;
use crate::fetch::SharedServerHealth;
use crate::host::{Dir, HostError, MissingLink};
use crate::model::{
    Artifact, FileName, FileState, Format, IfPresent, LARGEST_PLUGIN, ManagedDir, Member, Pin,
    Sha256, Standing,
};
use crate::plan::{
    ComparedFile, Desired, DesiredConflist, DesiredPlugin, DiskState, Plan, compare_files,
    plan_steps,
};
use crate::store::{DamagedRecord, Ledger, MeasuredFile, PluginOrigin, StoreContents};
use crate::trust::DeclaredPin;

/// A context, and what was learned so far: states of files, digests, and which servers answer. Clones share all of it.
#[derive(Debug, Clone)]
pub(super) struct Observer {
    pub(super) context: Context,
    pub(super) files: FileStateCache,
    pub(super) pins: LearnedPins,
    pub(super) sources: Arc<SharedServerHealth>,
    pub(super) recovered: RecoveredRecords,
    pub(super) foreign: ForeignFiles,
}

/// What was found damaged in the state directory and was recovered, a sentence each. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct RecoveredRecords(Arc<Mutex<Vec<String>>>);

impl RecoveredRecords {
    /// How many sentences are kept.
    const LIMIT: usize = 16;

    /// Adds sentences, and logs those that are new.
    pub(super) fn tell(&self, news: impl IntoIterator<Item = String>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for line in news {
            if !told.contains(&line) {
                tracing::warn!("{line}");
                if told.len() == Self::LIMIT {
                    told.remove(0);
                }
                told.push(line);
            }
        }
    }

    /// All of them, the oldest first.
    pub(super) fn list(&self) -> Vec<String> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.clone()
    }
}

/// A node at one moment, as observed.
#[derive(Debug)]
pub struct ObservedState {
    /// What we have placed.
    pub ledger: Ledger,
    /// What in the state directory cannot be used.
    pub damaged: Vec<DamagedRecord>,
    /// What is declared.
    pub desired: Desired,
    /// What is there.
    pub disk: DiskState,
    /// Every declared file, compared with what is there.
    pub files: Vec<ComparedFile>,
    /// The steps from what is there to what is declared.
    pub plan: Plan,
    /// The conflist and its directory, where one is declared.
    pub network: Option<ObservedNetwork>,
    /// Whether the bin directory itself does not exist.
    pub bin_is_absent: bool,
    /// Why the bin directory cannot be opened, if it exists.
    pub bin_fault: Option<String>,
    /// Which of the two directories are behind links, and where they really are: a sentence each.
    pub links: Vec<String>,
    /// Links on the way to the bin and the configuration directory that were there before and are missing.
    pub missing_links: Vec<MissingLink>,
}

impl ObservedState {
    /// Compares and plans again after an artifact was unpacked: the ledger knows more digests, and the store has more
    /// blobs.
    pub(super) fn plan_again(&mut self, observer: &Observer, blobs: &BTreeSet<Sha256>) {
        self.desired = observer.build_desired(&self.ledger, self.network.as_ref());
        self.disk.blobs.extend(blobs);
        self.compare_again();
    }

    /// Records every file that is as declared as ours, also one that was found so: the ledger may have been lost. Returns
    /// `true` if the ledger has changed.
    pub(super) fn adopt_right_files(&mut self, observer: &Observer) -> bool {
        let mut has_changed = false;
        for file in &self.files {
            let Some(digest) = file.expected.filter(|_| file.standing == Standing::Ok) else {
                continue;
            };
            if self.ledger.owns_content(file.dir, &file.name, &digest) {
                continue;
            }
            let origin = match file.dir {
                ManagedDir::Bin => observer.find_origin(&file.name),
                ManagedDir::Conf => None,
            };
            self.ledger.record_dirs(observer.context.managed_dirs());
            self.ledger
                .record_intent(file.dir, &file.name, digest, None, origin);
            has_changed = true;
        }
        has_changed
    }

    /// Compares and plans again after the state of the disk has changed.
    pub(super) fn compare_again(&mut self) {
        self.files = compare_files(&self.desired, &self.disk);
        self.plan = plan_steps(&self.desired, &self.disk, &self.files);
    }

    /// Whether new pods get no network because of this file, which is wrong:
    /// - the declared conflist, where the runtimes find no configuration that they can load;
    /// - a plugin of the conflist that is missing.
    pub(super) fn is_urgent(&self, dir: ManagedDir, name: &FileName) -> bool {
        let Some(network) = &self.network else {
            return false;
        };
        match dir {
            ManagedDir::Conf => {
                let conflist = self.desired.conflist.as_ref();
                conflist.is_some_and(|conflist| conflist.name == *name)
                    && !network.candidates.iter().any(|(_, loaded)| loaded.is_ok())
            }
            ManagedDir::Bin => {
                let needed = network.rendered.iter().flat_map(|it| &it.needed);
                let mut missing = needed.filter(|needed| needed.plugin.file() == name);
                missing.any(|it| self.disk.plugins.get(&it.plugin) == Some(&FileState::Absent))
            }
        }
    }

    /// Every file that is urgent: see [`ObservedState::is_urgent`].
    pub(super) fn list_urgent(&self) -> BTreeSet<(ManagedDir, FileName)> {
        let conflists = self.desired.conflist.iter().map(|conflist| &conflist.name);
        let plugins = self.desired.plugins.iter().map(|it| it.plugin.file());
        let conflists = conflists.map(|name| (ManagedDir::Conf, name.clone()));
        let plugins = plugins.map(|name| (ManagedDir::Bin, name.clone()));
        let files = conflists.chain(plugins);
        files
            .filter(|(dir, name)| self.is_urgent(*dir, name))
            .collect()
    }

    /// Whether a step is left in the configuration directory.
    pub(super) fn has_conflist_steps(&self) -> bool {
        let mut steps = self.plan.steps.iter();
        steps.any(|step| step.changed_conflist().is_some())
    }
}

impl Observer {
    /// An observer that has learned nothing yet.
    pub(super) fn new(context: Context) -> Self {
        Self {
            context,
            files: FileStateCache::default(),
            pins: LearnedPins::default(),
            sources: Arc::default(),
            recovered: RecoveredRecords::default(),
            foreign: ForeignFiles::default(),
        }
    }

    /// Observes the disk on a thread that may block.
    ///
    /// # Errors
    /// When the disk or the ledger cannot be read.
    pub(super) async fn observe(&self) -> Result<ObservedState, ReconcileError> {
        let observer = self.clone();
        run_blocking(move || observer.observe_disk()).await
    }

    /// Observes the disk, even if the conflist has a mistake. Blocks.
    ///
    /// # Errors
    /// When the disk or the ledger cannot be read.
    pub(super) fn observe_disk(&self) -> Result<ObservedState, ReconcileError> {
        let context = &self.context;
        let state_dir = &context.settings.paths.state_dir;
        let StoreContents {
            ledger,
            damaged,
            blobs,
        } = StoreContents::read_from(&context.host, state_dir)?;
        context.check_dirs_of(&ledger)?;
        self.restore_saved_pins()?;
        let network = observe_network(context, &self.foreign)?;
        let desired = self.build_desired(&ledger, network.as_ref());
        let (bin, conf) = (context.open_bin_dir(), context.open_conf_dir());
        let opened = [bin, conf].map(|dir| match dir {
            // Nothing is known about the directory then, or nothing can be done in it.
            Err(error) if error.is_the_machines() || error.is_removed_mount() => Err(error),
            dir => Ok(dir),
        });
        let [bin, conf] = opened;
        let (bin, conf) = (bin?, conf?);
        let disk = self.observe_files(&ledger, &desired, network.as_ref(), blobs, &bin, &conf);
        let missing_links = match matches!(bin, Ok(None)) || matches!(conf, Ok(None)) {
            true => context.list_missing_links(),
            false => Vec::new(),
        };
        let files = compare_files(&desired, &disk);
        Ok(ObservedState {
            plan: plan_steps(&desired, &disk, &files),
            ledger,
            damaged,
            desired,
            disk,
            files,
            network,
            bin_is_absent: matches!(bin, Ok(None)),
            links: context.describe_links(),
            bin_fault: bin.err().map(|error| error.to_string()),
            missing_links,
        })
    }

    /// What is declared. The digest of a plugin is known once the ledger knows what its artifact holds.
    pub(super) fn build_desired(
        &self,
        ledger: &Ledger,
        network: Option<&ObservedNetwork>,
    ) -> Desired {
        let settings = &self.context.settings;
        let mut plugins = Vec::new();
        for artifact in &settings.artifacts {
            for member in &artifact.members {
                let measured = self.find_measured(ledger, artifact, member);
                plugins.push(DesiredPlugin {
                    plugin: member.plugin.clone(),
                    artifact: artifact.name.clone(),
                    sha256: member.sha256.or(measured.map(|measure| measure.sha256)),
                    keep_foreign: artifact.if_present == IfPresent::Keep,
                });
            }
        }
        let conflist = settings.network.as_ref().map(|declared| DesiredConflist {
            name: declared.file_name.clone(),
            mode: declared.file_mode,
            sha256: network.and_then(|network| Some(network.rendered.as_ref().ok()?.sha256)),
        });
        Desired {
            plugins,
            conflist,
            owner: self.context.host.owner(),
        }
    }

    /// What a member was found to be. A raw artifact is one file, so what was found under one name holds for every name
    /// that raw artifacts with the same pin give it.
    fn find_measured(
        &self,
        ledger: &Ledger,
        artifact: &Artifact<DeclaredPin>,
        member: &Member,
    ) -> Option<MeasuredFile> {
        let pin = self.known_pin(artifact)?;
        let known = ledger.measured_members(&pin)?;
        let found = known.get(ledger_key(artifact, member));
        if found.is_some() || artifact.format != Format::Raw {
            return found.copied();
        }
        let artifacts = self.context.settings.artifacts.iter();
        let same_file = artifacts
            .filter(|other| other.format == Format::Raw && self.known_pin(other) == Some(pin));
        let mut names = same_file.flat_map(|same| &same.members);
        names.find_map(|member| known.get(member.plugin.as_str()).copied())
    }

    fn observe_files(
        &self,
        ledger: &Ledger,
        desired: &Desired,
        network: Option<&ObservedNetwork>,
        blobs: HashSet<Sha256>,
        bin: &OpenedDir,
        conf: &OpenedDir,
    ) -> DiskState {
        let settings = &self.context.settings;
        let mut disk = DiskState {
            placed_plugins: placed_files(ledger, ManagedDir::Bin),
            placed_conflists: placed_files(ledger, ManagedDir::Conf),
            blobs: blobs.into_iter().collect(),
            ..DiskState::default()
        };
        for wanted in &desired.plugins {
            let name = wanted.plugin.file();
            let largest = largest_size(ledger, wanted);
            let state = observe_within(bin, |bin| self.files.observe(bin, name, largest));
            disk.plugins.insert(wanted.plugin.clone(), state);
        }
        let declared = settings.network.iter().map(|network| &network.file_name);
        for name in declared.chain(disk.placed_conflists.keys()) {
            let state = observe_within(conf, |conf| conf.observe_file(name, LARGEST_CONFLIST));
            disk.conflists.insert(name.clone(), state);
        }
        if let Some((network, declared)) = network.zip(settings.network.as_ref())
            && settings.drift.foreign_conflists == ForeignConflists::Disable
        {
            let earlier = network.list_names_before(&declared.file_name).into_iter();
            disk.shadowing = earlier.filter(|name| !disk.is_our_conflist(name)).collect();
        }
        disk
    }

    /// The digest of a declared artifact. `None` while it is not known, or while a required signature is not verified.
    pub(super) fn known_pin(&self, artifact: &Artifact<DeclaredPin>) -> Option<Pin> {
        let known = artifact.pin.known_pin();
        known.or_else(|| self.pins.find(artifact))
    }

    /// The artifact with its digest, if that is known.
    pub(super) fn resolve_known_pin(&self, artifact: &Artifact<DeclaredPin>) -> Option<Artifact> {
        self.known_pin(artifact).map(|pin| artifact.with_pin(pin))
    }

    /// The artifact of a declared plugin, for the ledger.
    pub(super) fn find_origin(&self, plugin: &FileName) -> Option<PluginOrigin> {
        let mut artifacts = self.context.settings.artifacts.iter();
        let holds = |member: &Member| member.plugin.file() == plugin;
        let artifact = artifacts.find(|artifact| artifact.members.iter().any(holds))?;
        self.resolve_known_pin(artifact)
            .map(|artifact| PluginOrigin::of(&artifact))
    }

    /// For each of these artifacts whose digest is not known yet: a sentence that says why.
    pub(super) fn describe_unknown_pins<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> Vec<String> {
        let names: Vec<&str> = names.collect();
        let artifacts = self.context.settings.artifacts.iter();
        let open = artifacts.filter(|artifact| {
            names.contains(&artifact.name.as_str()) && self.known_pin(artifact).is_none()
        });
        open.map(super::learned_pins::describe_unknown_pin)
            .collect()
    }

    /// Reads the digests that an earlier run saved, if a digest is not known. Blocks.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn restore_saved_pins(&self) -> Result<(), ReconcileError> {
        let context = &self.context;
        let mut artifacts = context.settings.artifacts.iter();
        match artifacts.all(|artifact| self.known_pin(artifact).is_some()) {
            true => Ok(()),
            false => self
                .pins
                .restore_saved(&context.host, &context.settings.paths.state_dir),
        }
    }
}

/// A managed directory: none where it does not exist, or why it cannot be opened.
type OpenedDir = Result<Option<Dir>, HostError>;

/// The state of a file in a managed directory. Where that cannot be opened, none of its files can be read.
fn observe_within(dir: &OpenedDir, observe: impl FnOnce(&Dir) -> FileState) -> FileState {
    match dir {
        Ok(Some(dir)) => observe(dir),
        Ok(None) => FileState::Absent,
        Err(error) => FileState::Unreadable(error.to_string()),
    }
}

/// The key under which the ledger keeps the digest and size of a member.
pub(super) fn ledger_key<'a, P>(artifact: &'a Artifact<P>, member: &'a Member) -> &'a str {
    match artifact.format {
        Format::Raw => member.plugin.as_str(),
        Format::TarGz | Format::Tar | Format::Image => &member.path,
    }
}

/// A file of up to this size, in bytes, is read in a moment, and its digest tells people what it is.
const QUICKLY_READ: u64 = 64 << 20;

/// The size up to which the file of a plugin is read. A larger one is none of the contents that it may have: the declared
/// one, and those that we placed. A plugin of the node image that stays may have any content.
fn largest_size(ledger: &Ledger, wanted: &DesiredPlugin) -> u64 {
    let Some(declared) = wanted.sha256.filter(|_| !wanted.keep_foreign) else {
        return LARGEST_PLUGIN;
    };
    let placed = ledger.find_file(ManagedDir::Bin, wanted.plugin.file());
    let placed = placed.into_iter();
    let contents = placed.flat_map(|file| std::iter::once(file.sha256).chain(file.previous));
    let sizes = contents
        .chain([declared])
        .map(|content| ledger.size_of_content(&content));
    sizes.fold(QUICKLY_READ, |largest, size| {
        largest.max(size.unwrap_or(LARGEST_PLUGIN))
    })
}

fn placed_files(ledger: &Ledger, dir: ManagedDir) -> BTreeMap<FileName, BTreeSet<Sha256>> {
    ledger
        .files()
        .iter()
        .filter(|file| file.dir == dir)
        .map(|file| {
            let digests = std::iter::once(file.sha256).chain(file.previous).collect();
            (file.name.clone(), digests)
        })
        .collect()
}
