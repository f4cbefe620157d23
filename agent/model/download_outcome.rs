//! The results of downloads and of each source that was asked.

use serde::Serialize;

use super::{FailureKind, Timestamp};

/// One source that was asked for an artifact without success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceFailure {
    /// The source or seed, without user name, password and query.
    pub source: String,
    /// How many requests were made to it, redirects not counted.
    pub attempts: u32,
    pub reason: FailureKind,
    /// The same as a message, with what to do about it.
    pub message: String,
}

/// The result of the last download of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DownloadOutcome {
    /// The artifact, by the operator's name.
    pub artifact: String,
    /// When it ended.
    pub at: Timestamp,
    /// The source that gave it; `None` if no source did, or its bytes could not be used.
    pub from: Option<String>,
    /// Why the download failed, if the sources are not the cause: for example a bad archive or a full disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Every source that was asked without success, in order.
    pub failures: Vec<SourceFailure>,
}
