//! The views' handle on the running agent: its latest status, and a way to request a newer one.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::model::Status;

/// How long one pass may take before the agent counts as stalled. Passes take milliseconds. Downloads are no part of
/// them, so an upstream that cannot be reached does not matter here.
pub const MAX_PASS_DURATION: Duration = Duration::from_secs(300);

/// The views' end: it reads the status and may ask for a pass. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Handle {
    status: watch::Receiver<Arc<Status>>,
    shared: Arc<SharedState>,
}

/// The event loop's end, which is the only writer.
#[derive(Debug)]
pub struct Publisher {
    status: watch::Sender<Arc<Status>>,
    shared: Arc<SharedState>,
}

#[derive(Debug, Default)]
struct SharedState {
    pass_requested: Notify,
    reload_requested: Notify,
    busy_since: Mutex<Option<Instant>>,
    /// Wakes [`Handle::wait_until_stalled`] when work begins.
    work_begins: Condvar,
    /// Why the agent does not listen, by the setting that names the address.
    endpoint: Mutex<BTreeMap<&'static str, String>>,
}

/// Why the event loop does not make progress.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoopStalled {
    /// One pass has taken too long.
    #[error("one pass has taken {} s so far; a disk does not answer (see dmesg)", .0.as_secs())]
    Busy(Duration),
    #[error("the loop has ended")]
    Ended,
}

/// No pass was completed in the time allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the disk could not be read in time; it is slow or does not answer")]
pub struct StaleStatus;

impl Handle {
    /// Creates both ends around a first status.
    #[must_use]
    pub fn new_pair(first: Status) -> (Publisher, Self) {
        let (sender, receiver) = watch::channel(Arc::new(first));
        let shared = Arc::new(SharedState::default());
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
    pub fn latest_status(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    /// A status from a pass that began after this call, so that an answer is never older than its question. Many
    /// callers share one pass.
    ///
    /// # Errors
    /// When there is none within `time_limit`.
    pub async fn fresh_status(&self, time_limit: Duration) -> Result<Arc<Status>, StaleStatus> {
        let asked = Instant::now();
        self.shared.pass_requested.notify_one();
        let mut status = self.status.clone();
        let newer = status.wait_for(|status| status.began >= Some(asked));
        match tokio::time::timeout(time_limit, newer).await {
            Ok(Ok(status)) => Ok(Arc::clone(&status)),
            Ok(Err(_)) | Err(_) => Err(StaleStatus),
        }
    }

    /// Asks for the configuration to be read anew.
    pub fn request_reload(&self) {
        self.shared.reload_requested.notify_one();
    }

    /// Checks that the event loop makes progress. What upstreams, runtimes and other writers do has no influence on this.
    ///
    /// # Errors
    /// When it does not, with the reason.
    pub fn check_liveness(&self) -> Result<(), LoopStalled> {
        if self.status.has_changed().is_err() {
            return Err(LoopStalled::Ended);
        }
        let busy_since = self.shared.busy_since.lock();
        let since = *busy_since.unwrap_or_else(PoisonError::into_inner);
        match since.map(|since| since.elapsed()) {
            Some(busy) if busy > MAX_PASS_DURATION => Err(LoopStalled::Busy(busy)),
            _ => Ok(()),
        }
    }
}

impl Handle {
    /// Waits until work has taken longer than `limit`. Blocks. While the agent is idle it sleeps; after work it wakes
    /// once more, when the limit has passed.
    #[must_use]
    pub fn wait_until_stalled(&self, limit: Duration) -> LoopStalled {
        let shared = &self.shared;
        let mut since = shared
            .busy_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(busy) = since.map(|since| since.elapsed()) else {
                let woken = shared.work_begins.wait(since);
                since = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if busy > limit {
                return LoopStalled::Busy(busy);
            }
            drop(since);
            std::thread::sleep(limit - busy + Duration::from_millis(1));
            since = shared
                .busy_since
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Records why the agent does not listen on the address of a setting; `None` when it does. The next status tells it.
    pub fn record_endpoint(&self, setting: &'static str, problem: Option<String>) {
        let endpoint = self.shared.endpoint.lock();
        let mut endpoint = endpoint.unwrap_or_else(PoisonError::into_inner);
        let is_news = endpoint.get(setting) != problem.as_ref();
        match problem {
            Some(problem) => _ = endpoint.insert(setting, problem),
            None => _ = endpoint.remove(setting),
        }
        if is_news {
            self.shared.pass_requested.notify_one();
        }
    }
}

impl Publisher {
    /// Why the agent does not listen as declared, a sentence each.
    #[must_use]
    pub fn endpoint_problems(&self) -> Vec<String> {
        let endpoint = self.shared.endpoint.lock();
        let endpoint = endpoint.unwrap_or_else(PoisonError::into_inner);
        endpoint.values().cloned().collect()
    }

    /// Replaces what the views see.
    pub fn publish(&self, status: Status) {
        self.status.send_replace(Arc::new(status));
    }

    /// What was last published.
    #[must_use]
    pub fn latest_status(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    /// Receives everything that is published from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Status>> {
        self.status.subscribe()
    }

    /// Waits until a view asks for a new pass. Cancel-safe: a request is kept until a call returns.
    pub async fn pass_request(&self) {
        self.shared.pass_requested.notified().await;
    }

    /// Waits until somebody asks for the configuration to be read anew. Cancel-safe: a request is kept until a call returns.
    pub async fn reload_request(&self) {
        self.shared.reload_requested.notified().await;
    }

    /// Records that work begins which may take too long (`true`), or that it has ended.
    pub fn set_busy(&self, busy: bool) {
        let mut since = self
            .shared
            .busy_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *since = busy.then(Instant::now);
        if busy {
            self.shared.work_begins.notify_one();
        }
    }
}
