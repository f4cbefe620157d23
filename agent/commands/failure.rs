//! Why a command failed, and the exit code for it.

use super::output::Exit;
use super::status::error::AgentQueryError;
use crate::bundle::BundleError;
use crate::config::{CatalogError, ConfigErrors};
use crate::host::HostError;
use crate::http::BindError;
use crate::reconcile::ReconcileError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// The configuration file cannot be read.
    #[error("{0}; name a configuration with --config FILE")]
    NoConfig(#[source] HostError),
    /// The configuration file is not UTF-8.
    #[error("{0} is not UTF-8 text; save it as UTF-8")]
    NotText(String),
    /// A running agent got a configuration that cannot be read a second time.
    #[error(
        "run reads its configuration again when it changes, and {0} can be read only once; name a file with --config"
    )]
    StreamedConfig(String),
    /// The configuration has mistakes.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The conflist has mistakes, one text for each, with file and line.
    #[error("{}", .0.join("\n"))]
    Conflist(Vec<String>),
    /// The host root cannot be opened.
    #[error("{0}; check --host-root")]
    HostRoot(#[source] HostError),
    /// The pass failed.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// The process cannot open the descriptors that it needs.
    #[error("cannot start: {0}; raise the limit on open files (ulimit -n)")]
    Runtime(#[source] std::io::Error),
    /// The agent cannot listen on an address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A mount was removed under the running agent.
    #[error("the agent ends, to be started again: {0}")]
    RemovedMount(#[source] HostError),
    /// The running agent gives no usable answer.
    #[error(transparent)]
    AgentQuery(#[from] AgentQueryError),
    /// A bundle cannot be made.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The built-in catalog is broken.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl CommandError {
    /// What went wrong, one text for each mistake.
    pub(super) fn mistakes(&self) -> Vec<String> {
        match self {
            Self::Config(errors) => errors.all().iter().map(ToString::to_string).collect(),
            Self::Conflist(lines) => lines.clone(),
            other => vec![other.to_string()],
        }
    }

    pub(super) const fn exit_code(&self) -> Exit {
        match self {
            Self::NoConfig(_)
            | Self::NotText(_)
            | Self::StreamedConfig(_)
            | Self::Config(_)
            | Self::Conflist(_)
            | Self::HostRoot(_)
            | Self::Reconcile(ReconcileError::Moved { .. }) => Exit::Usage,
            Self::Reconcile(_)
            | Self::Runtime(_)
            | Self::Bind(_)
            | Self::RemovedMount(_)
            | Self::AgentQuery(_)
            | Self::Bundle(_)
            | Self::Catalog(_) => Exit::Failed,
        }
    }
}
