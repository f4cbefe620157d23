//! The agent and the Kubernetes API, which a TLS server on loopback plays.

mod facts;
mod failures;
mod reports;
