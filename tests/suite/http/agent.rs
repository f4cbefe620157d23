//! The real server, with a loop that a test controls.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use cni_keeper::daemon::{Handle, Publisher};
use cni_keeper::http::{ConnectionLimits, Server, Surface};
use cni_keeper::model::{
    Agent as Identity, Candidate, Check, CheckName, ContainerRuntime, Counters, Declared,
    Directory, DriftPolicy, EffectiveNetwork, ForeignConflists, RuntimeView, Snapshot, Status,
    Timestamp, WatchMode,
};
use tokio::sync::{mpsc, oneshot};

use super::client::Client;

/// Longer than any answer takes.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// What the loop does when a view asks for a look.
pub(super) enum Looks {
    /// It looks.
    AtOnce,
    /// It never answers: a disk that hangs.
    Never,
    /// It is over.
    Over,
    /// It tells the test, and waits for its word.
    Gated(Sender<()>, mpsc::UnboundedReceiver<()>),
}

/// The test's end of [`Looks::Gated`].
pub(super) struct Gate {
    pub(super) asked: Receiver<()>,
    pub(super) go: mpsc::UnboundedSender<()>,
}

/// A running server; it stops when dropped.
pub(super) struct Agent {
    pub(super) address: SocketAddr,
    /// What the next look finds.
    disk: Arc<Mutex<Status>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Looks {
    pub(super) fn gated() -> (Self, Gate) {
        let ((tell, asked), (go, wait)) = (channel(), mpsc::unbounded_channel());
        (Self::Gated(tell, wait), Gate { asked, go })
    }
}

impl Agent {
    /// Ready, with the limits of the field.
    pub(super) fn ready() -> Self {
        Self::of(ready())
    }

    /// With that status.
    pub(super) fn of(status: Status) -> Self {
        Self::start(
            status,
            Looks::AtOnce,
            Surface::Everything,
            ConnectionLimits::default(),
        )
    }

    /// Ready, with these limits.
    pub(super) fn within(limits: ConnectionLimits) -> Self {
        Self::start(ready(), Looks::AtOnce, Surface::Everything, limits)
    }

    /// With a loop that is not as it should be.
    pub(super) fn looking(status: Status, looks: Looks) -> Self {
        Self::start(
            status,
            looks,
            Surface::Everything,
            ConnectionLimits::default(),
        )
    }

    pub(super) fn start(
        status: Status,
        looks: Looks,
        surface: Surface,
        limits: ConnectionLimits,
    ) -> Self {
        let disk = Arc::new(Mutex::new(status.clone()));
        let seen = Arc::clone(&disk);
        let (tell, bound) = channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (publisher, handle) = Handle::new_pair(status);
                tokio::spawn(look(publisher, seen, looks));
                let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
                let server = Server::bind(anywhere, surface).unwrap();
                tell.send(server.local_addr()).unwrap();
                let stop = async { _ = stopped.await };
                server.with_limits(limits).serve(handle, stop).await;
            });
        });
        Self {
            address: bound.recv().unwrap(),
            disk,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// A new connection.
    pub(super) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Changes the disk; nobody tells the loop.
    pub(super) fn damage(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.disk.lock().unwrap());
    }

    /// Tells the server to stop, and does not wait for it.
    pub(super) fn begin_to_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until the server has ended.
    pub(super) fn wait(&mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            // The first failure is the one to tell.
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the server panicked"
            );
        }
    }
}

async fn look(publisher: Publisher, disk: Arc<Mutex<Status>>, mut looks: Looks) {
    loop {
        match &mut looks {
            Looks::AtOnce => publisher.pass_request().await,
            Looks::Never => std::future::pending().await,
            Looks::Over => return,
            Looks::Gated(tell, go) => {
                publisher.pass_request().await;
                let _ = tell.send(());
                go.recv().await;
            }
        }
        let began = Instant::now();
        let found = disk.lock().unwrap().clone();
        publisher.publish(Status {
            began: Some(began),
            ..found
        });
    }
}

/// Nothing is wrong.
pub(super) fn ready() -> Status {
    let now = Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    Status {
        agent: Identity {
            version: "1.2.3".to_owned(),
            pid: 42,
            node: Some("node-1".to_owned()),
            started: now,
            config: "/etc/cni-keeper/config.yaml".into(),
            flags: [("host-root".to_owned(), "/".to_owned())].into(),
        },
        declared: Declared {
            profile: None,
            policy: DriftPolicy::Heal,
            foreign_conflists: ForeignConflists::Report,
            resync_seconds: 300,
            bin_dir: "/opt/cni/bin".into(),
            conf_dir: "/etc/cni/net.d".into(),
            state_dir: "/opt/cni/.cni-keeper".into(),
            artifacts: Vec::new(),
            conflist: Some("10-pods.conflist".to_owned()),
        },
        looked: now,
        began: Some(Instant::now()),
        verified: Some(now),
        passes: 1,
        snapshot: Snapshot {
            files: Vec::new(),
            checks: [
                CheckName::Config,
                CheckName::Binaries,
                CheckName::Conflist,
                CheckName::Watch,
            ]
            .map(Check::new)
            .into(),
            effective: None,
        },
        watch: WatchMode::Events,
        directory: Some(Directory {
            path: "/etc/cni/net.d".into(),
            runtimes: vec![RuntimeView {
                runtime: ContainerRuntime::Containerd,
                takes: Some("10-pods.conflist".to_owned()),
                network: Some("pods".to_owned()),
                why: vec!["90-other.conflist sorts after it".to_owned()],
            }],
            candidates: vec![Candidate {
                name: "10-pods.conflist".to_owned(),
                ours: true,
                network: Some("pods".to_owned()),
                error: None,
            }],
            effective: Some(EffectiveNetwork {
                file: "10-pods.conflist".to_owned(),
                name: "pods".to_owned(),
                cni_version: "1.0.0".to_owned(),
                chain: vec!["bridge".to_owned()],
                text: r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge"}]}"#
                    .to_owned(),
            }),
        }),
        downloads: Vec::new(),
        errors: Vec::new(),
        drift: Vec::new(),
        kubernetes: None,
        counters: Counters::default(),
    }
}

/// A check fails with that reason.
pub(super) fn fail(status: &mut Status, check: &str, reason: &str) {
    let checks = &mut status.snapshot.checks;
    let check = checks
        .iter_mut()
        .find(|c| c.name.as_str() == check)
        .unwrap();
    check.failures.push(reason.to_owned());
}

/// A plugin is missing.
pub(super) fn broken() -> Status {
    let mut status = ready();
    fail(&mut status, "binaries", "/opt/cni/bin/bridge is missing");
    status
}
