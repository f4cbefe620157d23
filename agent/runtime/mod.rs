//! What the container runtime itself says: whether it is ready for pods, and which network it has loaded.
//!
//! No disk shows this. containerd 1.6 and 1.7 lose their watch when the configuration directory is deleted and
//! re-created, and miss every change from then on until they are restarted; any of them may have been set to
//! other directories than the agent was.

mod answer;
mod compare;
mod grpc;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

pub use answer::{CniState, Condition, LoadedNetwork, RuntimeAnswer};
pub use compare::{Expected, compare};

use crate::host::{Host, HostError};

/// How long the runtime may take from the connection to the last byte; a kubelet gives it two minutes, and a
/// healthy one needs a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// `runtime.v1` is what containerd speaks from 1.6 on, and the only one that a kubelet has spoken since 1.26.
const STATUS: &str = "http://localhost/runtime.v1.RuntimeService/Status";

/// A runtime that could not be asked. Prints as `SOCKET does this or that; how to mend it`.
#[derive(Debug, thiserror::Error)]
#[error("{} {reason}", socket.display())]
pub struct RuntimeError {
    /// The socket, `--host-root` included.
    pub socket: PathBuf,
    /// Why there is no answer.
    #[source]
    pub reason: NoAnswer,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing is there.
    #[error(
        "is not there; is the container runtime running, and is runtime.endpoint its CRI socket?"
    )]
    Absent,
    /// The way to the socket is closed to us.
    #[error("cannot be reached: {0}")]
    Unreachable(#[source] HostError),
    /// Nobody accepts connections there, or not ours.
    #[error(
        "does not accept connections: {0}; is the container runtime running, and this agent allowed to ask it?"
    )]
    Refused(#[source] io::Error),
    /// No whole answer in time.
    #[error("did not answer within {} s; look at the container runtime's log", PATIENCE.as_secs())]
    Silent,
    /// The conversation ended before the answer, or was none in HTTP/2.
    #[error("broke off: {0}; is runtime.endpoint the container runtime's CRI socket?")]
    Broken(#[source] h2::Error),
    /// It answers, but not to gRPC.
    #[error(
        "does not speak gRPC: it answered with HTTP {0}; runtime.endpoint must be the CRI socket"
    )]
    NotGrpc(http::StatusCode),
    /// It does not know the service.
    #[error(
        "does not speak CRI v1; is \"cri\" among the disabled_plugins of containerd's config.toml, or is it older than 1.6?"
    )]
    NoCri,
    /// It answered with an error.
    #[error("answered with gRPC status {code}: {message}")]
    Failed {
        /// The status, a number; empty where it gave none.
        code: String,
        /// Its own words, on one line.
        message: String,
    },
    /// The answer is longer than any real one.
    #[error("answered with more than {} KiB; is runtime.endpoint the CRI socket?", grpc::LARGEST_ANSWER / 1024)]
    TooLarge,
    /// The answer cannot be read as one.
    #[error("answered Status with something else; is runtime.endpoint the CRI socket?")]
    NotAnAnswer,
}

/// Asks the runtime behind `endpoint`, a unix socket on the host, for its status. Changes nothing there.
///
/// # Errors
/// When it is not there, does not answer within 2 s, or answers something else.
pub async fn ask_runtime(host: &Host, endpoint: &Path) -> Result<RuntimeAnswer, RuntimeError> {
    let answer = match timeout(PATIENCE, ask(host, endpoint)).await {
        Ok(answer) => answer,
        Err(_) => Err(NoAnswer::Silent),
    };
    answer.map_err(|reason| RuntimeError {
        socket: host.shown(endpoint),
        reason,
    })
}

async fn ask(host: &Host, endpoint: &Path) -> Result<RuntimeAnswer, NoAnswer> {
    let socket = match host.locate(endpoint) {
        Ok(socket) => socket,
        Err(error) if error.is_absent() => return Err(NoAnswer::Absent),
        Err(error) => return Err(NoAnswer::Unreachable(error)),
    };
    let stream = UnixStream::connect(socket)
        .await
        .map_err(NoAnswer::Refused)?;
    let message = grpc::call(stream, STATUS, PATIENCE, &answer::verbose_request()).await?;
    let mut answer = answer::read(&message).ok_or(NoAnswer::NotAnAnswer)?;
    if let Some(cni) = &mut answer.cni {
        cni.conf_dir = real(host, &cni.conf_dir);
        for dir in &mut cni.bin_dirs {
            *dir = real(host, dir);
        }
    }
    Ok(answer)
}

/// Where a directory of the host really lies, links followed and `--host-root` included, so that two names of one
/// directory are equal; as it was said where it is not there.
#[must_use]
pub fn real(host: &Host, dir: &Path) -> PathBuf {
    host.locate(dir).unwrap_or_else(|_| host.shown(dir))
}
