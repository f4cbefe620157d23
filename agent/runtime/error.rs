//! Why the container runtime gave no answer.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::host::HostError;
use crate::model::quote_error;

/// The time limit for the whole call, from the connection to the last byte. A kubelet waits two minutes, and a healthy
/// runtime needs a few milliseconds.
pub(super) const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of an answer is read, in bytes. An answer of containerd has about ten thousand, most of them its
/// configuration.
pub(super) const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// A runtime that gave no answer. Prints as `SOCKET does this or that; how to fix it`.
#[derive(Debug, thiserror::Error)]
#[error("{} {reason}", socket.display())]
pub struct RuntimeError {
    /// The socket, `--host-root` included.
    pub socket: PathBuf,
    /// Why there is no answer.
    #[source]
    pub reason: StatusCallError,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum StatusCallError {
    /// The socket does not exist.
    #[error(
        "is not there; is the container runtime running, and is runtime.endpoint its CRI socket?"
    )]
    NoSocket,
    /// The directory of the socket does not exist either, in this container.
    #[error(
        "is not there, nor is its directory; mount the host's {} into this container (hostPath), or correct runtime.endpoint",
        .0.display()
    )]
    NotMounted(PathBuf),
    /// The path to the socket cannot be followed.
    #[error("cannot be reached: {0}")]
    Unreachable(#[source] HostError),
    #[error(
        "does not accept connections: {0}; is the container runtime running, and is runtime.endpoint its CRI socket?"
    )]
    Refused(#[source] io::Error),
    /// No complete answer in time.
    #[error("did not answer within {} s; look at the container runtime's log", STATUS_TIMEOUT.as_secs())]
    TimedOut,
    /// The connection ended before the answer, or the other side does not speak HTTP/2.
    #[error("broke off: {}; is runtime.endpoint the container runtime's CRI socket?", quote_error(.0))]
    Broken(#[source] h2::Error),
    #[error(
        "does not speak gRPC: it answered with HTTP {0}; runtime.endpoint must be the CRI socket"
    )]
    NotGrpc(http::StatusCode),
    /// The runtime does not know the service (gRPC status 12, `UNIMPLEMENTED`).
    #[error(
        "does not speak CRI v1; is \"cri\" among the disabled_plugins of containerd's config.toml, or is it older than 1.6?"
    )]
    NoCri,
    /// The runtime answered with another gRPC error.
    #[error("answered with gRPC status {code}: {message}")]
    Failed {
        /// The gRPC status, a number; empty if the answer has none.
        code: String,
        /// The runtime's own text, on one line.
        message: String,
    },
    #[error("answered with more than {} KiB; is runtime.endpoint the CRI socket?", MAX_ANSWER_BYTES / 1024)]
    TooLarge,
    /// The answer is not a `StatusResponse`.
    #[error("answered Status with something else; is runtime.endpoint the CRI socket?")]
    NotAnAnswer,
}
