//! The listener. It keeps listening, even if clients misbehave or the kernel reports errors.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use super::admission::Admission;
use super::connection::serve_connection;
use super::routes::Routes;
use super::{ConnectionLimits, Surface};
use crate::daemon::Handle;
use crate::host::kernel_reason;

/// How many connections the kernel accepts ahead of us (it may lower this: `net.core.somaxconn`). A client that
/// finds the queue full tries again after a second, and a kubelet gives a probe no longer than that.
const BACKLOG: u32 = 4096;

/// A bound listener and what is served on it.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local: SocketAddr,
    surface: Surface,
    limits: ConnectionLimits,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "{setting} {address}: {}; {}",
    kernel_reason(source),
    suggest_fix(source)
)]
pub struct BindError {
    /// The setting that names the address.
    pub setting: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

impl Server {
    /// Begins to listen. Connections wait until [`Server::serve`]. Port 0 takes any free port.
    ///
    /// # Errors
    /// When the address is in use, belongs to another machine, or may not be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(listen: SocketAddr, surface: Surface) -> Result<Self, BindError> {
        let bind_error = |source| BindError {
            setting: surface.setting(),
            address: listen,
            source,
        };
        let listener = open_listener(listen).map_err(bind_error)?;
        let local = listener.local_addr().map_err(bind_error)?;
        Ok(Self {
            listener,
            local,
            surface,
            limits: ConnectionLimits::default(),
        })
    }

    /// The same server with other limits.
    #[must_use]
    pub fn with_limits(self, limits: ConnectionLimits) -> Self {
        Self { limits, ..self }
    }

    /// The address that it listens on.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `stop` ends, then finishes the answers in progress, within
    /// [`ConnectionLimits::drain_timeout`].
    ///
    /// It survives floods, broken clients and a lack of descriptors: only `stop` ends it.
    pub async fn serve(self, handle: Handle, stop: impl Future<Output = ()>) {
        let (stopping, observe_stop) = watch::channel(());
        let routes = Arc::new(Routes::new(handle, self.surface, self.local));
        let admission = Admission::new(self.limits);
        let accept_forever = async {
            loop {
                let stream = admission.accept_next(&self.listener).await;
                let place = admission.acquire_place().await;
                let routes = Arc::clone(&routes);
                let stopping = observe_stop.clone();
                let connection = serve_connection(place, stream, routes, self.limits, stopping);
                tokio::spawn(connection);
                // During a flood there is always a next connection. So the accepted ones get a turn first.
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            // Both may be dropped at any point: an accepted connection is either served by its own task, or closed.
            () = stop => {}
            never = accept_forever => match never {},
        }
        drop((self.listener, stopping));
        admission.wait_for_all().await;
    }
}

fn open_listener(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = match listen {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // The kernel keeps the connections of an agent that has just ended for a while. They must not keep the next agent
    // from starting.
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

/// What an operator can do about it.
fn suggest_fix(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there (ss -ltnp): stop it, or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address (ip address): choose one that it has"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one"
        }
        _ => "choose another address or port",
    }
}
