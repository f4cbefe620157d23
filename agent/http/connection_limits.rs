//! The bounds of one listener.

use std::time::Duration;

/// How much the clients of one listener may use, in number and in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// How many connections are served at once. When all places are taken, a new connection gets the place of the
    /// connection that has been idle longest.
    pub max_connections: usize,
    /// How long a connection keeps its place after it was accepted and after each answer, even if a new connection
    /// needs the place. In this time an honest client can send its request, although somebody else opens
    /// connections as fast as possible.
    pub idle_grace: Duration,
    /// The longest wait for a whole request head. It also bounds how long a kept connection may be idle.
    pub head_timeout: Duration,
    /// The longest wait for a client to take more of its answer.
    pub write_timeout: Duration,
    /// The longest life of a connection.
    pub max_lifetime: Duration,
    /// How long an answer in progress may still take after its connection or the server has to end.
    pub drain_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_connections: 64,
            idle_grace: Duration::from_millis(2),
            head_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(5),
            max_lifetime: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(1),
        }
    }
}
