//! The conflist as it would be written, and the directory for it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::conflist_facts::{Collected, collect_facts};
use super::context::Context;
use super::error::ReconcileError;
use super::foreign_files::{ForeignFiles, ForeignReading, LARGEST_CONFLIST};
use crate::cni::{
    ConfDir, ConflistSummary, DirEntry, DropIns, Finding, Libcni, LibcniNetwork, LoadError,
    RenderError, RenderProblem, RequiredPlugin, check_plugins, check_ranges,
    list_earlier_candidates, list_merged_drop_ins, list_required_plugins, load_candidates,
    render_conflist, sorts_before, validate_conflist,
};
use crate::config::{FactSource, NetworkSettings};
use crate::host::Host;
use crate::model::{FileName, FileState, NodeFacts, Sha256};

/// The conflist and its directory, as observed.
#[derive(Debug)]
pub struct ObservedNetwork {
    /// The conflist as it would be written, or why it cannot be.
    pub rendered: Result<RenderedConflist, NotRendered>,
    /// Whether the configuration directory does not exist.
    pub(super) is_absent: bool,
    /// Why the configuration directory cannot be opened or listed, if it exists.
    pub(super) dir_fault: Option<String>,
    /// Why declared envFiles that are there cannot be used. The conflist is made of what was last taken from them.
    pub(super) broken_facts: Vec<String>,
    /// Every file that the runtimes consider, in their order, and what libcni loads from it.
    pub(super) candidates: Vec<LoadedCandidate>,
    /// The text of the first of them, if it loads. Of a file of others only the beginning.
    pub(super) effective_text: Option<String>,
    entries: Vec<DirEntry>,
    drop_ins: Mutex<KnownDropIns>,
    host: Host,
    path: PathBuf,
}

/// The directories of drop-ins that were listed in this pass.
#[derive(Debug)]
struct KnownDropIns {
    reading: ForeignReading,
    by_name: HashMap<String, DropIns>,
}

/// How many directories of drop-ins are listed in one pass. Other files decide how many there are.
const MOST_DROP_IN_DIRS: usize = 256;

/// How much of the text of a foreign conflist is shown, in bytes.
const LONGEST_FOREIGN_TEXT: usize = 64 << 10;

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
/// When the state directory cannot be read, or the machine itself lacks something. What is wrong with an input of the
/// conflist or with its directory is part of the result.
pub(super) fn observe_network(
    context: &Context,
    foreign: &ForeignFiles,
) -> Result<Option<ObservedNetwork>, ReconcileError> {
    let Some(declared) = &context.settings.network else {
        return Ok(None);
    };
    let Collected {
        facts,
        unready,
        broken,
        lacks_a_file,
    } = collect_facts(
        &context.settings,
        &context.host,
        context.given_node_name.as_deref(),
        context.node_facts()?.as_ref(),
        &context.env_files,
    );
    let rendered = match render_conflist(&declared.conflist, &facts) {
        _ if lacks_a_file => Err(NotRendered::Waiting(broken.join("; "))),
        Ok(text) => check_conflist(text, declared).map_err(NotRendered::Wrong),
        // The missing values may be in a file that is not ready, or may still be written to an existing file.
        Err(error) => match unready.or_else(|| why_values_may_come(&error, declared, context)) {
            Some(reason) => Err(NotRendered::Waiting(reason)),
            None => Err(NotRendered::Wrong(error.into())),
        },
    };
    let mut reading = foreign.begin_reading();
    let listed = context.open_conf_dir().and_then(|dir| match dir {
        Some(dir) => Ok(Some(reading.read_entries(&dir, Some(&declared.file_name))?)),
        None => Ok(None),
    });
    let (entries, dir_fault) = match listed {
        Ok(entries) => (entries, None),
        Err(error) if error.is_the_machines() => return Err(error.into()),
        Err(error) => (Some(Vec::new()), Some(error.to_string())),
    };
    let mut network = ObservedNetwork {
        rendered,
        is_absent: entries.is_none(),
        dir_fault,
        broken_facts: broken,
        candidates: Vec::new(),
        effective_text: None,
        entries: entries.unwrap_or_default(),
        drop_ins: Mutex::new(KnownDropIns {
            reading,
            by_name: HashMap::new(),
        }),
        host: context.host.clone(),
        path: context.settings.paths.conf_dir.clone(),
    };
    network.candidates = network.load_candidates();
    network.list_drop_ins();
    network.effective_text = network.read_effective(&declared.file_name);
    network.end_reading(foreign);
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
        question(&ConfDir {
            entries: &self.entries,
            drop_ins: &|name| self.list_known_drop_ins(name),
        })
    }

    /// The entries of `<confDir>/<name>`. Each directory is listed once.
    fn list_known_drop_ins(&self, name: &str) -> DropIns {
        let mut known = self.drop_ins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.by_name.get(name) {
            return known.clone();
        }
        if known.by_name.len() >= MOST_DROP_IN_DIRS {
            return DropIns::Absent;
        }
        let found = match self.host.open_dir(&self.path.join(name)) {
            Ok(dir) => match known.reading.read_entries(&dir, None) {
                Ok(entries) => DropIns::Entries(entries.into()),
                Err(error) => DropIns::Unreadable(error.to_string()),
            },
            Err(error) if error.is_absent() => DropIns::Absent,
            Err(error) => DropIns::Unreadable(error.to_string()),
        };
        known.by_name.insert(name.to_owned(), found.clone());
        found
    }

    fn end_reading(&self, foreign: &ForeignFiles) {
        let mut known = self.drop_ins.lock().unwrap_or_else(PoisonError::into_inner);
        foreign.end_reading(&mut known.reading);
    }

    /// The text of the file that containerd takes.
    fn read_effective(&self, ours: &FileName) -> Option<String> {
        let (name, loaded) = self.candidates.first()?;
        loaded.as_ref().ok()?;
        let mut bytes = self.read_bytes(&name.parse().ok()?)?;
        if name != ours.as_str() && bytes.len() > LONGEST_FOREIGN_TEXT {
            bytes.truncate(LONGEST_FOREIGN_TEXT);
            bytes.extend_from_slice("…".as_bytes());
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The text of a file in the directory, if it can be read.
    #[must_use]
    pub fn read_file(&self, name: &FileName) -> Option<String> {
        let bytes = self.read_bytes(name)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn read_bytes(&self, name: &FileName) -> Option<Vec<u8>> {
        let dir = self.host.open_dir(&self.path).ok()?;
        dir.read_file(name.as_str().as_ref(), LARGEST_CONFLIST).ok()
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
