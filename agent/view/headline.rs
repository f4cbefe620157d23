//! Whether the node is ready, and how fresh that answer is.

use std::time::SystemTime;

use super::text::{ShownTime, count_of, display_safe};
use super::tone::Tone;
use crate::model::{Status, WatchMode};

/// The answer to a reader's first question: is the node ready?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headline {
    /// The node's name, if known.
    pub node: Option<String>,
    /// `Ready` or `Not ready`.
    pub word: &'static str,
    /// Good or bad. Warnings do not make a node less ready.
    pub tone: Tone,
    /// The first reason why the node is not ready.
    pub reason: Option<String>,
    /// What `Ready` means on this node, as a sentence.
    pub meaning: String,
    /// How old the answer is and who gives it, in short parts.
    pub freshness: Vec<String>,
}

impl Headline {
    pub(super) fn new(status: &Status, now: SystemTime) -> Self {
        let (word, tone) = match status.is_ready() {
            true => ("Ready", Tone::Good),
            false => ("Not ready", Tone::Bad),
        };
        let mut checks = status.snapshot.checks.iter();
        Self {
            node: status.agent.node.as_ref().map(display_safe),
            word,
            tone,
            reason: checks.find_map(|check| check.failures.first().map(display_safe)),
            meaning: describe_ready(status),
            freshness: describe_freshness(status, now),
        }
    }
}

fn describe_ready(status: &Status) -> String {
    let files = match status.snapshot.files.len() {
        0 => return "Nothing is declared.".to_owned(),
        number => count_of(number, "file"),
    };
    let directory = status.directory.as_ref();
    match directory.and_then(|directory| directory.effective.as_ref()) {
        Some(network) => display_safe(format!(
            "{files} as declared, and the runtimes take the network {} from {}.",
            network.name, network.file
        )),
        None => format!("{files} as declared."),
    }
}

fn describe_freshness(status: &Status, now: SystemTime) -> Vec<String> {
    let observed = ShownTime::new(status.looked, now);
    let read = match status.verified {
        Some(at) => format!("all files read {}", ShownTime::new(at, now).age_or_exact()),
        None => "not all files read yet".to_owned(),
    };
    let watch = match status.watch {
        WatchMode::Events => "notified by the kernel",
        WatchMode::Polling { .. } => "polling",
    };
    let started = match ShownTime::new(status.agent.started, now).age {
        Some(age) => format!(", started {age}"),
        None => String::new(),
    };
    vec![
        format!("checked {}", observed.age_or_exact()),
        read,
        watch.to_owned(),
        format!("agent {}{started}", display_safe(&status.agent.version)),
    ]
}
