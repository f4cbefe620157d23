//! A server that shares its bandwidth fairly among its connections, of which it has a maximum.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

/// What happens to a connection beyond the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// It is refused.
    Refuse,
    /// It waits in the listen backlog until there is room or the client has had enough.
    Queue,
    /// It is answered 503 with this `Retry-After`.
    Busy(Duration),
}

/// What a server is like.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    /// Bytes a second.
    pub(crate) bandwidth: f64,
    /// The most transfers at a time.
    pub(crate) room: usize,
    pub(crate) over: Over,
    /// When it is away, since the beginning: transfers break, and connections are not answered.
    pub(crate) away: Range<Duration>,
}

/// A running server. Each call moves its clock.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) queue: VecDeque<usize>,
    now: Duration,
    /// The bytes that a connection since the beginning would have received. Each transfer ends at a mark on this
    /// scale, so one addition advances all of them.
    shared: f64,
    /// The transfers by the mark at which they are over: numbers that are not negative sort as their bits do.
    running: BTreeSet<(u64, usize)>,
    pub(crate) sent: f64,
    pub(crate) peak: usize,
}

impl Server {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            queue: VecDeque::new(),
            now: Duration::ZERO,
            shared: 0.0,
            running: BTreeSet::new(),
            sent: 0.0,
            peak: 0,
        }
    }

    /// Moves its clock, and all transfers with it.
    pub(crate) fn advance(&mut self, now: Duration) {
        let bytes = (now - self.now).as_secs_f64() * self.kind.bandwidth;
        self.now = now;
        if !self.running.is_empty() {
            self.shared += bytes / self.running.len() as f64;
            self.sent += bytes;
        }
    }

    pub(crate) fn is_away(&self) -> bool {
        self.kind.away.contains(&self.now)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.running.len() < self.kind.room
    }

    /// Begins to send so many bytes; gives the marks between which that happens.
    pub(crate) fn begin(&mut self, node: usize, bytes: f64) -> (f64, f64) {
        let end = self.shared + bytes;
        self.running.insert((end.to_bits(), node));
        self.peak = self.peak.max(self.running.len());
        (self.shared, end)
    }

    /// Ends a transfer before or at its end.
    pub(crate) fn end(&mut self, node: usize, mark: f64) {
        self.running.remove(&(mark.to_bits(), node));
    }

    /// The mark that it has reached.
    pub(crate) fn mark(&self) -> f64 {
        self.shared
    }

    /// The transfers that have ended by now. A transfer has ended when less than one byte is left.
    pub(crate) fn over(&self) -> Option<usize> {
        let (mark, node) = self.running.first()?;
        (f64::from_bits(*mark) <= self.shared + 1.0).then_some(*node)
    }

    /// All transfers.
    pub(crate) fn nodes(&self) -> Vec<usize> {
        let mut nodes: Vec<usize> = self.running.iter().map(|(_, node)| *node).collect();
        nodes.sort_unstable();
        nodes
    }

    /// When the first transfer is over, if nothing changes.
    pub(crate) fn next(&self) -> Option<Duration> {
        let (mark, _) = self.running.first()?;
        let left = (f64::from_bits(*mark) - self.shared).max(0.0);
        let seconds = left * self.running.len() as f64 / self.kind.bandwidth;
        Some(self.now + Duration::from_secs_f64(seconds))
    }
}
