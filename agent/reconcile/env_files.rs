//! Reads envFiles, each when its writer has closed it, so that nothing half-written is published.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::cni::parse_env_file;
use crate::host::{Host, HostError};
use crate::watch::UnclosedFiles;

/// The largest envFile that is read, in bytes; real ones have a few lines.
const LARGEST: u64 = 64 * 1024;

/// Where nobody saw the writer, a file that was not written to for so long is taken for closed.
const QUIET: Duration = Duration::from_millis(10);

/// How often a file that changes all the time is read in one pass.
const READINGS: u32 = 4;

/// What an envFile provides.
#[derive(Debug, Clone)]
pub(super) enum EnvFileContent {
    Values(Vec<(String, Value)>),
    /// It is absent or incomplete, for this reason. Its writer may still complete it.
    NotReady(String),
    /// It is there and cannot be used.
    Broken {
        /// Why, and how to fix it.
        reason: String,
        /// What was last taken from it, while it could be used.
        last: Option<Vec<(String, Value)>>,
    },
}

/// The envFiles of one declaration, with what was last taken from each.
#[derive(Debug, Clone, Default)]
pub(super) struct EnvFiles {
    unclosed: UnclosedFiles,
    taken: Arc<Mutex<BTreeMap<PathBuf, Taken>>>,
}

#[derive(Debug, Clone)]
struct Taken {
    bytes: Vec<u8>,
    content: EnvFileContent,
}

impl EnvFiles {
    /// Uses what the watcher knows of writers.
    pub(super) fn watched(unclosed: UnclosedFiles) -> Self {
        Self {
            unclosed,
            taken: Arc::default(),
        }
    }

    /// What the file provides. While somebody writes it, that is what was taken from it before. Blocks for at most some
    /// tens of milliseconds.
    pub(super) fn read(&self, host: &Host, path: &Path) -> EnvFileContent {
        let shown = host.display_path(path);
        match self.read_closed(host, path) {
            Ok(Some(bytes)) => self.take(path, bytes, &shown),
            Ok(None) => self.last_taken(path).unwrap_or_else(|| {
                EnvFileContent::NotReady(format!("{} is being written", shown.display()))
            }),
            Err(error) if error.is_absent() => {
                self.forget(path);
                EnvFileContent::NotReady(format!("{} does not exist yet", shown.display()))
            }
            Err(error) => EnvFileContent::Broken {
                reason: format!(
                    "network.facts: envFile: {error}; it must be a readable file of at most {} KiB",
                    LARGEST >> 10
                ),
                last: match self.last_taken(path) {
                    Some(EnvFileContent::Values(values)) => Some(values),
                    _ => None,
                },
            },
        }
    }

    /// The content of a file that nobody writes; none if somebody does.
    fn read_closed(&self, host: &Host, path: &Path) -> Result<Option<Vec<u8>>, HostError> {
        let mut earlier: Option<Vec<u8>> = None;
        for _ in 0..READINGS {
            let real = host.resolve_path(path)?;
            let file = host.open_file(path)?;
            let is_quiet = file.modified().is_some_and(|modified| {
                SystemTime::now()
                    .duration_since(modified)
                    .is_ok_and(|age| age > QUIET)
            });
            let bytes = file.read_to_vec(LARGEST)?;
            // Asked after the reading, so that a write before it is known.
            let is_written = self.unclosed.is_written(&real);
            if is_written {
                return Ok(None);
            }
            let is_same = earlier.as_ref() == Some(&bytes) || self.is_taken(path, &bytes);
            if is_quiet || is_same {
                return Ok(Some(bytes));
            }
            earlier = Some(bytes);
            thread::sleep(QUIET);
        }
        Ok(None)
    }

    fn take(&self, path: &Path, bytes: Vec<u8>, shown: &Path) -> EnvFileContent {
        let content = match parse_env_file(&String::from_utf8_lossy(&bytes)) {
            Ok(values) => EnvFileContent::Values(values),
            Err(error) => EnvFileContent::NotReady(format!("{}: {error}", shown.display())),
        };
        let taken = Taken {
            bytes,
            content: content.clone(),
        };
        self.with_taken(|all| all.insert(path.to_owned(), taken));
        content
    }

    fn is_taken(&self, path: &Path, bytes: &[u8]) -> bool {
        self.with_taken(|all| all.get(path).is_some_and(|taken| taken.bytes == bytes))
    }

    fn last_taken(&self, path: &Path) -> Option<EnvFileContent> {
        self.with_taken(|all| all.get(path).map(|taken| taken.content.clone()))
    }

    fn forget(&self, path: &Path) {
        self.with_taken(|all| all.remove(path));
    }

    fn with_taken<T>(&self, question: impl FnOnce(&mut BTreeMap<PathBuf, Taken>) -> T) -> T {
        question(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
