//! Which connections are served, when there are more clients or fewer descriptors than usual.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::ConnectionLimits;

/// The pause after the kernel could not hand over a connection. The missing resource may be back after it.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionActivity {
    /// It has not sent a whole request yet.
    AwaitingFirstRequest,
    /// A request is being answered.
    Answering,
    /// It was answered and may ask again. The last bytes of its answer may still be on the way.
    Idle,
}

/// Limits the number of connections. Each has a place. If a new connection needs a place and none is free, an idle one
/// loses its place.
///
/// A semaphore with timeouts is not enough: ten thousand silent connections would keep a kubelet's probe waiting for
/// minutes. So the connection that has been idle longest is closed.
#[derive(Debug)]
pub(super) struct Admission {
    limits: ConnectionLimits,
    places: Arc<Semaphore>,
    /// Wakes one idle connection, which then ends. `Notify` wakes those first that wait longest.
    place_is_needed: Notify,
    /// A spare descriptor. It is closed when no other is left, so that a probe is answered even then. What it refers to
    /// does not matter.
    spare_descriptor: Mutex<Option<UnixDatagram>>,
}

/// The place of one connection. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct ConnectionPlace {
    admission: Arc<Admission>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Admission {
    pub(super) fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            places: Arc::new(Semaphore::new(limits.max_connections)),
            place_is_needed: Notify::new(),
            spare_descriptor: Mutex::new(None),
        })
    }

    /// Waits for the next connection. No error of the kernel ends the wait.
    pub(super) async fn accept_next(&self, listener: &TcpListener) -> TcpStream {
        self.refill_spare_descriptor();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    self.withdraw_request();
                    return stream;
                }
                Err(error) => self.recover_from(&error).await,
            }
        }
    }

    /// Waits for a free place. An idle connection loses its place after its grace. A connection that is being
    /// answered keeps it: an answer takes a second at most.
    pub(super) async fn acquire_place(self: &Arc<Self>) -> ConnectionPlace {
        let permit = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => self.wait_for_permit().await,
        };
        ConnectionPlace {
            admission: Arc::clone(self),
            _permit: permit,
        }
    }

    async fn wait_for_permit(&self) -> Option<OwnedSemaphorePermit> {
        self.place_is_needed.notify_one();
        // This fails only for a closed semaphore, and nobody closes it.
        let permit = Arc::clone(&self.places).acquire_owned().await.ok();
        self.withdraw_request();
        permit
    }

    /// Withdraws a request for a place that no connection has seen yet. A place has become free in another way, so no
    /// connection has to end for it.
    fn withdraw_request(&self) {
        pin!(self.place_is_needed.notified()).enable();
    }

    /// Waits until all connections have ended, but not longer than their last answers may take.
    pub(super) async fn wait_for_all(&self) {
        let all = u32::try_from(self.limits.max_connections).unwrap_or(u32::MAX);
        let _ = timeout(self.limits.drain_timeout, self.places.acquire_many(all)).await;
    }

    /// Recovers from an error of the kernel. The kernel reports a connection that cannot be accepted again and again,
    /// so each attempt is followed by a change or a pause.
    async fn recover_from(&self, error: &io::Error) {
        tracing::debug!("an HTTP connection could not be accepted: {error}");
        match error.raw_os_error().map(Errno::from_raw) {
            // The client left before its connection was accepted.
            Some(Errno::ECONNABORTED | Errno::ECONNRESET) => {}
            Some(Errno::EMFILE | Errno::ENFILE) if self.give_up_spare_descriptor() => {}
            _ => {
                self.place_is_needed.notify_one();
                sleep(ACCEPT_RETRY_PAUSE).await;
            }
        }
    }

    /// Opens the spare descriptor, if it is not open and the kernel has one left.
    fn refill_spare_descriptor(&self) {
        let mut spare = self.lock_spare_descriptor();
        if spare.is_none() {
            *spare = UnixDatagram::unbound().ok();
        }
    }

    fn give_up_spare_descriptor(&self) -> bool {
        self.lock_spare_descriptor().take().is_some()
    }

    fn lock_spare_descriptor(&self) -> MutexGuard<'_, Option<UnixDatagram>> {
        self.spare_descriptor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionPlace {
    /// Waits until this connection has been idle longest and somebody else needs its place. Each change of
    /// activity starts the wait again.
    pub(super) async fn wait_until_needed(
        &self,
        mut activity: watch::Receiver<ConnectionActivity>,
    ) {
        loop {
            let is_idle = *activity.borrow_and_update() != ConnectionActivity::Answering;
            let needed = async {
                sleep(self.admission.limits.idle_grace).await;
                self.admission.place_is_needed.notified().await;
            };
            tokio::select! {
                // Both are cancel-safe: a change stays marked as unseen, and a wake-up goes to the next in line.
                changed = activity.changed() => if changed.is_err() { return },
                () = needed, if is_idle => return,
            }
        }
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        // The descriptor of this connection has just been closed: it becomes the spare one before others take it.
        self.admission.refill_spare_descriptor();
    }
}
