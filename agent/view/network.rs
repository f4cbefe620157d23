//! What the container runtimes take from the configuration directory.

use super::text::display_safe;
use super::tone::Tone;
use crate::model::{Candidate, Directory, EffectiveNetwork, RuntimeView, Status};

/// What is known about the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkView {
    /// No network is declared.
    Undeclared,
    /// The configuration directory of this path could not be read.
    Unseen(String),
    /// The configuration directory was read.
    Seen(SeenNetwork),
}

/// The configuration directory as the runtimes see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenNetwork {
    /// The network that the newest containerd would load.
    pub taken: Option<TakenNetwork>,
    /// Each runtime.
    pub runtimes: Vec<RuntimeRow>,
    /// Where the files are.
    pub directory: String,
    /// The files that the runtimes read, in their order.
    pub candidates: Vec<CandidateRow>,
}

/// A network that a runtime takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenNetwork {
    /// The types of its plugins, in order.
    pub chain: Vec<String>,
    /// Its name.
    pub name: String,
    /// The file that it is in.
    pub file: String,
    /// The CNI version that the runtime selects.
    pub cni_version: String,
}

/// What one runtime takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeRow {
    /// The runtime.
    pub name: String,
    /// Good if it takes the declared conflist.
    pub tone: Tone,
    /// The file that it takes, if it takes any.
    pub takes: Option<String>,
    /// The network in that file.
    pub network: Option<String>,
    /// Why it takes no other file.
    pub reasons: Vec<String>,
}

/// One file that the runtimes read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateRow {
    /// Its name.
    pub name: String,
    /// Quiet if it sorts after the declared conflist: such a file is not read, or changes nothing.
    pub tone: Tone,
    /// Whether it is the declared conflist.
    pub is_declared: bool,
    /// The name of its network, if it loads.
    pub network: Option<String>,
    /// Why it does not load.
    pub error: Option<String>,
}

impl NetworkView {
    pub(super) fn new(status: &Status) -> Self {
        let declared = status.declared.conflist.as_deref();
        match (&status.directory, declared) {
            (Some(directory), declared) => Self::Seen(view_directory(directory, declared)),
            (None, Some(_)) => Self::Unseen(display_safe(status.declared.conf_dir.display())),
            (None, None) => Self::Undeclared,
        }
    }
}

fn view_directory(directory: &Directory, declared: Option<&str>) -> SeenNetwork {
    let candidates = &directory.candidates;
    let ours = candidates.iter().position(|file| file.ours);
    let matters = |index| ours.is_some_and(|ours| index <= ours);
    let rows = candidates.iter().enumerate();
    SeenNetwork {
        taken: directory.effective.as_ref().map(view_taken),
        runtimes: directory
            .runtimes
            .iter()
            .map(|runtime| view_runtime(runtime, declared))
            .collect(),
        directory: display_safe(directory.path.display()),
        candidates: rows
            .map(|(index, file)| view_candidate(file, matters(index)))
            .collect(),
    }
}

fn view_taken(network: &EffectiveNetwork) -> TakenNetwork {
    TakenNetwork {
        chain: network.chain.iter().map(display_safe).collect(),
        name: display_safe(&network.name),
        file: display_safe(&network.file),
        cni_version: display_safe(&network.cni_version),
    }
}

fn view_runtime(runtime: &RuntimeView, declared: Option<&str>) -> RuntimeRow {
    let tone = match (runtime.takes.as_deref(), declared) {
        // No conflist is declared, so there is no other file that it should take.
        (_, None) => Tone::Quiet,
        (Some(taken), Some(declared)) if taken == declared => Tone::Good,
        (_, Some(_)) => Tone::Bad,
    };
    RuntimeRow {
        name: display_safe(runtime.runtime),
        tone,
        takes: runtime.takes.as_ref().map(display_safe),
        network: runtime.network.as_ref().map(display_safe),
        reasons: runtime.why.iter().map(display_safe).collect(),
    }
}

fn view_candidate(file: &Candidate, matters: bool) -> CandidateRow {
    let tone = match (matters, file.ours, &file.error) {
        (false, _, _) => Tone::Quiet,
        (true, true, None) => Tone::Good,
        (true, _, _) => Tone::Bad,
    };
    CandidateRow {
        name: display_safe(&file.name),
        tone,
        is_declared: file.ours,
        network: file.network.as_ref().map(display_safe),
        error: file.error.as_ref().map(display_safe),
    }
}
