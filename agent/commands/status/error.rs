//! Why the running agent could not be asked.

use std::net::SocketAddr;

/// The agent gave no answer, or none that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::commands) enum AgentQueryError {
    #[error(
        "no agent answers at http://{address} ({reason}); is it running? --address asks elsewhere, and \
         `cni-keeper verify` checks the disk without it"
    )]
    NoAnswer { address: SocketAddr, reason: String },
    /// Something answers, but it is no agent.
    #[error(
        "http://{address}{path} answers {reason}; --address asks elsewhere, and `cni-keeper verify` checks the \
         disk without it"
    )]
    Unexpected {
        address: SocketAddr,
        path: &'static str,
        reason: String,
    },
    /// The HTTP client could not be made.
    #[error("cannot ask the agent: {0}")]
    Client(String),
}
