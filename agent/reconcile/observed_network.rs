//! The conflist as it would be written, and the directory for it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::conflist_facts::{Collected, collect_facts};
use super::context::Context;
use super::error::ReconcileError;
use crate::cni::{
    ConfDir, ConflistSummary, DirEntry, DropIns, EntryKind, Finding, Libcni, LibcniNetwork,
    LoadError, RenderError, RenderProblem, RequiredPlugin, check_plugins, check_ranges,
    has_conflist_extension, list_earlier_candidates, list_merged_drop_ins, list_required_plugins,
    load_candidates, render_conflist, sorts_before, validate_conflist,
};
use crate::config::{FactSource, NetworkSettings};
use crate::host::{Dir, FileKind, Host};
use crate::model::{FileName, FileState, FileType, NodeFacts, Sha256};

/// The largest conflist that is read, in bytes. Newer go-cni has the same limit (`MaxFileSize`).
pub(super) const LARGEST_CONFLIST: u64 = 2 << 20;

/// The suffix for a foreign conflist that is set aside. No runtime reads files with this extension.
pub(super) const ASIDE: &str = ".cni-keeper-disabled";

/// The conflist and its directory, as observed.
#[derive(Debug)]
pub struct ObservedNetwork {
    /// The conflist as it would be written, or why it cannot be.
    pub rendered: Result<RenderedConflist, NotRendered>,
    /// Whether the configuration directory does not exist.
    pub(super) is_absent: bool,
    /// Every file that the runtimes consider, in their order, and what libcni loads from it.
    pub(super) candidates: Vec<LoadedCandidate>,
    entries: Vec<DirEntry>,
    host: Host,
    path: PathBuf,
}

/// The name of a file that the runtimes consider, and what libcni loads from it.
pub(super) type LoadedCandidate = (String, Result<LibcniNetwork, LoadError>);

/// A conflist with every fact filled in, free of errors.
#[derive(Debug, Clone)]
pub struct RenderedConflist {
    /// The text, as it is written.
    pub text: String,
    /// Its digest.
    pub sha256: Sha256,
    /// The fields that the runtimes read.
    pub summary: ConflistSummary,
    /// What works, but is probably a mistake.
    pub warnings: Vec<Finding>,
    /// The plugins that it needs.
    pub needed: Vec<RequiredPlugin>,
}

/// Why there is no conflist to write.
#[derive(Debug, thiserror::Error)]
pub enum NotRendered {
    /// A source of facts is not ready yet.
    #[error("cannot be rendered yet: {0}")]
    Waiting(String),
    /// It needs a fact that no source provides, or has a mistake for which a runtime refuses it.
    #[error(transparent)]
    Wrong(ReconcileError),
}

/// Renders and checks the declared conflist and lists its directory; `None` where none is declared.
///
/// # Errors
/// When a file operation fails.
pub(super) fn observe_network(
    context: &Context,
) -> Result<Option<ObservedNetwork>, ReconcileError> {
    let Some(declared) = &context.settings.network else {
        return Ok(None);
    };
    let Collected { facts, unready } = collect_facts(
        &context.settings,
        &context.host,
        context.given_node_name.as_deref(),
        context.node_facts()?.as_ref(),
        &context.env_files,
    )?;
    let rendered = match render_conflist(&declared.conflist, &facts) {
        Ok(text) => check_conflist(text, declared).map_err(NotRendered::Wrong),
        // The missing values may be in a file that is not ready, or may still be written to an existing file.
        Err(error) => match unready.or_else(|| why_values_may_come(&error, declared, context)) {
            Some(reason) => Err(NotRendered::Waiting(reason)),
            None => Err(NotRendered::Wrong(error.into())),
        },
    };
    let dir = context.open_conf_dir()?;
    let mut network = ObservedNetwork {
        rendered,
        is_absent: dir.is_none(),
        candidates: Vec::new(),
        entries: dir.as_ref().map_or(Ok(Vec::new()), read_entries)?,
        host: context.host.clone(),
        path: context.settings.paths.conf_dir.clone(),
    };
    network.candidates = network.load_candidates();
    Ok(Some(network))
}

/// Why the unknown facts may become known later; `None` if one of them cannot. A fact of the node can come from the
/// node's object in the API, the others from a declared envFile. A name with a dot is never in an envFile.
fn why_values_may_come(
    error: &RenderError,
    declared: &NetworkSettings,
    context: &Context,
) -> Option<String> {
    let file = declared.facts.iter().rev().find_map(|source| match source {
        FactSource::EnvFile(path) => Some(path),
        FactSource::Values(_) | FactSource::KubernetesNode => None,
    });
    let (mut of_node, mut of_file) = (Vec::new(), Vec::new());
    for problem in &error.problems {
        match problem {
            RenderProblem::Unknown { name, .. }
                if declared.needs_node_object() && NodeFacts::is_node_fact(name) =>
            {
                of_node.push(name.as_str());
            }
            RenderProblem::Unknown { name, .. } if !name.contains('.') => {
                of_file.push(name.as_str());
            }
            _ => return None,
        }
    }
    let mut reasons = Vec::new();
    if !of_file.is_empty() {
        let shown = context.host.display_path(file?);
        reasons.push(format!(
            "{} does not set {} yet",
            shown.display(),
            of_file.join(", ")
        ));
    }
    if !of_node.is_empty() {
        reasons.push(context.node.explain_unknown(&of_node));
    }
    Some(reasons.join("; "))
}

