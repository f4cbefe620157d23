//! The declared files: what must be there, and what is.

use std::path::Path;

use super::text::display_safe;
use super::tone::Tone;
use crate::model::{Difference, FileReport, Sha256, Standing, Status};

/// One declared file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// Its whole path.
    pub path: String,
    /// How it stands.
    pub tone: Tone,
    /// The same in a word: `ok`, `kept`, `waiting`, or the kinds of its drifts.
    pub word: String,
    /// The same as a sentence without its subject.
    pub state: String,
    /// Where it comes from.
    pub origin: String,
    /// What it must hold and what it holds.
    pub digests: FileDigests,
}

/// The digests of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileDigests {
    /// Both are the same, or only one applies.
    One(Sha256),
    /// They differ, or one of them is not known.
    Pair {
        /// The declared one, if it is known.
        expected: Option<Sha256>,
        /// The one on the disk, if there is a readable file.
        actual: Option<Sha256>,
    },
}

/// The files, the wrong ones first.
pub(super) fn file_rows(status: &Status) -> Vec<FileRow> {
    let rows = status.snapshot.files.iter().map(file_row);
    let (right, wrong): (Vec<FileRow>, Vec<FileRow>) = rows.partition(FileRow::is_right);
    wrong.into_iter().chain(right).collect()
}

impl FileRow {
    /// Whether there is nothing to do about it.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.tone == Tone::Good
    }
}

fn file_row(file: &FileReport) -> FileRow {
    let name = file.path.file_name().unwrap_or(file.path.as_os_str());
    let directory = file.path.parent().map(Path::display);
    FileRow {
        name: display_safe(name.display()),
        directory: directory.map(display_safe).unwrap_or_default(),
        path: display_safe(file.path.display()),
        tone: tone_of(file.standing),
        word: describe_in_a_word(file),
        state: describe_state(file),
        origin: display_safe(&file.origin),
        digests: digests_of(file),
    }
}

const fn tone_of(standing: Standing) -> Tone {
    match standing {
        Standing::Ok | Standing::Kept => Tone::Good,
        Standing::Waiting => Tone::Odd,
        Standing::Drift => Tone::Bad,
    }
}

fn describe_in_a_word(file: &FileReport) -> String {
    match file.standing {
        Standing::Ok => "ok".to_owned(),
        Standing::Kept => "kept".to_owned(),
        Standing::Waiting => "waiting".to_owned(),
        Standing::Drift => {
            let kinds = file.drifts.iter().map(|drift| drift.kind().as_str());
            kinds.collect::<Vec<_>>().join(", ")
        }
    }
}

fn describe_state(file: &FileReport) -> String {
    match file.standing {
        Standing::Ok => "as declared".to_owned(),
        Standing::Kept => "the node’s own build, kept".to_owned(),
        Standing::Waiting => "what it must be is not known yet".to_owned(),
        Standing::Drift => {
            let drifts: Vec<String> = file.drifts.iter().map(describe_drift).collect();
            display_safe(drifts.join("; "))
        }
    }
}

/// The digests stand beside it, so they are not repeated.
fn describe_drift(drift: &Difference) -> String {
    match drift {
        Difference::Content { .. } => "has other content".to_owned(),
        other => other.to_string(),
    }
}

fn digests_of(file: &FileReport) -> FileDigests {
    match (file.expected, file.actual) {
        (Some(expected), Some(actual)) if expected == actual => FileDigests::One(actual),
        (None, Some(actual)) if file.standing == Standing::Kept => FileDigests::One(actual),
        (expected, actual) => FileDigests::Pair { expected, actual },
    }
}
