//! Removes what the agent placed: the conflist first, then the binaries. A file that was changed since is not removed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::context::Context;
use super::error::{ReconcileError, run_blocking};
use super::foreign_files::LARGEST_CONFLIST;
use super::observer::Observer;
use super::state_lock::sweep_interrupted;
use crate::cni::list_required_plugins;
use crate::host::{Dir, FileKind, HostError};
use crate::model::{FileName, FileState, FileType, IfPresent, LARGEST_PLUGIN, ManagedDir, Sha256};
use crate::store::{Ledger, Store};

/// What happened to one file of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum RemovalOutcome {
    /// It had the content that we placed, and is removed.
    Removed {
        /// Where it was.
        path: PathBuf,
    },
    /// It was absent already.
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// It was changed since, so it is not ours any more and stays.
    Spared {
        /// Where it is.
        path: PathBuf,
        /// What it is now.
        reason: String,
    },
    /// A foreign conflist has its original name again.
    Restored {
        /// Where it is again.
        path: PathBuf,
    },
}

impl RemovalOutcome {
    /// The file.
    fn path(&self) -> &Path {
        match self {
            Self::Removed { path }
            | Self::Gone { path }
            | Self::Spared { path, .. }
            | Self::Restored { path } => path,
        }
    }
}

/// Removes what the agent placed or found exactly as declared, in this order:
/// 1. the conflist;
/// 2. the suffixes of foreign conflists that were set aside, so that they have their names again;
/// 3. the binaries;
/// 4. the copies in the store;
/// 5. what was learned: the facts of the node, digests that were looked up, and what artifacts were found to hold.
///
/// What stays:
/// - directories;
/// - every file that is not what we placed;
/// - the plugins that a conflist needs which somebody edited.
///
/// # Errors
/// When another agent is running or a file operation fails. What was done until then is recorded in the ledger.
pub async fn uninstall(context: &Context) -> Result<Vec<RemovalOutcome>, ReconcileError> {
    let context = context.clone();
    run_blocking(move || uninstall_blocking(&context)).await
}

fn uninstall_blocking(context: &Context) -> Result<Vec<RemovalOutcome>, ReconcileError> {
    let (host, state_dir) = (&context.host, &context.settings.paths.state_dir);
    let observer = Observer::new(context.clone());
    let mut uninstaller = Uninstaller {
        context,
        ledger: Ledger::default(),
        outcomes: Vec::new(),
    };
    if !host.exists(state_dir)? {
        // Nothing was ever placed, or the record of it is lost. No state directory is created just to uninstall.
        uninstaller.remove_unrecorded_conflist(&observer)?;
        uninstaller.report_what_is_left()?;
        return Ok(uninstaller.outcomes);
    }
    let store = Store::open(host, state_dir)?;
    let _lock = store.lock()?;
    observer
        .recovered
        .tell(store.list_recovered().iter().cloned());
    observer
        .recovered
        .tell(store.recover_records(&Ledger::default())?);
    sweep_interrupted(context, &store)?;
    uninstaller.ledger = store.load_ledger()?;
    context.check_dirs_of(&uninstaller.ledger)?;
    // What is as declared is ours, even where the ledger was lost. What cannot be observed is not removed.
    if let Ok(mut observed) = observer.observe_disk() {
        observed.adopt_right_files(&observer);
        uninstaller.ledger = observed.ledger;
    }
    let result = uninstaller.remove_in_order(&store);
    // The ledger is saved after a failure as well, so that the next run does not look for removed files.
    store.save_ledger(&uninstaller.ledger)?;
    result?;
    uninstaller.report_what_is_left()?;
    Ok(uninstaller.outcomes)
}

struct Uninstaller<'a> {
    context: &'a Context,
    ledger: Ledger,
    /// What happened to each file so far.
    outcomes: Vec<RemovalOutcome>,
}

