//! What came of asking sources.

use serde::Serialize;

use super::{FailureKind, Timestamp};

/// One place that was asked for an artifact in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceFailure {
    /// The source or seed, without user name, password and query.
    pub source: String,
    /// How many requests were made to it, redirects not counted.
    pub attempts: u32,
    pub reason: FailureKind,
    /// The same for people, with what to do about it.
    pub message: String,
}

/// What came of the last download of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DownloadOutcome {
    /// The artifact, by the operator's name.
    pub artifact: String,
    /// When it ended.
    pub at: Timestamp,
    /// The source that gave it; `None` where none did, or what it gave could not be used.
    pub from: Option<String>,
    /// Why it brought nothing, where that is not the sources' doing: a bad archive, a full disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Every place that was asked in vain, in order.
    pub failures: Vec<SourceFailure>,
}
