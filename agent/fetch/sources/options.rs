//! What a download needs beside the artifact.

use std::io::{self, Read};
use std::path::PathBuf;

use super::health::SharedServerHealth;
use crate::config;
use crate::fetch::local_files::FileSource;
use crate::model::Pin;
use crate::retry::{RoundsPolicy, Spread};

/// How downloads are done: limits, seeds, and who takes part.
pub struct SourceOptions<'a> {
    /// Time limits, sizes, rounds and trust.
    pub settings: &'a config::FetchSettings,
    /// Directories that are asked before any source, by digest.
    pub seeds: &'a [PathBuf],
    /// Whether to use nothing but seeds and `file://` sources.
    pub offline: bool,
    /// Opens this machine's files, on threads of their own: a mount may hang.
    pub files: &'static dyn FileSource,
    /// Which servers were found dead.
    pub health: &'a SharedServerHealth,
    /// Who watches; `&()` for nobody.
    pub progress: &'a dyn DownloadProgress,
    /// The pauses between rounds.
    pub rounds: RoundsPolicy,
    /// Who keeps copies of what was verified; `None` for nobody.
    pub keep: Option<&'a dyn CopyKeeper>,
    /// Spreads the pauses over a cluster's nodes.
    pub spread: &'a Spread,
}

/// Keeps copies of what was downloaded.
pub trait CopyKeeper {
    /// Takes all bytes of a download, once they were verified as far as they can be.
    ///
    /// # Errors
    /// As the kernel gives them; the download then fails.
    fn keep_copy(&self, key: CopyKey<'_>, bytes: &mut dyn Read) -> io::Result<()>;
}

/// What a copy is known by.
#[derive(Debug, Clone, Copy)]
pub enum CopyKey<'a> {
    /// Its digest, which matched.
    Blob(&'a Pin),
    /// The URL that it is declared by; nothing was verified.
    Url(&'a str),
}

/// Somebody who watches a download, such as a progress bar.
pub trait DownloadProgress {
    /// `position` bytes are here of `total`, where that is known. A restart from zero shows as a fall.
    fn moved(&self, position: u64, total: Option<u64>);
}

/// Nobody watches.
impl DownloadProgress for () {
    fn moved(&self, _position: u64, _total: Option<u64>) {}
}
