//! Mistakes in a configuration. Each is one line: where, which key, what is wrong, how to fix it.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

use super::location::{Location, TextSource};
use crate::model::{clip_middle, escape_controls, nearest_word};
use crate::redact::redact_text;

/// Every mistake found in a configuration; prints one line for each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", join_lines(.0))]
pub struct ConfigErrors(Vec<ConfigError>);

/// The most mistakes that are listed; the last one then counts the rest.
const MAX_MISTAKES: usize = 100;
/// The most bytes of a key's path that are shown.
const MAX_KEY_BYTES: usize = 200;
/// The most bytes of a message, which may quote a value of the file.
const MAX_MESSAGE_BYTES: usize = 600;

/// One mistake. Prints as `FILE:LINE: KEY: what is wrong; how to fix it`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named on the command line.
    pub file: PathBuf,
    /// The line in the file, from 1; `None` for a mistake in a flag.
    pub line: Option<u32>,
    /// The column, from 1; only if the file could not be parsed.
    pub column: Option<u32>,
    /// The built-in profile that contains the key, if that is not the file itself. `line` is then the line that names
    /// the profile.
    pub profile: Option<String>,
    /// The path of the key, as in `artifacts[0].sha256.amd64`, or a flag; empty for the whole file.
    pub key: String,
    /// What is wrong and how to fix it.
    pub message: String,
}

impl ConfigErrors {
    /// The mistakes in the order of the file; never empty.
    #[must_use]
    pub fn all(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.file.display().to_string();
        for number in [self.line, self.column].into_iter().flatten() {
            text.push_str(&format!(":{number}"));
        }
        if let Some(profile) = &self.profile {
            text.push_str(&format!(": profile {profile}"));
        }
        if !self.key.is_empty() {
            text.push_str(&format!(": {}", self.key));
        }
        text.push_str(&format!(": {}", self.message));
        // The message quotes parts of the file. A line break in them must not look like a second message.
        f.write_str(&escape_controls(&text))
    }
}

fn join_lines(errors: &[ConfigError]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// A mistake without the name of its file, which is added later.
#[derive(Debug)]
pub(super) struct Problem {
    at: Location,
    column: Option<u32>,
    what: String,
}

impl Problem {
    pub(super) fn new(at: &Location, what: impl Into<String>) -> Self {
        Self {
            at: at.clone(),
            column: None,
            what: what.into(),
        }
    }

    /// Adds the column, for a mistake that has no key path.
    pub(super) fn in_column(self, column: u32) -> Self {
        Self {
            column: Some(column),
            ..self
        }
    }
}

/// The mistakes found so far. All functions that read the configuration share it, so it is a cell.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// Notes a mistake.
    pub(super) fn add(&self, at: &Location, what: impl Into<String>) {
        self.push(Problem::new(at, what));
    }

    pub(super) fn push(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    /// How many there are. A caller compares two counts to see whether a step added one.
    pub(super) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    /// Turns the mistakes into errors with the name of the file. `profile` is the profile's name and the line that
    /// names it.
    pub(super) fn into_errors(self, file: &Path, profile: Option<(&str, u32)>) -> ConfigErrors {
        let mut errors: Vec<ConfigError> = self
            .0
            .into_inner()
            .into_iter()
            .map(|problem| locate(problem, file, profile))
            .collect();
        errors.sort_by_key(|error| (error.line, error.column));
        if let Some(rest) = errors
            .len()
            .checked_sub(MAX_MISTAKES)
            .filter(|rest| *rest > 0)
        {
            errors.truncate(MAX_MISTAKES);
            errors.push(ConfigError {
                file: file.to_owned(),
                line: None,
                column: None,
                profile: None,
                key: String::new(),
                message: format!("{rest} more mistakes are not listed; correct these first"),
            });
        }
        ConfigErrors(errors)
    }
}

fn locate(problem: Problem, file: &Path, profile: Option<(&str, u32)>) -> ConfigError {
    let Problem { at, column, what } = problem;
    let (line, profile) = match at.source {
        TextSource::File => (Some(at.line), None),
        TextSource::Flag => (None, None),
        TextSource::Profile => (
            profile.map(|(_, line)| line),
            profile.map(|(name, _)| name.to_owned()),
        ),
    };
    ConfigError {
        file: file.to_owned(),
        line,
        column,
        profile,
        key: clip_middle(&at.path, MAX_KEY_BYTES).into_owned(),
        message: clip_middle(&redact_text(&what), MAX_MESSAGE_BYTES).into_owned(),
    }
}

/// `; did you mean 'x'?` or nothing.
pub(super) fn suggestion(word: &str, known: &[&str]) -> String {
    nearest_word(word, known).map_or_else(String::new, |near| format!("; did you mean '{near}'?"))
}
