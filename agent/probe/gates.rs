//! Checks the gates (`network.requires`): conditions that must hold before the conflist is written.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::{self, Gate};
use crate::fetch;
use crate::host::{Host, HostError};

/// How long a peer may take to accept or answer.
const GATE_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a gate is closed. The message names the gate.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The file does not exist.
    #[error("file {} does not exist yet", path.display())]
    NoFile {
        /// The path, `--host-root` included.
        path: PathBuf,
    },
    /// The file cannot be checked.
    #[error(transparent)]
    File(#[from] HostError),
    /// Nobody accepts connections at the address.
    #[error("{what} does not accept connections: {source}")]
    Refused {
        /// `tcp HOST:PORT` or `unix PATH`.
        what: String,
        /// The kernel's or the resolver's answer.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("{what} did not answer within {} s", GATE_TIMEOUT.as_secs())]
    TimedOut {
        /// `tcp HOST:PORT`, `unix PATH` or `http URL`, the URL without secrets.
        what: String,
    },
    /// The URL answers, but not with 2xx.
    #[error("http {url} answered {status}")]
    Status {
        /// Without secrets.
        url: String,
        /// Number and words of the status line.
        status: String,
    },
    /// The URL cannot be asked.
    #[error("http {url} cannot be asked: {reason}")]
    Http {
        /// Without secrets.
        url: String,
        reason: String,
    },
}

/// Checks one gate, once. Takes at most [`GATE_TIMEOUT`].
///
/// # Errors
/// When the gate is closed, with the reason.
pub async fn check_gate(
    gate: &Gate,
    host: &Host,
    settings: &config::FetchSettings,
) -> Result<(), GateError> {
    match gate {
        Gate::File(path) => match host.exists(path)? {
            true => Ok(()),
            false => Err(GateError::NoFile {
                path: host.display_path(path),
            }),
        },
        Gate::Tcp(address) => {
            check_connection(format!("tcp {address}"), TcpStream::connect(address)).await
        }
        Gate::Unix(path) => match host.resolve_path(path) {
            Ok(real) => {
                check_connection(
                    format!("unix {}", real.display()),
                    UnixStream::connect(real),
                )
                .await
            }
            Err(error) if error.is_absent() => Err(GateError::NoFile {
                path: host.display_path(path),
            }),
            Err(error) => Err(error.into()),
        },
        Gate::Http(url) => check_http(url, settings).await,
    }
}

/// Sends a GET to `url` as written. A redirect counts as an answer other than 2xx. Error messages leave out what may
/// be a secret in the URL.
async fn check_http(url: &str, settings: &config::FetchSettings) -> Result<(), GateError> {
    let shown = fetch::redact_url(url);
    let client =
        fetch::local_client(settings.connect_timeout).map_err(|failure| GateError::Http {
            url: shown.clone(),
            reason: failure.to_string(),
        })?;
    match client.get(url).timeout(GATE_TIMEOUT).send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(GateError::Status {
            url: shown,
            status: answer.status().to_string(),
        }),
        Err(error) if error.is_timeout() => Err(GateError::TimedOut {
            what: format!("http {shown}"),
        }),
        Err(error) => Err(GateError::Http {
            url: shown,
            reason: fetch::innermost_message(&error),
        }),
    }
}

async fn check_connection<S>(
    what: String,
    attempt: impl Future<Output = io::Result<S>>,
) -> Result<(), GateError> {
    match timeout(GATE_TIMEOUT, attempt).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(source)) => Err(GateError::Refused { what, source }),
        Err(_) => Err(GateError::TimedOut { what }),
    }
}
