//! The listener: it stays, whatever comes.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

use super::connection;
use super::routes::Routes;
use super::slots::{Activity, Slots};
use super::{Limits, Surface};
use crate::daemon::Handle;
use crate::host::kernel_reason;

/// How many connections the kernel lets in ahead of us (it may cap this: `net.core.somaxconn`). One that finds
/// the queue full is tried again after a second, which is all the time that a kubelet gives a probe.
const BACKLOG: u32 = 4096;
/// The pause after the kernel could not give a connection: whatever it is short of may be back by then.
const PAUSE: Duration = Duration::from_millis(50);

/// A bound listener and what is served on it.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local: SocketAddr,
    surface: Surface,
    limits: Limits,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{setting} {address}: {}; {}", kernel_reason(source), mend(source))]
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
    /// Begins to listen; connections wait until [`Server::serve`]. Port 0 takes any free one.
    ///
    /// # Errors
    /// When the address is taken, is none of this machine's, or may not be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as everything that waits for sockets.
    pub fn bind(listen: SocketAddr, surface: Surface) -> Result<Self, BindError> {
        let failed = |source| BindError {
            setting: surface.setting(),
            address: listen,
            source,
        };
        let listener = open(listen).map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            local,
            surface,
            limits: Limits::default(),
        })
    }

    /// The same with other bounds.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `stop`, then finishes the answers under way, for [`Limits::farewell`] at most.
    ///
    /// Running out of descriptors, floods and broken clients are survived; nothing but `stop` ends it.
    pub async fn serve(self, handle: Handle, stop: impl Future<Output = ()>) {
        let (stopping, told) = watch::channel(());
        let mut door = Door {
            spare: None,
            slots: Slots::new(self.limits),
            listener: self.listener,
        };
        let guests = Guests {
            routes: Arc::new(Routes::new(handle, self.surface, self.local)),
            limits: self.limits,
            told,
        };
        tokio::select! {
            // Both halves may be dropped anywhere: what was taken in is in its slot, or is cut off.
            () = stop => {}
            never = door.keep(&guests) => match never {},
        }
        drop((door.listener, door.spare, stopping));
        door.slots.finish(self.limits.farewell).await;
    }
}

fn open(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = match listen {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of an agent that has just ended linger, and are not in the way of the next one.
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

/// What every connection gets.
struct Guests {
    routes: Arc<Routes>,
    limits: Limits,
    told: watch::Receiver<()>,
}

/// Where connections come in.
struct Door {
    listener: TcpListener,
    /// A descriptor to give up when there are no others, so that a probe is answered even then.
    spare: Option<OwnedFd>,
    slots: Slots,
}

impl Door {
    async fn keep(&mut self, guests: &Guests) -> std::convert::Infallible {
        loop {
            let stream = self.next().await;
            self.slots.free().await;
            let activity = Arc::new(Activity::new());
            let connection = connection::serve(
                stream,
                Arc::clone(&guests.routes),
                Arc::clone(&activity),
                guests.limits,
                guests.told.clone(),
            );
            self.slots.fill(activity, connection);
            // Under a flood the next one is always there: those inside get their turn first.
            tokio::task::yield_now().await;
        }
    }

    /// The next connection.
    async fn next(&mut self) -> TcpStream {
        self.put_one_aside();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = self.slots.ended() => {
                    self.put_one_aside();
                    continue;
                }
            };
            match accepted {
                Ok((stream, _)) => return stream,
                Err(error) => self.recover(&error).await,
            }
        }
    }

    /// Takes a spare descriptor where there is none and the kernel has one left.
    fn put_one_aside(&mut self) {
        if self.spare.is_none() {
            self.spare = self.listener.as_fd().try_clone_to_owned().ok();
        }
    }

    /// Makes the next attempt a better one. The kernel keeps telling of a connection that cannot be taken in, so
    /// there is always a pause or a change.
    async fn recover(&mut self, error: &io::Error) {
        tracing::debug!("an HTTP connection could not be accepted: {error}");
        match error.raw_os_error().map(Errno::from_raw) {
            // The client left before it was taken in.
            Some(Errno::ECONNABORTED | Errno::ECONNRESET) => {}
            Some(Errno::EMFILE | Errno::ENFILE) if self.spare.take().is_some() => {}
            _ => {
                self.slots.thin();
                sleep(PAUSE).await;
            }
        }
    }
}

/// What an operator can do about it.
fn mend(error: &io::Error) -> &'static str {
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
