//! The event loop: waits for whatever comes first, and decides whether it calls for a pass.

use std::collections::BTreeMap;
use std::time::Instant;

use super::awaited_links::AwaitedLinks;
use super::config_state::ConfigState;
use super::downloads::{Downloads, FinishedDownload};
use super::drift_log::DriftHistory;
use super::gate_query::{GateAnswer, GateQuery};
use super::handle::Handle;
use super::lock_state::LockState;
use super::maintenance_task::MaintenanceTask;
use super::node_query::NodeQuery;
use super::repair_backoff::RepairBackoff;
use super::reporters::Reporters;
use super::runtime_query::{MAX_VIEW_WAIT, RuntimeQuery};
use super::schedule::{Schedule, Timer};
use super::startup::DaemonOptions;
use super::state::{Daemon, DeclarationState, PassTrigger, new_client};
use super::status_builder::{build_first_status, new_counters};
use super::watch_state::WatchState;
use crate::host::HostError;
use crate::kube::RequestLog;
use crate::model::{Agent, Timestamp};
use crate::reconcile::{KnownNode, MaintenanceOutcome, Reconciler};
use crate::watch::Hint;

/// What has woken the loop.
enum Wakeup {
    Stop,
    Hint(Hint),
    ViewRequest,
    ReloadRequest,
    Download(Box<FinishedDownload>),
    Maintenance(MaintenanceOutcome),
    Gates(GateAnswer),
    /// The runtime has answered. `is_news`: the answer differs from the last one, or a view waits for it.
    Runtime {
        is_news: bool,
    },
    /// The question about the node has ended. `is_news`: the answer differs from the last one.
    Node {
        is_news: bool,
    },
    Timer,
}

impl Daemon {
    /// Creates the agent and the handle for the views. Nothing is observed before [`Daemon::run`].
    #[must_use]
    pub fn new(options: DaemonOptions) -> (Self, Handle) {
        let now = Instant::now();
        let known = KnownNode::default();
        let watch = WatchState::default();
        let context = options.new_context(
            options.settings.clone(),
            known.clone(),
            watch.unclosed_files(),
        );
        let requests = RequestLog::default();
        let agent = Agent {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            node: context.node_name(),
            started: Timestamp(std::time::SystemTime::now()),
            config: options.config.clone(),
            flags: options.flags.clone(),
        };
        let reconciler = Reconciler::new(context.clone());
        let (publisher, handle) = Handle::new_pair(build_first_status(&agent, &reconciler));
        let daemon = Self {
            agent,
            publisher,
            schedule: Schedule::new(now, options.settings.drift.resync),
            config: ConfigState::default(),
            declaration: DeclarationState::New,
            lock: LockState::default(),
            watch,
            downloads: Downloads::new(&context, now),
            maintenance: MaintenanceTask::with_sweep(),
            gates: GateQuery::default(),
            runtime: RuntimeQuery::new(&options.settings),
            node: NodeQuery::new(&context, new_client(&context, &requests), known, now),
            reporters: Reporters::default(),
            requests,
            repair_backoff: RepairBackoff::new(),
            awaited_links: AwaitedLinks::default(),
            real_dirs: BTreeMap::new(),
            drift_log: DriftHistory::default(),
            counters: new_counters(),
            errors: Vec::new(),
            passes: 0,
            last_full_reading: None,
            network: None,
            reconciler,
            options,
        };
        (daemon, handle)
    }

