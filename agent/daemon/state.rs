//! The state of the running agent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::awaited_links::AwaitedLinks;
use super::config_state::ConfigState;
use super::downloads::Downloads;
use super::drift_log::DriftHistory;
use super::gate_query::GateQuery;
use super::handle::Publisher;
use super::lock_state::LockState;
use super::maintenance_task::MaintenanceTask;
use super::node_query::NodeQuery;
use super::repair_backoff::RepairBackoff;
use super::reporters::Reporters;
use super::runtime_query::RuntimeQuery;
use super::schedule::Schedule;
use super::startup::DaemonOptions;
use super::watch_state::WatchState;
use crate::kube::{KubeClient, RequestLog};
use crate::model::ManagedDir;
use crate::model::{Agent, Counters, FileName, RecordedError, Status, Timestamp};
use crate::reconcile::{Context, Reconciler};

/// How many different failures are remembered.
const MAX_RECORDED_ERRORS: usize = 16;

/// The running agent.
pub struct Daemon {
    pub(super) options: DaemonOptions,
    pub(super) agent: Agent,
    pub(super) reconciler: Reconciler,
    pub(super) publisher: Publisher,
    pub(super) schedule: Schedule,
    pub(super) config: ConfigState,
    pub(super) declaration: DeclarationState,
    pub(super) lock: LockState,
    pub(super) watch: WatchState,
    pub(super) downloads: Downloads,
    pub(super) maintenance: MaintenanceTask,
    pub(super) gates: GateQuery,
    pub(super) runtime: RuntimeQuery,
    pub(super) node: NodeQuery,
    pub(super) reporters: Reporters,
    /// How all requests to the Kubernetes API ended.
    pub(super) requests: RequestLog,
    pub(super) repair_backoff: RepairBackoff<(ManagedDir, FileName)>,
    pub(super) awaited_links: AwaitedLinks,
    /// Where the bin and the configuration directory were at the last pass, links followed.
    pub(super) real_dirs: BTreeMap<ManagedDir, PathBuf>,
    pub(super) drift_log: DriftHistory,
    pub(super) counters: Counters,
    /// The last failures, newest first.
    pub(super) errors: Vec<RecordedError>,
    pub(super) passes: u64,
    /// When every declared file was last read.
    pub(super) last_full_reading: Option<Timestamp>,
    /// The name of the declared network, if the last pass knew it.
    pub(super) network: Option<String>,
}

/// Whether a pass has succeeded for the declaration in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeclarationState {
    /// No pass has succeeded for it yet. The next one reads every file and asks every gate.
    New,
    /// At least one pass has succeeded.
    Reconciled,
}

/// Why a pass is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PassTrigger {
    /// The kernel reported a change, first at this time.
    Hint(std::time::Instant),
    /// It is time to ask gates again, and plugins that gave no usable answer: at the start, at each resync and retry.
    AskAgain,
    /// All gates that did not hold now hold. They are asked once more before anything is written.
    GatesOpened,
    /// Something else is new, such as an answer, a finished download or the request of a view.
    News,
}

impl Daemon {
    /// The status that was published last.
    #[must_use]
    pub fn latest_status(&self) -> Arc<Status> {
        self.publisher.latest_status()
    }

    pub(super) const fn context(&self) -> &Context {
        self.reconciler.context()
    }

    /// The next random number of this node.
    pub(super) fn draw_random(&self) -> u64 {
        self.context().spread().next_number()
    }

    /// Whether anything is asked of the Kubernetes API or reported to it.
    pub(super) fn uses_kubernetes(&self) -> bool {
        let context = self.context();
        context.needs_node_facts() || context.settings().kubernetes.reports_anything()
    }

    /// Starts or ends the reports to the Kubernetes API as declared.
    pub(super) fn apply_report_settings(&mut self) {
        let context = self.reconciler.context();
        let client = new_client(context, &self.requests);
        let settings = &context.settings().kubernetes;
        self.reporters
            .apply_settings(settings, &client, self.publisher.subscribe());
    }

    /// Remembers a failure. One that is known already moves to the front and is counted.
    pub(super) fn record_error(&mut self, what: String) {
        let times = match self.errors.iter().position(|known| known.what == what) {
            Some(known) => self.errors.remove(known).times + 1,
            None => 1,
        };
        let at = Timestamp(SystemTime::now());
        self.errors.insert(0, RecordedError { at, what, times });
        self.errors.truncate(MAX_RECORDED_ERRORS);
    }
}

/// A client of the Kubernetes API as it is declared.
pub(super) fn new_client(context: &Context, requests: &RequestLog) -> KubeClient {
    let settings = context.settings().kubernetes.clone();
    KubeClient::new(settings, context.node_name(), requests.clone())
}
