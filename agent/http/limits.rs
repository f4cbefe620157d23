//! How much a client may ask for.

use std::time::Duration;

/// The bounds of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many connections are served at once. A newcomer beyond them takes the place of the one that has kept
    /// silent longest.
    pub connections: usize,
    /// How long a connection is safe from newcomers after it was taken in and after each answer: the time
    /// that an honest client has to send what it came for while somebody else opens connections as fast as it can.
    pub grace: Duration,
    /// The longest wait for a whole request head, and with that the longest idle time of a kept connection.
    pub head: Duration,
    /// The longest wait for a client to take more of its answer.
    pub write: Duration,
    /// The longest life of a connection.
    pub life: Duration,
    /// How long a connection that has to end, or a server that has to stop, goes on with an answer under way.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            grace: Duration::from_millis(2),
            head: Duration::from_secs(5),
            write: Duration::from_secs(5),
            life: Duration::from_secs(60),
            farewell: Duration::from_secs(1),
        }
    }
}