    /// Keeps the node as declared until `stop` completes. Files in place then stay in place.
    ///
    /// # Errors
    /// When a mount was removed on the host. Only whoever started this process can mount it anew.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), HostError> {
        let mut stop = std::pin::pin!(stop);
        self.apply_report_settings();
        for link in self.reconciler.context().describe_links() {
            tracing::warn!("{link}");
        }
        let mut trigger = Some(PassTrigger::AskAgain);
        loop {
            if let Some(trigger) = trigger.take() {
                self.publisher.set_busy(true);
                let repeat = self.run_pass(trigger).await;
                self.publisher.set_busy(false);
                if repeat? {
                    self.schedule.request_pass_now();
                }
            }
            self.start_work_beside_passes();
            let wakeup = self.wait_for_wakeup(stop.as_mut()).await;
            if matches!(wakeup, Wakeup::Stop) {
                return Ok(());
            }
            // Handling a wake-up may read the configuration from a disk that does not answer.
            self.publisher.set_busy(true);
            trigger = self.handle_wakeup(wakeup).await;
            self.publisher.set_busy(false);
        }
    }

    /// Waits for whatever comes first. All arms are cancel-safe: an arm that loses is asked again at the next call, and
    /// what it waits for is kept until then.
    async fn wait_for_wakeup(&mut self, stop: impl Future<Output = ()>) -> Wakeup {
        self.schedule
            .set_timer(Timer::RuntimeQuery, self.runtime.next_due());
        self.schedule
            .set_timer(Timer::NodeQuery, self.node.next_due());
        let next = self.schedule.next_wakeup();
        let rested = self.schedule.resting_until();
        tokio::select! {
            biased;
            // Cancel-safe: the future is pinned by the caller and continues.
            () = stop => Wakeup::Stop,
            // Cancel-safe: a hint leaves the watcher's queue only when it is returned.
            hint = self.watch.next_hint(rested) => Wakeup::Hint(hint),
            // Cancel-safe: the download is stored in `downloads` and continues.
            finished = self.downloads.wait_for_download() => Wakeup::Download(Box::new(finished)),
            // Cancel-safe: the step runs in a task of its own, whose handle is stored.
            outcome = self.maintenance.wait_for_step() => Wakeup::Maintenance(outcome),
            // Cancel-safe: the question runs in a task of its own, whose handle is stored.
            answer = self.gates.wait_for_answer() => Wakeup::Gates(answer),
            // Cancel-safe: the question runs in a task of its own, whose handle is stored.
            is_news = self.node.wait_for_answer() => Wakeup::Node { is_news },
            // Cancel-safe: the question is stored in `runtime` and continues.
            is_news = self.runtime.wait_for_answer() => Wakeup::Runtime { is_news },
            // Cancel-safe: a request is kept by its `Notify` until it is received.
            () = self.publisher.reload_request() => Wakeup::ReloadRequest,
            // Cancel-safe: a request is kept by its `Notify` until it is received.
            () = self.publisher.pass_request() => Wakeup::ViewRequest,
            // Cancel-safe: it only waits.
            () = tokio::time::sleep_until(next.into()) => Wakeup::Timer,
        }
    }

    /// Returns why a pass is to be made now; `None` if none is.
    async fn handle_wakeup(&mut self, wakeup: Wakeup) -> Option<PassTrigger> {
        let now = Instant::now();
        match wakeup {
            Wakeup::Stop => None,
            Wakeup::Hint(hint) => Some(self.handle_hint(hint).await),
            Wakeup::ViewRequest if self.runtime.is_view_to_wait(now) => {
                // The pass follows the runtime's answer, or begins without it if that takes too long.
                self.schedule.request_pass_by(now + MAX_VIEW_WAIT);
                None
            }
            Wakeup::ViewRequest => self
                .schedule
                .allow_requested_pass(now)
                .then_some(PassTrigger::News),
            Wakeup::ReloadRequest => {
                self.reload_config().await;
                Some(PassTrigger::AskAgain)
            }
            Wakeup::Runtime { is_news } => is_news.then_some(PassTrigger::News),
            Wakeup::Maintenance(outcome) => self.handle_maintenance(outcome),
            Wakeup::Download(finished) => {
                self.record_download(*finished, now);
                Some(PassTrigger::News)
            }
            Wakeup::Gates(answer) => self.handle_gates(answer),
            Wakeup::Node { is_news } => {
                // An answer without news is saved as well, because the last attempt to save it may have failed.
                self.reconciler.save_node_facts().await;
                is_news.then_some(PassTrigger::News)
            }
            Wakeup::Timer => self.handle_timers(now).await,
        }
    }

    async fn handle_hint(&mut self, hint: Hint) -> PassTrigger {
        if hint.rescan {
            self.counters.watch_overflows += 1;
            tracing::warn!("events were lost; every file is checked again");
        }
        for plugin in self.watch.plugins_in(&hint) {
            self.reconciler.forget_plugin_state(&plugin);
        }
        if self.watch.concerns_config(&hint) {
            self.reload_config().await;
        }
        PassTrigger::Hint(hint.at)
    }

    fn handle_maintenance(&mut self, outcome: MaintenanceOutcome) -> Option<PassTrigger> {
        match outcome {
            MaintenanceOutcome::Nothing | MaintenanceOutcome::One => None,
            MaintenanceOutcome::AllRead => {
                self.last_full_reading = Some(Timestamp(std::time::SystemTime::now()));
                Some(PassTrigger::News)
            }
            MaintenanceOutcome::Drift => Some(PassTrigger::News),
        }
    }

    fn handle_gates(&mut self, answer: GateAnswer) -> Option<PassTrigger> {
        if answer.is_outdated {
            self.gates.start(self.reconciler.context());
        }
        let have_opened = answer.closed.is_empty();
        let is_news = self.reconciler.record_gate_answers(answer.closed);
        is_news.then_some(match have_opened {
            true => PassTrigger::GatesOpened,
            false => PassTrigger::News,
        })
    }

    async fn handle_timers(&mut self, now: Instant) -> Option<PassTrigger> {
        let due = self.schedule.take_due_work(now);
        if due.resync {
            self.begin_full_reading();
        }
        if due.poll || due.resync || (due.pass && self.config.is_refused()) {
            self.watch.record_poll();
            self.reload_config().await;
        }
        due.pass.then_some(match due.retry || due.resync {
            true => PassTrigger::AskAgain,
            false => PassTrigger::News,
        })
    }

    /// Starts to check everything again, because events may have been lost, and a disk can change without any write.
    fn begin_full_reading(&mut self) {
        let now = Instant::now();
        self.watch.invalidate();
        self.maintenance
            .request_full_reading(self.reconciler.context());
        self.reconciler.forget_failed_answers();
        self.runtime.ask_now(now);
        self.node.ask_now(now);
    }

    /// Starts work beside passes:
    /// - the questions to the runtime and about the node, if they are due;
    /// - a download, if one is needed and due, or otherwise a step of maintenance. They never run at the same time,
    ///   because maintenance deletes blobs that no ledger knows yet.
    fn start_work_beside_passes(&mut self) {
        let now = Instant::now();
        self.runtime.start_if_due(&self.options.host, now);
        self.node.start_if_due(now);
        if self.downloads.is_running() || self.maintenance.is_running() {
            return;
        }
        self.schedule
            .set_timer(Timer::Download, self.downloads.next_due(now));
        if let Some(artifact) = self.downloads.next_artifact(now)
            && let Some(download) = self.reconciler.fetch_artifact(artifact.clone())
        {
            self.downloads.start(artifact.name, download);
            return;
        }
        self.maintenance.start_if_due(&self.reconciler);
    }
}
