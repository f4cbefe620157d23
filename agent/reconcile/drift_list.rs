//! Lists everything that is wrong on the disk, one entry each. The drift log is made from this list.

use std::path::PathBuf;

use super::context::Context;
use super::observed_network::ObservedNetwork;
use super::observer::ObservedState;
use crate::cni::{LibcniNetwork, LoadError};
use crate::config::NetworkSettings;
use crate::model::{
    Difference, DriftKind, FileName, FileState, ManagedDir, Owner, Sha256, Standing,
};
use crate::plan::ComparedFile;

/// How many foreign files of one kind are listed. Others decide how many there are; the first ones count.
const MOST_FOREIGN_FILES: usize = 256;

/// One thing that is wrong with a file or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDrift {
    /// The directory that it is in.
    pub dir: ManagedDir,
    /// The file's name; a directory's path.
    pub name: String,
    /// The path on the host, with `--host-root` in front.
    pub path: PathBuf,
    /// The kind of drift.
    pub kind: DriftKind,
    /// The drift as a sentence without its subject.
    pub what: String,
    /// What is there.
    pub before: String,
    /// What should be there, if it is known.
    pub wanted: Option<String>,
    /// What is known about the program that caused it.
    pub by: Option<String>,
    /// Whether another program caused it.
    pub cause: DriftCause,
}

/// How a file came to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftCause {
    /// Another program changed it: it is no longer what we placed, or it is a file that we never place.
    Changed,
    /// It is what we placed, and the declaration has changed since.
    Outdated,
    /// We never placed it.
    Unplaced,
}

/// Lists what is wrong: plugins first, then the conflist, then foreign files that shadow it or are merged into it.
pub(super) fn list_drifts(context: &Context, observed: &ObservedState) -> Vec<FileDrift> {
    let mut found = Vec::new();
    let network = observed.network.as_ref();
    for (dir, is_absent) in [
        (ManagedDir::Bin, observed.bin_is_absent),
        (
            ManagedDir::Conf,
            network.is_some_and(|network| network.is_absent),
        ),
    ] {
        match is_absent {
            // One entry for the directory, rather than one for each file in it.
            true => found.push(describe_missing_dir(context, dir, observed)),
            false => {
                let files = observed.files.iter().filter(|file| file.dir == dir);
                found.extend(files.flat_map(|file| describe_file(context, file, observed)));
            }
        }
    }
    if let Some((network, declared)) = network.zip(context.settings.network.as_ref()) {
        found.extend(list_foreign_drifts(context, declared, network, observed));
    }
    found
}

/// Everything that is wrong with one declared file.
fn describe_file(
    context: &Context,
    file: &ComparedFile,
    observed: &ObservedState,
) -> Vec<FileDrift> {
    if file.standing != Standing::Drift {
        return Vec::new();
    }
    let network = observed
        .network
        .as_ref()
        .filter(|_| file.dir == ManagedDir::Conf);
    let writer = network.and_then(|network| network.describe_writer(&file.name, &file.actual));
    let writer = writer.or_else(|| describe_owner(&file.actual));
    let expected = file
        .expected
        .map(|sha256| format!("sha256 {}", sha256.short()));
    let describe = |difference: &Difference| {
        let (before, wanted) = describe_difference(difference);
        FileDrift {
            dir: file.dir,
            name: file.name.to_string(),
            path: context.shown_path(file.dir, &file.name),
            kind: difference.kind(),
            what: difference.to_string(),
            before,
            wanted: wanted.or_else(|| expected.clone()),
            by: writer.clone().filter(|_| shows_its_writer(difference)),
            cause: find_cause(observed, file, difference),
        }
    };
    file.differences.iter().map(describe).collect()
}