fn check_conflist(
    text: String,
    declared: &NetworkSettings,
) -> Result<RenderedConflist, ReconcileError> {
    let report = validate_conflist(text.as_bytes());
    // If the text does not parse, the validator reports why.
    let conflist = serde_json::from_str(&text).unwrap_or_default();
    let summary = report.summary;
    let of_text = report.findings.into_iter();
    let (mistakes, warnings): (Vec<Finding>, Vec<Finding>) = of_text
        .chain(check_plugins(&conflist))
        .chain(check_ranges(
            &conflist,
            &declared.pod_ranges,
            &declared.reserved,
        ))
        .partition(Finding::is_error);
    // A conflist without a summary does not load, which is one of the mistakes.
    let Some(summary) = summary.filter(|_| mistakes.is_empty()) else {
        return Err(ReconcileError::Conflist(mistakes));
    };
    let needed = list_required_plugins(&conflist);
    Ok(RenderedConflist {
        sha256: Sha256::of(text.as_bytes()),
        text,
        summary,
        warnings,
        needed,
    })
}

/// The entries of a directory as libcni sees them: links are followed, and files are read.
fn read_entries(dir: &Dir) -> Result<Vec<DirEntry>, ReconcileError> {
    let listed = dir.list_entries()?;
    Ok(listed
        .into_iter()
        .map(|entry| DirEntry {
            kind: match entry.kind {
                FileKind::Other(FileType::Directory) => EntryKind::Directory,
                _ => read_entry(dir, &entry.name),
            },
            name: entry.name,
        })
        .collect())
}

fn read_entry(dir: &Dir, name: &OsStr) -> EntryKind {
    if !has_conflist_extension(name) {
        // No runtime reads this file, so it is not read here either. It may have any size.
        return EntryKind::File(Vec::new());
    }
    match dir.read_file(name, LARGEST_CONFLIST) {
        Ok(bytes) => EntryKind::File(bytes),
        Err(error) => EntryKind::Unreadable(error.to_string()),
    }
}

impl ObservedNetwork {
    /// Turns a mistake in the conflist into an error, for commands that must not touch anything before it is fixed.
    pub(super) fn require_rendered(self) -> Result<Self, ReconcileError> {
        match self.rendered {
            Err(NotRendered::Wrong(mistake)) => Err(mistake),
            rendered => Ok(Self { rendered, ..self }),
        }
    }

    /// Calls `question` with the directory as the runtimes see it.
    pub(super) fn with_conf_dir<T>(&self, question: impl FnOnce(&ConfDir<'_>) -> T) -> T {
        let drop_ins = |name: &str| match self.host.open_dir(&self.path.join(name)) {
            Ok(dir) => match read_entries(&dir) {
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

    /// The text of a file in the directory, if it can be read.
    #[must_use]
    pub fn read_file(&self, name: &FileName) -> Option<String> {
        self.entries.iter().find_map(|entry| match &entry.kind {
            EntryKind::File(bytes) if entry.name == *name.as_str() => {
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
            _ => None,
        })
    }

    fn load_candidates(&self) -> Vec<LoadedCandidate> {
        let loaded = self.with_conf_dir(|dir| load_candidates(dir, Libcni::V1_3));
        let named = |(name, loaded): (OsString, _)| (name.to_string_lossy().into_owned(), loaded);
        loaded.into_iter().map(named).collect()
    }

    /// The candidates that sort before `ours`. While there is such a file, containerd takes it or loads nothing.
    pub(super) fn list_files_before(
        &self,
        ours: &FileName,
    ) -> impl Iterator<Item = &LoadedCandidate> {
        let files = self.candidates.iter();
        files.filter(|(name, _)| sorts_before(name.as_ref(), ours))
    }

    /// The drop-ins that newer runtimes merge into the declared network, relative to the directory.
    pub(super) fn list_drop_ins(&self) -> Vec<PathBuf> {
        let Ok(RenderedConflist { summary, .. }) = &self.rendered else {
            return Vec::new();
        };
        if summary.only_inlined {
            return Vec::new();
        }
        let files = self.with_conf_dir(|dir| list_merged_drop_ins(&summary.name, dir));
        let network = PathBuf::from(&summary.name);
        files.into_iter().map(|file| network.join(file)).collect()
    }

    /// What is known about the writer of the file that has the declared conflist's name: its owner and its network.
    pub(super) fn describe_writer(&self, name: &FileName, state: &FileState) -> Option<String> {
        let FileState::Regular(file) = state else {
            return None;
        };
        let (_, loaded) = self
            .candidates
            .iter()
            .find(|(file, _)| *file == *name.as_str())?;
        let network = loaded.as_ref().ok()?;
        Some(format!(
            "uid {}, with the network '{}'",
            file.owner.uid, network.name
        ))
    }

    /// The files that sort before `ours`, except those whose names the agent cannot handle.
    pub(super) fn list_names_before(&self, ours: &FileName) -> Vec<FileName> {
        let earlier: Vec<OsString> = self.with_conf_dir(|dir| list_earlier_candidates(ours, dir));
        let names = earlier.iter();
        names
            .filter_map(|name| name.to_str()?.parse().ok())
            .collect()
    }
}
