//! The conflist as it would be written, and the directory that it goes into.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::Keeper;
use super::error::ReconcileError;
use super::facts::{self, Collected};
use crate::config::{FactSource, Network};
use crate::conflist::{
    ConfDir, DirEntry, DropIns, EntryKind, Needed, RenderError, RenderProblem, Report,
    earlier_candidates, needed_plugins, render, validate,
};
use crate::host::{Dir, Host, Kind};
use crate::model::{FileName, FileType, Sha256};

/// The largest configuration that is read, in bytes: what newer go-cni reads at most (`MaxFileSize`).
pub(super) const LARGEST_CONFLIST: u64 = 2 << 20;

/// What a rival gets behind its name: an extension that no runtime reads.
pub(super) const ASIDE: &str = ".cni-keeper-disabled";

/// The conflist and its directory, as seen.
#[derive(Debug)]
pub struct NetworkSight {
    /// The conflist as it would be written, or what it still waits for.
    pub rendered: Result<Rendered, Waiting>,
    entries: Vec<DirEntry>,
    host: Host,
    path: PathBuf,
}

/// A conflist with every fact filled in, free of errors.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The text, as it is written.
    pub text: String,
    /// Its digest.
    pub sha256: Sha256,
    /// What the validator says: a summary, and warnings.
    pub report: Report,
    /// The plugins that it needs.
    pub needed: Vec<Needed>,
}

/// Why the conflist cannot be rendered yet: a fact source that is not there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting(pub String);

/// Renders and checks the declared conflist and lists its directory; `None` where none is declared.
///
/// # Errors
/// When the conflist asks for a fact that nothing will provide, or has a mistake that a runtime would
/// not forgive; or when the disk refuses.
pub(super) fn look(keeper: &Keeper) -> Result<Option<NetworkSight>, ReconcileError> {
    let Some(declared) = &keeper.settings.network else {
        return Ok(None);
    };
    let Collected { facts, unready } =
        facts::collect(&keeper.settings, &keeper.host, keeper.node_name.as_deref())?;
    let rendered = match render(&declared.conflist, &facts) {
        Ok(text) => Ok(checked(text)?),
        // The values may well be in a file that is not ready, or still be written to one that is there.
        Err(error) => match unready.or_else(|| awaited(&error, declared, &keeper.host)) {
            Some(reason) => Err(Waiting(reason)),
            None => return Err(error.into()),
        },
    };
    let entries = match keeper.conf_dir()? {
        Some(dir) => entries(&dir)?,
        None => Vec::new(),
    };
    Ok(Some(NetworkSight {
        rendered,
        entries,
        host: keeper.host.clone(),
        path: keeper.settings.paths.conf_dir.clone(),
    }))
}

/// Why an unknown fact may still come: a declared envFile could get it. Names with a dot are never there.
fn awaited(error: &RenderError, declared: &Network, host: &Host) -> Option<String> {
    let file = declared
        .facts
        .iter()
        .rev()
        .find_map(|source| match source {
            FactSource::EnvFile(path) => Some(path),
            FactSource::Values(_) => None,
        })?;
    let unknown = error.problems.iter().map(|problem| match problem {
        RenderProblem::Unknown { name, .. } if !name.contains('.') => Some(name.as_str()),
        _ => None,
    });
    let names: Vec<&str> = unknown.collect::<Option<_>>()?;
    Some(format!(
        "{} does not set {} yet",
        host.shown(file).display(),
        names.join(", ")
    ))
}

fn checked(text: String) -> Result<Rendered, ReconcileError> {
    let report = validate(text.as_bytes());
    if !report.is_valid() {
        return Err(ReconcileError::Conflist(report.errors().cloned().collect()));
    }
    let needed = match serde_json::from_str(&text) {
        Ok(conflist) => needed_plugins(&conflist),
        // The validator has just read it.
        Err(_) => Vec::new(),
    };
    Ok(Rendered {
        sha256: Sha256::of(text.as_bytes()),
        text,
        report,
        needed,
    })
}

/// A directory as libcni sees it: what can be read is followed through links and read.
fn entries(dir: &Dir) -> Result<Vec<DirEntry>, ReconcileError> {
    let listed = dir.entries()?;
    Ok(listed
        .into_iter()
        .map(|entry| DirEntry {
            kind: match entry.kind {
                Kind::Other(FileType::Directory) => EntryKind::Directory,
                _ => content(dir, &entry.name),
            },
            name: entry.name,
        })
        .collect())
}

fn content(dir: &Dir, name: &OsStr) -> EntryKind {
    let extension = std::path::Path::new(name)
        .extension()
        .and_then(OsStr::to_str);
    if !matches!(extension, Some("conf" | "conflist" | "json")) {
        // No runtime reads it, so neither do we: it may be anything, of any size.
        return EntryKind::File(Vec::new());
    }
    match dir.read(name, LARGEST_CONFLIST) {
        Ok(bytes) => EntryKind::File(bytes),
        Err(error) => EntryKind::Unreadable(error.to_string()),
    }
}

impl NetworkSight {
    /// Hands the directory, as the runtimes see it, to a question about it.
    pub(super) fn with_dir<T>(&self, question: impl FnOnce(&ConfDir<'_>) -> T) -> T {
        let drop_ins = |name: &str| match self.host.dir(&self.path.join(name)) {
            Ok(dir) => match entries(&dir) {
                Ok(entries) => DropIns::Entries(entries),
                Err(error) => DropIns::Unreadable(error.to_string()),
            },
            Err(error) if error.is_absent() => DropIns::Absent,
            Err(error) => DropIns::Unreadable(error.to_string()),
        };
        question(&ConfDir {
            entries: &self.entries,
            drop_ins: &drop_ins,
        })
    }

    /// The text of a file in the directory, where it can be read.
    #[must_use]
    pub fn content(&self, name: &FileName) -> Option<String> {
        self.entries.iter().find_map(|entry| match &entry.kind {
            EntryKind::File(bytes) if entry.name == *name.as_str() => {
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
            _ => None,
        })
    }

    /// The foreign configurations that sort before `ours`, in order: as long as one of them is there,
    /// containerd takes it or stumbles over it. `is_ours` tells of a name whether it still holds what we placed.
    pub(super) fn rivals(
        &self,
        ours: &FileName,
        is_ours: impl Fn(&FileName) -> bool,
    ) -> Vec<FileName> {
        let earlier: Vec<OsString> = self.with_dir(|dir| earlier_candidates(ours, dir));
        earlier
            .iter()
            .filter_map(|name| name.to_str()?.parse().ok())
            .filter(|name| !is_ours(name))
            .collect()
    }
}
