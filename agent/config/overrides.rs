//! What goes before the file.

use std::path::PathBuf;

use crate::model::Arch;

/// What flags and environment say; each goes before the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--bin-dir`, in place of `paths.binDir`.
    pub bin_dir: Option<PathBuf>,
    /// `--conf-dir`, in place of `paths.confDir`.
    pub conf_dir: Option<PathBuf>,
    /// `--state-dir`, in place of `paths.stateDir`.
    pub state_dir: Option<PathBuf>,
    /// `--seed`, before `seeds`.
    pub seeds: Vec<PathBuf>,
    /// The node's architecture, where it is not this program's.
    pub arch: Option<Arch>,
}
