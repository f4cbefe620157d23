//! The running agent: arm the watch → look → mend → publish → wait, for as long as it lives.
//!
//! One task does all of it, one thing after the other; only downloads, chores and questions to others go on beside it.
//! Its parts: `places` (where to watch), `patience` (how long to wait for a file that somebody keeps undoing), `log`
//! (what drifted and how it ended), `gates`, `runtime` and `node` (questions to others), `report` (all of it as one
//! [`Status`]), `handle` (what the views hold of it), `reporters` (what the Kubernetes API is told of it).

mod gates;
mod handle;
mod log;
mod node;
mod patience;
mod places;
mod report;
mod reporters;
mod runtime;
mod timers;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

pub use handle::{Handle, Publisher, Stale, Stuck};

use tokio::task::JoinHandle;

use crate::config::Settings;
use crate::host::Host;
use crate::kube::{self, KubeClient};
use crate::model::{
    Agent, Artifact, Counters, DownloadOutcome, FileName, RecordedError, Status, Timestamp,
};
use crate::reconcile::{
    Context, KnownNode, Maintenance, MaintenanceOutcome, ReconcileError, Reconciler, StoredArtifact,
};
use crate::retry::Refetch;
use crate::store::ManagedDir;
use crate::trust::DeclaredPin;
use crate::watch::{DirWatcher, Hint};

use gates::Gates;
use log::Log;
use node::Node;
use patience::Patience;
use places::Places;
use reporters::Reporters;
use runtime::Runtime;
use timers::Timers;

/// Reads the configuration anew; `Err` is the mistakes in it, a line each. Blocks.
pub type Reader = Arc<dyn Fn() -> Result<Settings, Vec<String>> + Send + Sync>;

/// What the agent is started with.
pub struct Start {
    /// The declaration.
    pub settings: Settings,
    /// The node.
    pub host: Host,
    /// The node's name, where it was told.
    pub node_name: Option<String>,
    /// The configuration file.
    pub config: PathBuf,
    /// Reads it anew.
    pub reader: Reader,
    /// Every flag with the value in force, for `/flagz`.
    pub flags: BTreeMap<String, String>,
}

/// The agent at work.
pub struct Daemon {
    start: Start,
    agent: Agent,
    caretaker: Reconciler,
    publisher: Publisher,
    watch: DirWatcher,
    /// Why the kernel cannot tell of changes.
    blind: Option<String>,
    /// Whether it can again since then, and something may have happened before.
    was_blind: bool,
    places: Arc<Places>,
    /// The name of the declared network, as far as it is known.
    network: Option<String>,
    /// Why the configuration file is not the declaration in force.
    refused: Vec<String>,
    /// What takes effect only when the agent is started again.
    postponed: Option<String>,
    /// Why the state directory is not ours to write to.
    no_hold: Option<ReconcileError>,
    /// Why the last download of each artifact brought nothing.
    no_supply: BTreeMap<String, String>,
    /// What came of the last download of each artifact.
    downloads: BTreeMap<String, DownloadOutcome>,
    runtime: Runtime,
    /// What came of all requests to the Kubernetes API.
    requests: kube::RequestLog,
    node: Node,
    reporters: Reporters,
    patience: Patience<(ManagedDir, FileName)>,
    log: Log,
    counters: Counters,
    errors: Vec<RecordedError>,
    timers: Timers,
    passes: u64,
    /// Whether no pass was made for this declaration yet.
    fresh: bool,
    verified: Option<Timestamp>,
    chores: Maintenance,
    chore: Option<JoinHandle<(Maintenance, MaintenanceOutcome)>>,
    chores_are_done: bool,
    wanted: Vec<Artifact<DeclaredPin>>,
    /// Which of them to download, and when.
    refetch: Refetch,
    fetch: Option<Download>,
    gates: Gates,
}

/// The name of the artifact, and what comes of it.
type Download =
    Pin<Box<dyn Future<Output = (String, Result<Option<StoredArtifact>, ReconcileError>)>>>;

/// Why a turn is taken.
#[derive(Debug, Default)]
struct Reason {
    /// When the first sign of a change came.
    since: Option<Instant>,
    /// Whether gates are asked, and plugins that gave no answer.
    ask: bool,
    /// Whether gates that did not hold do now: they are asked once more before anything is written.
    opened: bool,
}

/// What the agent was woken by.
enum Wake {
    Stop,
    Hint(Hint),
    Asked,
    /// The runtime has answered; `told` if somebody wants to know.
    Runtime {
        told: bool,
    },
    Chore(Maintenance, MaintenanceOutcome),
    Fetched(String, Box<Result<Option<StoredArtifact>, ReconcileError>>),
    /// Why each gate that does not hold does not.
    Gates(Vec<String>),
    /// The Kubernetes API has told of the node, or has not; whether that is news.
    Node(bool),
    Time,
}

