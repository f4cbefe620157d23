//! One pass over a node: observe, compare, apply, and observe again for the report.
//!
//! [`Context`] holds the settings, the host and the node; it never changes. [`Reconciler`] makes the passes: it holds
//! the state directory's lock, the store, and everything that was learned so far. `install`, `run` and every repair go
//! through [`Reconciler::reconcile`] or [`Reconciler::install`], which share one pass.
//!
//! | file | what it does |
//! |---|---|
//! | `context` | what is declared, the host, the node |
//! | `conflist_facts`, `known_node` | the values of the conflist's `${…}` |
//! | `observed_network` | the rendered conflist and the configuration directory |
//! | `observer`, `file_cache`, `learned_pins` | what is there, compared with what is declared; what was learned |
//! | `probes`, `plugin_answers` | asks gates and plugins; what plugins have answered |
//! | `snapshot_builder`, `runtime_choices`, `drift_list` | checks, the files that runtimes take, drift |
//! | `state_lock` | the locked state directory |
//! | `download` | downloads artifacts into the store |
//! | `apply` | applies steps to the disk |
//! | `maintenance` | keeps copies of plugins in the store, and reads plugins again |
//! | `reconciler`, `report` | the passes, and what they report |
//! | `uninstall` | removes what we placed |

mod apply;
mod aside;
mod conflist_facts;
mod context;
mod download;
mod drift_list;
mod env_files;
mod error;
mod file_cache;
mod foreign_files;
mod known_node;
mod learned_pins;
mod maintenance;
mod member_file;
mod observed_network;
mod observer;
mod plugin_answers;
mod probes;
mod reconciler;
mod report;
mod runtime_choices;
mod snapshot_builder;
mod state_lock;
mod uninstall;

pub use context::Context;
pub use download::{DownloadObserver, DownloadReport, InstallOptions, StoredArtifact};
pub use drift_list::{DriftCause, FileDrift};
pub use error::ReconcileError;
pub use known_node::KnownNode;
pub use maintenance::{Maintenance, MaintenanceOutcome};
pub use observed_network::{NotRendered, RenderedConflist};
pub use observer::ObservedState;
pub use probes::ask_gates;
pub use reconciler::Reconciler;
pub use report::{
    AppliedSteps, FailedStep, FilesInBackoff, InstallReport, PassReport, RepairPause,
};
pub use uninstall::{RemovalOutcome, uninstall};
