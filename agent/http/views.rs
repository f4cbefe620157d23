//! The JSON views of a status.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::redact::redact;
use crate::model::{Candidate, Directory, DriftEntry, Outcome, RuntimeView, Status};

/// What stands for a file that a runtime reads and this agent's parser does not: nothing can be taken out of it.
const UNPARSED: &str =
    "[not shown: it is not plain JSON, so secrets in it could not be told from the rest]";

/// `/status`.
#[derive(Serialize)]
struct StatusView<'a> {
    ready: bool,
    #[serde(flatten)]
    status: &'a Status,
}

/// `/drift`.
#[derive(Serialize)]
struct DriftView<'a> {
    /// How many are not over.
    open: usize,
    /// Newest first.
    entries: Vec<&'a DriftEntry>,
}

/// `/conflist`.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct ConflistView<'a> {
    directory: Option<&'a Path>,
    /// The file that the newest containerd takes, if it takes any.
    file: Option<&'a str>,
    network: Option<&'a str>,
    cni_version: Option<&'a str>,
    chain: &'a [String],
    /// What each runtime takes, and why it is that file.
    runtimes: &'a [RuntimeView],
    /// All that they look at, in their order.
    candidates: &'a [Candidate],
    /// The file's content without its secrets.
    content: Option<Value>,
}

/// The whole status.
///
/// # Errors
/// When a path in it is not UTF-8, which JSON cannot hold.
pub(super) fn status(status: &Status) -> serde_json::Result<String> {
    document(&StatusView {
        ready: status.is_ready(),
        status,
    })
}

/// The drift log.
///
/// # Errors
/// As [`status`].
pub(super) fn drift(status: &Status) -> serde_json::Result<String> {
    let is_open = |entry: &&Arc<DriftEntry>| matches!(entry.outcome, Outcome::Open { .. });
    document(&DriftView {
        open: status.drift.iter().filter(is_open).count(),
        entries: status.drift.iter().map(Arc::as_ref).collect(),
    })
}

/// The network that the runtime takes, and why that one.
///
/// # Errors
/// As [`status`].
pub(super) fn conflist(status: &Status) -> serde_json::Result<String> {
    let view = status.directory.as_ref().map(conflist_of);
    document(&view.unwrap_or_default())
}

fn conflist_of(directory: &Directory) -> ConflistView<'_> {
    let mut view = ConflistView {
        directory: Some(&directory.path),
        runtimes: &directory.runtimes,
        candidates: &directory.candidates,
        ..ConflistView::default()
    };
    if let Some(network) = &directory.effective {
        view.file = Some(&network.file);
        view.network = Some(&network.name);
        view.cni_version = Some(&network.cni_version);
        view.chain = &network.chain;
        let content = serde_json::from_str(&network.text);
        view.content = Some(content.unwrap_or_else(|_| Value::from(UNPARSED)));
    }
    view
}

/// A document without secrets, for people with curl as well as for programs.
fn document(view: &impl Serialize) -> serde_json::Result<String> {
    let mut value = serde_json::to_value(view)?;
    redact(&mut value);
    let mut text = serde_json::to_string_pretty(&value)?;
    text.push('\n');
    Ok(text)
}
