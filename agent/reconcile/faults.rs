//! Everything that is wrong, one by one: what the drift log is made of.

use std::path::PathBuf;

use super::{Context, ObservedState};
use crate::cni::{LibcniNetwork, LoadError};
use crate::model::{Difference, DriftKind, FileMode, FileName, FileState, Owner, Sha256};
use crate::plan::compare;
use crate::store::ManagedDir;

/// One thing that is wrong with a file or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDrift {
    /// The directory that it is in.
    pub place: ManagedDir,
    /// The file's name; a directory's path.
    pub name: String,
    /// The path on the host, `--host-root` included.
    pub path: PathBuf,
    /// What kind it is.
    pub kind: DriftKind,
    /// The drift as a sentence without its subject.
    pub what: String,
    /// What is there.
    pub before: String,
    /// What should be, where that can be said.
    pub wanted: Option<String>,
    /// What is known of whoever did it.
    pub by: Option<String>,
    /// Why this is or is not the doing of somebody else.
    pub origin: DriftCause,
}

/// How something came to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftCause {
    /// It was right: we placed it, and it is not what we placed. Or it is nothing that we ever place.
    Changed,
    /// It is what we placed, and another thing is declared now.
    Outdated,
    /// We never placed it.
    Unplaced,
}

/// Lists what is wrong, plugins first, then the conflist, then what stands in its way.
pub(super) fn list_drifts(keeper: &Context, sight: &ObservedState) -> Vec<FileDrift> {
    let (bin, conf) = keeper.shown_dirs();
    let mut found = Vec::new();
    let ledger = &sight.ledger;
    if sight.bin_is_absent {
        found.extend(directory(ManagedDir::Bin, bin.clone(), sight));
    } else {
        for wanted in &sight.desired.plugins {
            let name = wanted.plugin.file();
            let state = sight.observed.plugins.get(&wanted.plugin);
            let state = state.unwrap_or(&FileState::Absent);
            if sight.plan.kept.contains(&wanted.plugin) {
                continue;
            }
            let drifts = compare(state, wanted.sha256, FileMode::PLUGIN, sight.desired.owner);
            let path = bin.join(name.as_str());
            found.extend(drifts.iter().map(|drift| FileDrift {
                origin: origin(sight, ManagedDir::Bin, name, drift),
                ..FileDrift::of(
                    ManagedDir::Bin,
                    name,
                    path.clone(),
                    drift,
                    state,
                    wanted.sha256,
                )
            }));
        }
    }
    let Some(network) = &sight.network else {
        return found;
    };
    if network.is_absent {
        found.extend(directory(ManagedDir::Conf, conf.clone(), sight));
    } else if let Some(wanted) = &sight.desired.conflist {
        let state = sight.observed.conflists.get(&wanted.name);
        let state = state.unwrap_or(&FileState::Absent);
        let drifts = compare(state, Some(wanted.sha256), wanted.mode, sight.desired.owner);
        let path = conf.join(wanted.name.as_str());
        found.extend(drifts.iter().map(|drift| {
            FileDrift {
                origin: origin(sight, ManagedDir::Conf, &wanted.name, drift),
                by: network
                    .author(&wanted.name, state)
                    .filter(|_| tells_of_its_writer(drift))
                    .or_else(|| author(drift, state)),
                ..FileDrift::of(
                    ManagedDir::Conf,
                    &wanted.name,
                    path.clone(),
                    drift,
                    state,
                    Some(wanted.sha256),
                )
            }
        }));
    }
    let Some(declared) = &keeper.settings.network else {
        return found;
    };
    let is_ours = |name: &str| {
        let file = name.parse::<FileName>().ok();
        file.is_some_and(|file| match sight.observed.conflists.get(&file) {
            Some(FileState::Regular(regular)) => {
                ledger.owns_content(ManagedDir::Conf, &file, &regular.sha256)
            }
            _ => false,
        })
    };
    for (name, loaded) in network.before(&declared.file_name) {
        if !is_ours(&name) {
            found.push(rival(conf.join(&name), name, &loaded));
        }
    }
    found.extend(network.drop_ins().into_iter().map(|path| FileDrift {
        place: ManagedDir::Conf,
        name: path.display().to_string(),
        path: conf.join(&path),
        kind: DriftKind::DropIn,
        what: "is merged into the network".to_owned(),
        before: "a drop-in".to_owned(),
        wanted: None,
        by: None,
        origin: DriftCause::Changed,
    }));
    found
}