impl Daemon {
    /// Brings everything together, and the handle that views hold; nothing is looked at before [`Daemon::run`].
    #[must_use]
    pub fn new(start: Start) -> (Self, Handle) {
        let now = Instant::now();
        let known = KnownNode::default();
        let keeper = keeper(&start, start.settings.clone(), known.clone());
        let requests = kube::RequestLog::default();
        let node = Node::of(&keeper, api(&keeper, &requests), known, now);
        let agent = Agent {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            node: keeper.node_name(),
            started: Timestamp(std::time::SystemTime::now()),
            config: start.config.clone(),
            flags: start.flags.clone(),
        };
        let first = report::nothing_yet(&agent, &keeper);
        let refetch = refetch(&keeper, now);
        let (publisher, handle) = Handle::pair(first);
        let timers = Timers::new(now, start.settings.drift.resync);
        let daemon = Self {
            agent,
            caretaker: Reconciler::new(keeper),
            publisher,
            watch: DirWatcher::new(),
            blind: None,
            was_blind: false,
            places: Arc::default(),
            network: None,
            refused: Vec::new(),
            postponed: None,
            no_hold: None,
            no_supply: BTreeMap::new(),
            downloads: BTreeMap::new(),
            runtime: Runtime::of(&start.settings),
            requests,
            node,
            reporters: Reporters::default(),
            patience: Patience::new(),
            log: Log::default(),
            counters: report::counters(),
            errors: Vec::new(),
            timers,
            passes: 0,
            fresh: true,
            verified: None,
            chores: Maintenance::default(),
            chore: None,
            chores_are_done: false,
            wanted: Vec::new(),
            refetch,
            fetch: None,
            gates: Gates::default(),
            start,
        };
        (daemon, handle)
    }

    /// Keeps the node as it is declared until `stop` ends. What is in place stays, whatever ends it.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        self.chores.request_sweep();
        self.report();
        let mut reason = Some(Reason {
            ask: true,
            ..Reason::default()
        });
        loop {
            if let Some(reason) = reason.take() {
                self.publisher.busy(true);
                let again = self.turn(reason).await;
                self.publisher.busy(false);
                if again {
                    self.timers.at_once();
                }
            }
            self.work_beside();
            let next = self.timers.next();
            let others = [self.runtime.due(), self.node.due()];
            let next = others.into_iter().flatten().fold(next, Instant::min);
            let wake = tokio::select! {
                biased;
                () = &mut stop => Wake::Stop,
                hint = hint(&mut self.watch, self.timers.resting_until()) => Wake::Hint(hint),
                (name, supply) = running(&mut self.fetch) => Wake::Fetched(name, Box::new(supply)),
                (chores, done) = ended(&mut self.chore) => Wake::Chore(chores, done),
                closed = self.gates.answered() => Wake::Gates(closed),
                news = self.node.answered() => Wake::Node(news),
                told = self.runtime.answered() => Wake::Runtime { told },
                () = self.publisher.asked() => Wake::Asked,
                () = tokio::time::sleep_until(next.into()) => Wake::Time,
            };
            if matches!(wake, Wake::Stop) {
                return;
            }
            // To read a configuration anew is to look at the disk, too, which need not answer.
            self.publisher.busy(true);
            reason = self.woken(wake).await;
            self.publisher.busy(false);
        }
    }

    /// Whether what happened calls for a turn.
    async fn woken(&mut self, wake: Wake) -> Option<Reason> {
        let now = Instant::now();
        match wake {
            Wake::Stop => None,
            Wake::Hint(hint) => Some(self.hinted(hint).await),
            Wake::Asked if self.runtime.viewed(now) => {
                // The turn comes with the runtime's answer, or without it where that takes too long.
                self.timers.in_time(now + runtime::AWAITED);
                None
            }
            Wake::Asked => self.timers.asked(now).then(Reason::default),
            Wake::Runtime { told } => told.then(Reason::default),
            Wake::Chore(chores, done) => self.chore_done(chores, done),
            Wake::Fetched(name, supply) => {
                self.fetch = None;
                self.fetched(name, *supply, now);
                Some(Reason::default())
            }
            Wake::Gates(closed) => {
                let opened = closed.is_empty();
                self.gates.ask_on(self.caretaker.context());
                let is_news = self.caretaker.record_gate_answers(closed);
                is_news.then_some(Reason {
                    opened,
                    ..Reason::default()
                })
            }
            Wake::Node(news) => {
                // Also what is no news: it may not have been written down yet.
                self.caretaker.save_node_facts().await;
                news.then(Reason::default)
            }
            Wake::Time => {
                let due = self.timers.due(now);
                if due.resync {
                    self.resync();
                }
                if due.poll || due.resync || (due.turn && !self.refused.is_empty()) {
                    self.was_blind = false;
                    self.reload().await;
                }
                due.turn.then_some(Reason {
                    ask: due.retry || due.resync,
                    ..Reason::default()
                })
            }
        }
    }

    async fn hinted(&mut self, hint: Hint) -> Reason {
        if hint.rescan {
            self.counters.watch_overflows += 1;
            tracing::warn!("events were lost; everything is looked at again");
        }
        let mut plugins = BTreeSet::new();
        for path in &hint.paths {
            plugins.extend(self.places.plugin(path));
        }
        for plugin in plugins {
            self.caretaker.context().forget_plugin_state(&plugin);
        }
        if hint.rescan || hint.paths.iter().any(|path| self.places.is_config(path)) {
            self.reload().await;
        }
        Reason {
            since: Some(hint.at),
            ..Reason::default()
        }
    }

    fn chore_done(&mut self, chores: Maintenance, done: MaintenanceOutcome) -> Option<Reason> {
        self.chore = None;
        let meanwhile = std::mem::replace(&mut self.chores, chores);
        let more = self.chores.merge_requests(meanwhile);
        self.chores_are_done = done == MaintenanceOutcome::Nothing && !more;
        match done {
            MaintenanceOutcome::Nothing | MaintenanceOutcome::One => None,
            MaintenanceOutcome::AllRead => {
                self.verified = Some(Timestamp(std::time::SystemTime::now()));
                Some(Reason::default())
            }
            MaintenanceOutcome::Drift => Some(Reason::default()),
        }
    }

    /// Time for a full reading: events may have been lost, and a disk can change what nobody wrote.
    fn resync(&mut self) {
        self.watch.invalidate();
        self.chores.restart(self.caretaker.context());
        self.chores_are_done = false;
        self.caretaker.forget_answers();
        self.runtime.doubted(Instant::now());
        self.node.doubted(Instant::now());
    }

    /// Starts what goes on beside turns: a question to the runtime if it is due; a download if one is wanted and
    /// due, else a chore. Never both of these, since chores let go of what no ledger knows of yet.
    fn work_beside(&mut self) {
        self.runtime.ask(&self.start.host, Instant::now());
        self.node.ask(Instant::now());
        if self.fetch.is_some() || self.chore.is_some() {
            return;
        }
        let now = Instant::now();
        self.timers.refetch(self.refetch.due(now));
        if let Some(artifact) = self.next_download(now)
            && let Some(download) = self.caretaker.fetch_artifact(artifact.clone())
        {
            let name = artifact.name;
            self.refetch.record_start(&name);
            self.fetch = Some(Box::pin(async move { (name, download.await) }));
            return;
        }
        if !self.chores_are_done {
            let chores = std::mem::take(&mut self.chores);
            self.chore = Some(self.caretaker.run_maintenance_step(chores));
        }
    }

    /// What to download now.
    fn next_download(&self, now: Instant) -> Option<Artifact<DeclaredPin>> {
        let names = self.wanted.iter().map(|artifact| artifact.name.as_str());
        let name = self.refetch.next_download(names, now)?;
        let mut wanted = self.wanted.iter();
        wanted.find(|artifact| artifact.name == name).cloned()
    }

    /// Has the Kubernetes API told what is declared to be told.
    fn report(&mut self) {
        let keeper = self.caretaker.context();
        let api = api(keeper, &self.requests);
        let settings = &keeper.settings().kubernetes;
        self.reporters
            .apply_settings(settings, &api, self.publisher.subscribe());
    }

    /// Whether anything is asked of the Kubernetes API or told to it.
    fn uses_the_api(&self) -> bool {
        let keeper = self.caretaker.context();
        keeper.needs_node_facts() || keeper.settings().kubernetes.reports_anything()
    }

    /// What was last published.
    #[must_use]
    pub fn latest(&self) -> Arc<Status> {
        self.publisher.latest()
    }
}

