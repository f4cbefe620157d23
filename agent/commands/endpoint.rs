//! Serves the endpoint beside the agent's work. An address that is taken keeps nothing from being repaired.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::failure::CommandError;
use crate::config::HttpSettings;
use crate::daemon::Handle;
use crate::http::{BindError, Server, Surface};
use crate::retry::{Backoff, Jitter};

/// The pauses before it tries to listen again.
const LISTEN_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15));

/// Listens on the declared addresses. Each one that cannot be listened on now is tried again until `stopped`.
///
/// # Errors
/// When one cannot be listened on, and `http.required` is set.
pub(super) fn serve_endpoint(
    http: HttpSettings,
    handle: &Handle,
    stopped: &watch::Receiver<()>,
) -> Result<Vec<JoinHandle<()>>, CommandError> {
    let main = (http.listen, Surface::Everything);
    let metrics = http.metrics_listen.map(|at| (at, Surface::MetricsOnly));
    let mut servers = Vec::new();
    for (address, surface) in [Some(main), metrics].into_iter().flatten() {
        let bound = Server::bind(address, surface);
        if http.required {
            servers.push((address, surface, Ok(bound?)));
        } else {
            servers.push((address, surface, bound));
        }
    }
    let servers = servers.into_iter().map(|(address, surface, bound)| {
        let (handle, stopped) = (handle.clone(), stopped.clone());
        tokio::spawn(serve_when_free(address, surface, bound, handle, stopped))
    });
    Ok(servers.collect())
}

async fn serve_when_free(
    address: SocketAddr,
    surface: Surface,
    mut bound: Result<Server, BindError>,
    handle: Handle,
    stopped: watch::Receiver<()>,
) {
    let mut failures = 0;
    let server = loop {
        let error = match bound {
            Ok(server) => break server,
            Err(error) => error,
        };
        if failures == 0 {
            tracing::warn!("{error}; repairs go on without it, and it is tried again");
        }
        handle.record_endpoint(surface.setting(), Some(error.to_string()));
        let pause = LISTEN_BACKOFF.pause(failures, Jitter::None);
        failures = failures.saturating_add(1);
        tokio::select! {
            // Both only wait.
            () = wait_until_dropped(stopped.clone()) => return,
            () = tokio::time::sleep(pause) => {}
        }
        bound = Server::bind(address, surface);
    };
    if failures > 0 {
        handle.record_endpoint(surface.setting(), None);
    }
    tracing::info!(address = %server.local_addr(), version = env!("CARGO_PKG_VERSION"), "listening");
    server.serve(handle, wait_until_dropped(stopped)).await;
}

/// Ends when the other end of the channel is dropped.
pub(super) async fn wait_until_dropped(mut stopped: watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}
