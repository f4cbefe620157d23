//! One pass over a node: observe → compare → apply → say what is true now.
//!
//! [`Context`] says what is declared and for which node; it never changes. [`Reconciler`] makes the passes: it holds
//! the state directory's lock, the store, and what was learned so far. `install`, `run` and every repair go through
//! [`Reconciler::reconcile`].
//!
//! | file | what it does |
//! |---|---|
//! | `context` | what is declared, the host, the node |
//! | `facts`, `known_node` | values for the conflist |
//! | `network` | the rendered conflist and the configuration directory |
//! | `observe` | what is there, compared with what is declared |
//! | `probes` | what has to be asked: gates, plugins |
//! | `status`, `precedence`, `drift` | what was observed and answered, as a snapshot and as drift |
//! | `state_lock` | the state directory, held |
//! | `download` | artifacts into the store |
//! | `apply` | steps onto the disk |
//! | `maintenance` | copies of plugins in the store, and reading plugins anew |
//! | `reconciler`, `report` | the passes, and what they report |
//! | `uninstall` | taking away what is ours |

mod apply;
mod context;
mod download;
mod drift;
mod error;
mod facts;
mod file_cache;
mod known_node;
mod learned_pins;
mod maintenance;
mod network;
mod observe;
mod precedence;
mod probes;
mod reconciler;
mod report;
mod state_lock;
mod status;
mod uninstall;

pub use context::Context;
pub use download::{DownloadObserver, DownloadOptions, DownloadedArtifact, StoredArtifact};
pub use drift::{DriftCause, FileDrift};
pub use error::ReconcileError;
pub use known_node::KnownNode;
pub use maintenance::{Maintenance, MaintenanceOutcome};
pub use network::{NotRendered, RenderedConflist};
pub use observe::ObservedState;
pub use probes::ask_gates;
pub use reconciler::Reconciler;
pub use report::{AppliedSteps, FilesInBackoff, InstallReport, PassReport};
pub use uninstall::{RemovalOutcome, UninstallReport, uninstall};