impl Uninstaller<'_> {
    fn remove_in_order(&mut self, store: &Store) -> Result<(), ReconcileError> {
        let conf = self.context.open_conf_dir()?;
        let in_use = self.plugins_of_edited_conflists(conf.as_ref());
        self.remove_placed(ManagedDir::Conf, conf.as_ref(), &BTreeMap::new())?;
        if let Some(conf) = &conf {
            self.restore_set_aside(conf)?;
        }
        let bin = self.context.open_bin_dir()?;
        self.remove_placed(ManagedDir::Bin, bin.as_ref(), &in_use)?;
        store.prune_blobs(&HashSet::new())?;
        store.forget_node()?;
        store.forget_pins()?;
        self.ledger.retain_members(&BTreeSet::new());
        Ok(())
    }

    /// Removes the conflist where no state directory tells what was placed, if it is byte for byte the declared one. A
    /// plugin stays: others may have placed the same build of it.
    fn remove_unrecorded_conflist(&mut self, observer: &Observer) -> Result<(), ReconcileError> {
        if let Ok(mut observed) = observer.observe_disk() {
            observed.adopt_right_files(observer);
            self.ledger = observed.ledger;
        }
        let conf = self.context.open_conf_dir()?;
        self.remove_placed(ManagedDir::Conf, conf.as_ref(), &BTreeMap::new())
    }

    /// Looks at the disk for files with declared names that are still there, and reports those that were not yet.
    fn report_what_is_left(&mut self) -> Result<(), ReconcileError> {
        let settings = &self.context.settings;
        let artifacts = settings.artifacts.iter();
        // With `ifPresent: keep` it is expected that the node's own build stays.
        let replaced = artifacts.filter(|artifact| artifact.if_present != IfPresent::Keep);
        let members = replaced.flat_map(|artifact| &artifact.members);
        let plugins = members.map(|member| (ManagedDir::Bin, member.plugin.file()));
        let conflist = settings.network.iter();
        let conflist = conflist.map(|network| (ManagedDir::Conf, &network.file_name));
        let (bin, conf) = (self.context.open_bin_dir()?, self.context.open_conf_dir()?);
        for (which, name) in conflist.chain(plugins) {
            let dir = match which {
                ManagedDir::Bin => &bin,
                ManagedDir::Conf => &conf,
            };
            let path = self.context.shown_path(which, name);
            let is_told = self.outcomes.iter().any(|outcome| outcome.path() == path);
            if !is_told
                && let Some(dir) = dir
                && dir.file_metadata(name)?.is_some()
            {
                self.outcomes.push(RemovalOutcome::Spared {
                    path,
                    reason: "nothing records that cni-keeper placed it".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// The plugins of our conflists that somebody edited, each with the name of the conflist. Such a conflist stays, so
    /// its plugins stay as well: a conflist is never visible without its plugins.
    fn plugins_of_edited_conflists(&self, conf: Option<&Dir>) -> BTreeMap<FileName, FileName> {
        let mut named = BTreeMap::new();
        for file in self.ledger.files() {
            let Some(conf) = conf.filter(|_| file.dir == ManagedDir::Conf) else {
                continue;
            };
            let Ok(bytes) = conf.read_file(file.name.as_str().as_ref(), LARGEST_CONFLIST) else {
                continue;
            };
            if self
                .ledger
                .owns_content(ManagedDir::Conf, &file.name, &Sha256::of(&bytes))
            {
                continue;
            }
            let plugins = serde_json::from_slice(&bytes).map(|list| list_required_plugins(&list));
            let plugins = plugins.unwrap_or_default();
            // Every list needs `loopback`. A list that needs nothing else has no chain, so nothing is kept for it.
            if plugins.len() > 1 {
                let names = plugins.iter().map(|needed| needed.plugin.file().clone());
                named.extend(names.map(|plugin| (plugin, file.name.clone())));
            }
        }
        named
    }

    /// Removes the files of one directory that are still what we placed. `in_use` are the plugins that must stay, each
    /// with the name of the conflist that needs it.
    fn remove_placed(
        &mut self,
        which: ManagedDir,
        dir: Option<&Dir>,
        in_use: &BTreeMap<FileName, FileName>,
    ) -> Result<(), ReconcileError> {
        let files = self.ledger.files().iter();
        let ours = files.filter(|file| file.dir == which);
        let largest = match which {
            ManagedDir::Bin => LARGEST_PLUGIN,
            ManagedDir::Conf => LARGEST_CONFLIST,
        };
        let ours: Vec<FileName> = ours.map(|file| file.name.clone()).collect();
        for name in ours {
            let path = self.context.shown_path(which, &name);
            let state = dir.map_or(FileState::Absent, |dir| dir.observe_file(&name, largest));
            if let Some(conflist) = in_use.get(&name)
                && state != FileState::Absent
            {
                // It stays ours: the next uninstall removes it when that conflist is gone.
                self.outcomes.push(RemovalOutcome::Spared {
                    path,
                    reason: format!("{conflist} stays, and needs it"),
                });
                continue;
            }
            let outcome = match (state, dir) {
                // It is not known whether the file is still ours.
                (FileState::Unreadable(reason), Some(dir)) => {
                    let source = std::io::Error::other(reason);
                    return Err(HostError::new("remove", dir.path_of(&name), source).into());
                }
                (FileState::Regular(file), Some(dir))
                    if self.ledger.owns_content(which, &name, &file.sha256) =>
                {
                    dir.remove_file(&name)?;
                    RemovalOutcome::Removed { path }
                }
                (FileState::Absent, _) | (_, None) => RemovalOutcome::Gone { path },
                (state, Some(_)) => RemovalOutcome::Spared {
                    path,
                    reason: describe_state(&state),
                },
            };
            self.ledger.forget_file(which, &name);
            self.outcomes.push(outcome);
        }
        if let Some(dir) = dir {
            dir.sync()?;
        }
        Ok(())
    }

    /// Gives every foreign conflist that was set aside its original name again, unless another file has that name. Of
    /// several that had one name, the newest gets it, which is the last one in the ledger.
    fn restore_set_aside(&mut self, conf: &Dir) -> Result<(), HostError> {
        for aside in self.ledger.set_aside_files().to_vec().into_iter().rev() {
            let outcome = if !is_still_aside(conf, &aside.name)? {
                RemovalOutcome::Gone {
                    path: conf.path_of(&aside.name),
                }
            } else if conf.file_metadata(&aside.original)?.is_some() {
                RemovalOutcome::Spared {
                    path: conf.path_of(&aside.name),
                    reason: format!(
                        "{} exists again, so it keeps the name that it was given",
                        aside.original
                    ),
                }
            } else {
                conf.rename_into(&aside.name, conf, &aside.original)?;
                RemovalOutcome::Restored {
                    path: conf.path_of(&aside.original),
                }
            };
            self.ledger.forget_set_aside(&aside.name);
            self.outcomes.push(outcome);
        }
        conf.sync()
    }
}

/// Whether the file is there. A link was set aside as a link, and a directory was never set aside.
fn is_still_aside(conf: &Dir, name: &FileName) -> Result<bool, HostError> {
    let kind = conf.file_metadata(name)?.map(|found| found.kind);
    Ok(kind.is_some_and(|kind| kind != FileKind::Other(FileType::Directory)))
}

fn describe_state(state: &FileState) -> String {
    match state {
        FileState::Absent => "it is gone".to_owned(),
        FileState::Regular(file) => format!(
            "its content is not what was placed (sha256 {} now)",
            file.sha256.short()
        ),
        FileState::TooLarge(size) => {
            format!("it is larger than what was placed ({size} bytes now)")
        }
        FileState::Other(kind) => format!("it is {kind} now"),
        FileState::Unreadable(reason) => reason.clone(),
    }
}
