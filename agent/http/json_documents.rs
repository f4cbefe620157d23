//! The JSON documents of `/status`, `/drift` and `/conflist`.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::model::{
    Candidate, Directory, DriftLog, DriftRecord, Outcome, RuntimeView, Status, StatusDocument,
    escape_json,
};
use crate::redact::redact_json;

/// Shown instead of a file that a runtime can parse but this agent cannot: secrets in it cannot be found and removed.
const UNPARSED: &str = "[not shown: it is not plain JSON, so secrets in it cannot be recognized]";

/// `/conflist`.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct ConflistDocument<'a> {
    directory: Option<&'a Path>,
    /// The file that the newest containerd takes, if it takes any.
    file: Option<&'a str>,
    network: Option<&'a str>,
    cni_version: Option<&'a str>,
    chain: &'a [String],
    /// What each runtime takes, and why it is that file.
    runtimes: &'a [RuntimeView],
    /// All files that they look at, in their order.
    candidates: &'a [Candidate],
    /// The file's content without its secrets.
    content: Option<Value>,
}

/// The whole status.
///
/// # Errors
/// When a path in it is not UTF-8, since JSON cannot hold that.
pub(super) fn status_document(status: Arc<Status>) -> serde_json::Result<String> {
    render_json(&StatusDocument {
        ready: status.is_ready(),
        status,
    })
}

/// The drift log.
///
/// # Errors
/// As for [`status_document`].
pub(super) fn drift_document(status: &Status) -> serde_json::Result<String> {
    let is_open = |entry: &&Arc<DriftRecord>| matches!(entry.outcome, Outcome::Open { .. });
    render_json(&DriftLog {
        open: status.drift.iter().filter(is_open).count(),
        entries: status.drift.clone(),
    })
}

/// The network that the runtime takes, and why that one.
///
/// # Errors
/// As for [`status_document`].
pub(super) fn conflist_document(status: &Status) -> serde_json::Result<String> {
    let view = status.directory.as_ref().map(describe_conflist);
    render_json(&view.unwrap_or_default())
}

fn describe_conflist(directory: &Directory) -> ConflistDocument<'_> {
    let mut view = ConflistDocument {
        directory: Some(&directory.path),
        runtimes: &directory.runtimes,
        candidates: &directory.candidates,
        ..ConflistDocument::default()
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

/// A document without secrets, indented for people with curl.
fn render_json(document: &impl Serialize) -> serde_json::Result<String> {
    let mut value = serde_json::to_value(document)?;
    redact_json(&mut value);
    let mut text = escape_json(&serde_json::to_string_pretty(&value)?).into_owned();
    text.push('\n');
    Ok(text)
}
