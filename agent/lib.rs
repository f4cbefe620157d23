//! cni-keeper: installs the CNI plugins and conflist of a Kubernetes node, verified and atomically, and keeps them.
//!
//! `ARCHITECTURE.md` beside this file describes the rooms, in the one direction in which they may import each other,
//! and follows three values through them. `tests/suite/architecture.rs` checks the directions.

pub mod bundle;
pub mod cli;
pub mod cni;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod fetch;
pub mod host;
pub mod http;
pub mod kube;
pub mod model;
pub mod page;
pub mod plan;
pub mod probe;
pub mod reconcile;
pub mod redact;
pub mod retry;
pub mod runtime;
pub mod store;
pub mod telemetry;
pub mod trust;
pub mod view;
pub mod watch;
