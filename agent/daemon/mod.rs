//! The running agent: watch, observe, repair, publish and wait, for as long as it lives.
//!
//! One task does all of this, one step after the other (`event_loop`, `pass`). Only downloads, maintenance, questions
//! to others and reports to the Kubernetes API run beside it. Each part of its state has a file with all transitions:
//!
//! - `config_state`, `lock_state`, `watch_state`, `downloads`, `maintenance_task`: the named states;
//! - `gate_query`, `runtime_query`, `node_query`: questions to gates, to the container runtime and about the node;
//! - `schedule`: when the loop wakes up by itself; `repair_backoff`: how long a file waits that somebody keeps changing;
//! - `awaited_links`: how long links have been missing on the paths that the agent uses;
//! - `drift_log`: what was wrong and how it ended; `status_builder`: everything as one status;
//! - `handle`: what the views hold of the agent; `reporters`: what the Kubernetes API is told.

mod awaited_links;
mod config_state;
mod downloads;
mod drift_log;
mod event_loop;
mod gate_query;
mod handle;
mod lock_state;
mod maintenance_task;
mod node_query;
mod pass;
mod reload;
mod repair_backoff;
mod reporters;
mod runtime_query;
mod schedule;
mod startup;
mod state;
mod status_builder;
mod watch_state;
mod watch_targets;

pub use handle::{Handle, LoopStalled, MAX_PASS_DURATION, Publisher, StaleStatus};
pub use startup::{DaemonOptions, ReadConfig};
pub use state::Daemon;
