//! The agent and the Kubernetes API: a real TLS server on loopback that plays it.

mod facts;
mod failures;
mod reports;
