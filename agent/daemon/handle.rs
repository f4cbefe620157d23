//! What the views hold of the running agent: its latest status, and a way to ask for a newer one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::model::Status;

/// How long one pass may take before the agent counts as stuck. Passes take milliseconds; downloads are no
/// part of them, so an unreachable upstream never gets here.
const LONGEST_PASS: Duration = Duration::from_secs(300);

/// A view's end: reads, and may ask for a look at the disk. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Handle {
    status: watch::Receiver<Arc<Status>>,
    shared: Arc<Shared>,
}

/// The loop's end: the one writer.
#[derive(Debug)]
pub struct Publisher {
    status: watch::Sender<Arc<Status>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    look: Notify,
    busy_since: Mutex<Option<Instant>>,
}

/// The loop is in one pass for too long, or has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stuck {
    /// A pass does not end: a disk that does not answer.
    #[error("one pass has been going on for {} s; a disk does not answer (dmesg)", .0.as_secs())]
    Busy(Duration),
    /// The loop has ended.
    #[error("the loop has ended")]
    Ended,
}

/// No look at the disk was finished in the time allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no look at the disk was finished in time; it is slow, or does not answer")]
pub struct Stale;

impl Handle {
    /// Makes both ends around a first status.
    #[must_use]
    pub fn pair(first: Status) -> (Publisher, Self) {
        let (sender, receiver) = watch::channel(Arc::new(first));
        let shared = Arc::new(Shared::default());
        let publisher = Publisher {
            status: sender,
            shared: Arc::clone(&shared),
        };
        let handle = Self {
            status: receiver,
            shared,
        };
        (publisher, handle)
    }

    /// What was last published.
    #[must_use]
    pub fn latest(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    /// A status that rests on a look which began after this call: an answer is never older than its question.
    /// Many callers share one look.
    ///
    /// # Errors
    /// When none is there within `patience`.
    pub async fn fresh(&self, patience: Duration) -> Result<Arc<Status>, Stale> {
        let asked = Instant::now();
        self.shared.look.notify_one();
        let mut status = self.status.clone();
        let newer = status.wait_for(|status| status.began >= Some(asked));
        match tokio::time::timeout(patience, newer).await {
            Ok(Ok(status)) => Ok(Arc::clone(&status)),
            Ok(Err(_)) | Err(_) => Err(Stale),
        }
    }

    /// Whether the loop is turning; nothing that upstreams, runtimes or other writers do changes this.
    ///
    /// # Errors
    /// When it is not, with the reason.
    pub fn alive(&self) -> Result<(), Stuck> {
        if self.status.has_changed().is_err() {
            return Err(Stuck::Ended);
        }
        let busy_since = self.shared.busy_since.lock();
        let since = *busy_since.unwrap_or_else(PoisonError::into_inner);
        match since.map(|since| since.elapsed()) {
            Some(busy) if busy > LONGEST_PASS => Err(Stuck::Busy(busy)),
            _ => Ok(()),
        }
    }
}

impl Publisher {
    /// Replaces what the views see.
    pub fn publish(&self, status: Status) {
        self.status.send_replace(Arc::new(status));
    }

    /// What was last published.
    #[must_use]
    pub fn latest(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    /// What is published, from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Status>> {
        self.status.subscribe()
    }

    /// Waits until a view wants to know more than what was published last.
    pub async fn asked(&self) {
        self.shared.look.notified().await;
    }

    /// Says that a pass begins (`true`) or is over.
    pub fn busy(&self, busy: bool) {
        let mut since = self
            .shared
            .busy_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *since = busy.then(Instant::now);
    }
}
