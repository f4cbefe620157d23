//! The agent's HTTP server over real sockets: every endpoint, and what hostile clients try (faults 15, 58 and 59).

mod agent;
mod client;
mod crowd;
mod descriptors;
mod endpoints;
mod hostile;
mod readiness;
mod secrets;
mod stop;