/// Foreign files that sort before ours, and foreign files that are merged into our network.
fn list_foreign_drifts(
    context: &Context,
    declared: &NetworkSettings,
    network: &ObservedNetwork,
    observed: &ObservedState,
) -> Vec<FileDrift> {
    let conf = context.shown_dir(ManagedDir::Conf);
    let is_ours = |name: &str| {
        let name = name.parse::<FileName>();
        name.is_ok_and(|name| observed.disk.is_our_conflist(&name))
    };
    let earlier = network.list_files_before(&declared.file_name);
    let mut found: Vec<FileDrift> = earlier
        .filter(|(name, _)| !is_ours(name))
        .take(MOST_FOREIGN_FILES)
        .map(|(name, loaded)| describe_foreign_conflist(conf.join(name), name, loaded))
        .collect();
    let merged = network.list_drop_ins().into_iter();
    found.extend(merged.take(MOST_FOREIGN_FILES).map(|path| FileDrift {
        dir: ManagedDir::Conf,
        name: path.display().to_string(),
        path: conf.join(&path),
        kind: DriftKind::DropIn,
        what: "is merged into the network".to_owned(),
        before: "a drop-in".to_owned(),
        wanted: None,
        by: None,
        cause: DriftCause::Changed,
    }));
    found
}

/// Describes a directory that does not exist.
fn describe_missing_dir(context: &Context, dir: ManagedDir, observed: &ObservedState) -> FileDrift {
    let path = context.shown_dir(dir);
    let was_there = observed.ledger.files().iter().any(|file| file.dir == dir);
    FileDrift {
        dir,
        name: path.display().to_string(),
        path,
        kind: DriftKind::DirMissing,
        what: "does not exist".to_owned(),
        before: "absent".to_owned(),
        wanted: Some("a directory with what is declared".to_owned()),
        by: None,
        cause: match was_there {
            true => DriftCause::Changed,
            false => DriftCause::Unplaced,
        },
    }
}

fn describe_foreign_conflist(
    path: PathBuf,
    name: &str,
    loaded: &Result<LibcniNetwork, LoadError>,
) -> FileDrift {
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
        dir: ManagedDir::Conf,
        name: name.to_owned(),
        path,
        kind,
        what,
        before,
        wanted: None,
        by: None,
        cause: DriftCause::Changed,
    }
}

fn find_cause(
    observed: &ObservedState,
    file: &ComparedFile,
    difference: &Difference,
) -> DriftCause {
    let Some(placed) = observed.ledger.find_file(file.dir, &file.name) else {
        return DriftCause::Unplaced;
    };
    match difference {
        Difference::Content { actual, .. }
            if placed.sha256 == *actual || placed.previous == Some(*actual) =>
        {
            DriftCause::Outdated
        }
        // Another release is declared and not downloaded yet.
        Difference::Unrecorded => DriftCause::Outdated,
        _ => DriftCause::Changed,
    }
}

/// What is there and what should be there, in a few words.
fn describe_difference(drift: &Difference) -> (String, Option<String>) {
    let digest = |sha256: &Sha256| format!("sha256 {}", sha256.short());
    let owner = |owner: &Owner| format!("{}:{}", owner.uid, owner.gid);
    match drift {
        Difference::Missing => ("absent".to_owned(), None),
        Difference::Content { expected, actual } => (digest(actual), Some(digest(expected))),
        Difference::Size { actual } => (format!("{actual} bytes"), None),
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
        Difference::Capability => (
            "file capabilities".to_owned(),
            Some("no file capabilities".to_owned()),
        ),
        Difference::Acl => (
            "an ACL that lets others write".to_owned(),
            Some("no such ACL".to_owned()),
        ),
        Difference::Flags => (
            "immutable or append-only".to_owned(),
            Some("neither".to_owned()),
        ),
        Difference::Type { actual } => (actual.to_string(), None),
        Difference::Unreadable { .. } => ("unreadable".to_owned(), None),
        Difference::Unrecorded => ("a file of unknown content".to_owned(), None),
    }
}

/// The owner of a file, who may have written it. For a removed file there is none, because the kernel does not record
/// who removed it.
fn describe_owner(state: &FileState) -> Option<String> {
    match state {
        FileState::Regular(file) => Some(format!("uid {}", file.owner.uid)),
        _ => None,
    }
}

/// Whether the owner of a file may have caused the difference. A changed owner is no sign of that: only root can give a
/// file to another user.
const fn shows_its_writer(difference: &Difference) -> bool {
    !matches!(difference, Difference::Owner { .. })
}