impl FileDrift {
    fn of(
        place: ManagedDir,
        name: &FileName,
        path: PathBuf,
        drift: &Difference,
        state: &FileState,
        expected: Option<Sha256>,
    ) -> Self {
        let (before, wanted) = told(drift);
        let content = || expected.map(|sha256| format!("sha256 {}", sha256.short()));
        Self {
            place,
            name: name.to_string(),
            path,
            kind: drift.kind(),
            what: drift.to_string(),
            before,
            wanted: wanted.or_else(content),
            by: author(drift, state),
            origin: DriftCause::Changed,
        }
    }
}

/// A directory that does not exist, where we placed something in it.
fn directory(place: ManagedDir, path: PathBuf, sight: &ObservedState) -> Option<FileDrift> {
    let was_there = sight.ledger.files().iter().any(|file| file.place == place);
    Some(FileDrift {
        place,
        name: path.display().to_string(),
        path,
        kind: DriftKind::DirMissing,
        what: "does not exist".to_owned(),
        before: "absent".to_owned(),
        wanted: Some("a directory with what is declared".to_owned()),
        by: None,
        origin: match was_there {
            true => DriftCause::Changed,
            false => DriftCause::Unplaced,
        },
    })
}

fn rival(path: PathBuf, name: String, loaded: &Result<LibcniNetwork, LoadError>) -> FileDrift {
    let (kind, what, before) = match loaded {
        Ok(network) => (
            DriftKind::Shadowed,
            format!("sorts before ours, with the network '{}'", network.name),
            format!("network '{}'", network.name),
        ),
        Err(error) => (
            DriftKind::RuntimeBlocked,
            format!("sorts before ours and does not load: {error}"),
            "a file that does not load".to_owned(),
        ),
    };
    FileDrift {
        place: ManagedDir::Conf,
        name,
        path,
        kind,
        what,
        before,
        wanted: None,
        by: None,
        origin: DriftCause::Changed,
    }
}

fn origin(
    sight: &ObservedState,
    place: ManagedDir,
    name: &FileName,
    drift: &Difference,
) -> DriftCause {
    let Some(placed) = sight.ledger.find_file(place, name) else {
        return DriftCause::Unplaced;
    };
    match drift {
        Difference::Content { actual, .. }
            if placed.sha256 == *actual || placed.previous == Some(*actual) =>
        {
            DriftCause::Outdated
        }
        // Another release is declared, and not here yet.
        Difference::Unrecorded => DriftCause::Outdated,
        _ => DriftCause::Changed,
    }
}

/// What is there and what should be, in a few words.
fn told(drift: &Difference) -> (String, Option<String>) {
    let digest = |sha256: &Sha256| format!("sha256 {}", sha256.short());
    let owner = |owner: &Owner| format!("{}:{}", owner.uid, owner.gid);
    match drift {
        Difference::Missing => ("absent".to_owned(), None),
        Difference::Content { expected, actual } => (digest(actual), Some(digest(expected))),
        Difference::Mode { expected, actual } => {
            (format!("mode {actual}"), Some(format!("mode {expected}")))
        }
        Difference::Suid { actual } => (
            format!("mode {actual}"),
            Some("no set-uid, set-gid or sticky bit".to_owned()),
        ),
        Difference::Owner { expected, actual } => (
            format!("owner {}", owner(actual)),
            Some(format!("owner {}", owner(expected))),
        ),
        Difference::Type { actual } => (actual.to_string(), None),
        Difference::Unreadable { .. } => ("unreadable".to_owned(), None),
        Difference::Unrecorded => ("a file of unknown content".to_owned(), None),
    }
}

/// What a file tells of its writer. The kernel keeps no record of who removed one.
fn author(drift: &Difference, state: &FileState) -> Option<String> {
    match state {
        FileState::Regular(file) if tells_of_its_writer(drift) => {
            Some(format!("uid {}", file.owner.uid))
        }
        _ => None,
    }
}

/// Whether the owner of a file is the one to ask. Who gave it to another owner is not: that takes root.
const fn tells_of_its_writer(drift: &Difference) -> bool {
    !matches!(drift, Difference::Owner { .. })
}
