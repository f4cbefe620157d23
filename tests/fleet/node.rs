//! A node of the fleet: the agent's own policy, and what it is doing.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use cni_keeper::retry::{Refetch, Rounds, RoundsPolicy, ServerHealth, Spread};

/// The settings of an agent for downloads; the defaults of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) connect_timeout: Duration,
    pub(crate) read_timeout: Duration,
    pub(crate) total_timeout: Duration,
    pub(crate) min_rate: f64,
    pub(crate) attempts: NonZeroU32,
    pub(crate) spread: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_secs(600),
            min_rate: 1024.0,
            attempts: NonZeroU32::MIN.saturating_add(4),
            spread: Duration::ZERO,
        }
    }
}

pub(crate) struct Node {
    pub(crate) spread: Spread,
    pub(crate) health: ServerHealth,
    pub(crate) refetch: Refetch,
    /// The artifacts that it has not got yet, by number.
    pub(crate) wanted: Vec<usize>,
    pub(crate) download: Option<Download>,
    /// Counts what it did: what was due for something earlier is void.
    pub(crate) step: u64,
    pub(crate) ready: Option<Duration>,
}

impl Node {
    pub(crate) fn new(number: usize, artifacts: usize) -> Self {
        Self {
            spread: Spread::for_node(&format!("node-{number}")),
            health: ServerHealth::default(),
            refetch: Refetch::default(),
            wanted: (0..artifacts).collect(),
            download: None,
            step: 0,
            ready: None,
        }
    }

    /// Its agent starts.
    pub(crate) fn start(&mut self, now: Instant, window: Duration) {
        self.refetch = Refetch::with_delay(now, self.spread.start_delay(window), window);
    }

    /// The artifact to download now.
    pub(crate) fn next(&self, now: Instant) -> Option<usize> {
        let names: Vec<String> = self.wanted.iter().map(ToString::to_string).collect();
        let next = self
            .refetch
            .next_download(names.iter().map(String::as_str), now)?;
        next.parse().ok()
    }

    /// Goes for it: to servers that were found dead last, as `fetch` orders its places.
    pub(crate) fn begin(
        &mut self,
        artifact: usize,
        names: &[String],
        settings: &Settings,
        now: Instant,
    ) {
        self.refetch.record_start(&artifact.to_string());
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by_key(|server| self.health.is_down(&names[*server], now));
        self.download = Some(Download {
            artifact,
            rounds: Rounds::new(order.len(), settings.attempts, RoundsPolicy::default()),
            order,
            held: None,
            attempt: None,
        });
    }
}

/// One artifact's download.
pub(crate) struct Download {
    pub(crate) artifact: usize,
    pub(crate) rounds: Rounds,
    /// The servers, in the order in which they are asked.
    pub(crate) order: Vec<usize>,
    /// What is there already: the place that gave it, and how much.
    pub(crate) held: Option<(usize, f64)>,
    pub(crate) attempt: Option<Attempt>,
}

/// An attempt at one place.
pub(crate) struct Attempt {
    pub(crate) place: usize,
    pub(crate) began: Duration,
    /// How often a body that broke off was resumed at once.
    pub(crate) resumes: u32,
    pub(crate) transfer: Option<Transfer>,
}

/// A body on its way, in marks of the server's.
#[derive(Clone, Copy)]
pub(crate) struct Transfer {
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// The mark at the beginning of the window in which the least throughput is measured.
    pub(crate) window: f64,
}
