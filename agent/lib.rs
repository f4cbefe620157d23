//! cni-keeper: installs the CNI plugins and conflist of a Kubernetes node, verified and atomically, and keeps them.
//!
//! The rooms, in the one direction that imports may go: `model` (plain data) ← `trust` (what is believed of a digest) ←
//! `plan`, `cni`, `retry`, `config`, `metrics`, `cli` (pure policy and forms) ← `host` (the only door to the file system) ← `store`, `fetch`, `watch` ←
//! `probe`, `runtime`, `kube` (questions to the outside) ← `reconcile` (observe → plan → apply) ← `daemon` (the loop) ← `http` (its
//! views) ← `commands`. A test holds the code to it.

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
pub mod watch;