/// When a declaration's downloads may begin, by where its node stands among those of its cluster.
fn refetch(keeper: &Context, now: Instant) -> Refetch {
    let window = keeper.settings().fetch.spread;
    Refetch::with_delay(now, keeper.spread().start_delay(window), window)
}

fn keeper(start: &Start, settings: Settings, known: KnownNode) -> Context {
    Context::new(settings, start.host.clone(), start.node_name.clone()).with_node(known)
}

/// The Kubernetes API as it is declared to be reached.
fn api(keeper: &Context, requests: &kube::RequestLog) -> KubeClient {
    let settings = keeper.settings().kubernetes.clone();
    KubeClient::new(settings, keeper.node_name(), requests.clone())
}

/// The next hint, once the agent has rested: until then changes add up without waking anybody.
async fn hint(watch: &mut DirWatcher, rested: Instant) -> Hint {
    if rested > Instant::now() {
        tokio::time::sleep_until(rested.into()).await;
    }
    watch.next_hint().await
}

/// Ends with the download that is under way; never where none is.
async fn running(
    download: &mut Option<Download>,
) -> (String, Result<Option<StoredArtifact>, ReconcileError>) {
    match download {
        Some(download) => download.await,
        None => std::future::pending().await,
    }
}

/// Ends with the chore that is under way; never where none is.
async fn ended(
    chore: &mut Option<JoinHandle<(Maintenance, MaintenanceOutcome)>>,
) -> (Maintenance, MaintenanceOutcome) {
    match chore {
        Some(chore) => match chore.await {
            Ok(done) => done,
            // It panicked, which the log has told: the next round tries again.
            Err(_) => (Maintenance::default(), MaintenanceOutcome::Nothing),
        },
        None => std::future::pending().await,
    }
}
