//! The CRI `Status` call, by which the runtime says whether it is ready and which network it has loaded.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::cri_messages::{CriStatus, decode_status, encode_request};
use super::error::{RuntimeError, STATUS_TIMEOUT, StatusCallError};
use super::grpc::call_unary;
use crate::host::{Host, HostError};

/// The method. containerd has had `runtime.v1` since 1.6, and a kubelet has required it since 1.26.
const STATUS_METHOD: &str = "http://localhost/runtime.v1.RuntimeService/Status";

/// Makes the CRI `Status` call to the runtime behind `endpoint`, a unix socket on the host. Changes nothing there.
///
/// # Errors
/// When the socket does not exist, or the runtime does not answer within 2 s, or answers something else.
pub async fn query_runtime_status(host: &Host, endpoint: &Path) -> Result<CriStatus, RuntimeError> {
    let answer = match timeout(STATUS_TIMEOUT, call_status(host, endpoint)).await {
        Ok(answer) => answer,
        Err(_) => Err(StatusCallError::TimedOut),
    };
    answer.map_err(|reason| RuntimeError {
        socket: host.display_path(endpoint),
        reason,
    })
}

async fn call_status(host: &Host, endpoint: &Path) -> Result<CriStatus, StatusCallError> {
    let socket = match host.resolve_path(endpoint) {
        Ok(socket) => socket,
        Err(error) if error.is_absent() => return Err(explain_missing_socket(host, endpoint)),
        Err(error) => return Err(StatusCallError::Unreachable(error)),
    };
    let stream = UnixStream::connect(&socket)
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => {
                StatusCallError::Unreachable(HostError::new("connect to", &socket, error))
            }
            _ => StatusCallError::Refused(error),
        })?;
    let message = call_unary(stream, STATUS_METHOD, STATUS_TIMEOUT, &encode_request()).await?;
    let mut answer = decode_status(&message).ok_or(StatusCallError::NotAnAnswer)?;
    if let Some(cni) = &mut answer.cni {
        cni.conf_dir = real_dir(host, &cni.conf_dir);
        for dir in &mut cni.bin_dirs {
            *dir = real_dir(host, dir);
        }
    }
    Ok(answer)
}

/// A runtime that is not running leaves the directory of its socket. Where that is missing below `--host-root`, it is not
/// mounted.
fn explain_missing_socket(host: &Host, endpoint: &Path) -> StatusCallError {
    match endpoint.parent() {
        Some(dir) if !host.is_the_machine() && matches!(host.exists(dir), Ok(false)) => {
            StatusCallError::NotMounted(dir.to_owned())
        }
        _ => StatusCallError::NoSocket,
    }
}

/// The real path of a directory of the host: links followed and `--host-root` included, so that two names of one
/// directory are equal. A directory that does not exist keeps its name.
#[must_use]
pub fn real_dir(host: &Host, dir: &Path) -> PathBuf {
    host.resolve_path(dir)
        .unwrap_or_else(|_| host.display_path(dir))
}
