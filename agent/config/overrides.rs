//! Values from flags and environment variables.

use std::path::PathBuf;

use crate::model::Arch;

/// Values from flags and environment variables. Each overrides the file.
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
    /// The node's architecture, if it is not the one of this program.
    pub arch: Option<Arch>,
}
