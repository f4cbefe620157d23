//! Everything that the agent knows, put together as one [`Status`].

use std::time::{Instant, SystemTime};

use super::Daemon;
use super::timers::POLL;
use crate::fetch::redact_url;
use crate::model::{
    Agent, Artifact, Check, CheckName, Counters, Declared, DeclaredArtifact, Snapshot, Status,
    Timestamp, WatchMode,
};
use crate::reconcile::{Context, PassReport, ReconcileError};
use crate::store::ManagedDir;
use crate::trust::DeclaredPin;

/// What is known before the first look: nothing, so the node is not ready.
pub(super) fn nothing_yet(agent: &Agent, keeper: &Context) -> Status {
    let mut check = Check::new(CheckName::Binaries);
    check.failures.push("not looked at yet".to_owned());
    Status {
        agent: agent.clone(),
        declared: declared(keeper),
        looked: Timestamp(SystemTime::now()),
        began: Some(Instant::now()),
        verified: None,
        passes: 0,
        snapshot: Snapshot {
            checks: vec![Check::new(CheckName::Config), check],
            ..Snapshot::default()
        },
        watch: WatchMode::Events,
        directory: None,
        kubernetes: None,
        downloads: Vec::new(),
        errors: Vec::new(),
        drift: Vec::new(),
        counters: counters(),
    }
}

/// Counters that are known before anything happened: a series that begins at 1 hides its first step.
pub(super) fn counters() -> Counters {
    let mut counters = Counters::default();
    counters.repairs.extend([("healed", 0), ("failed", 0)]);
    counters.downloads.insert(("ok", ""), 0);
    counters
}

/// What is true after a pass. `stuck` is what keeps it from being mended.
pub(super) fn status(daemon: &Daemon, pass: PassReport, stuck: Option<&str>) -> Status {
    let mut snapshot = pass.snapshot;
    if let Some(stuck) = stuck {
        let mut checks = snapshot.checks.iter_mut();
        let wrong = checks.position(|check| {
            matches!(check.name, CheckName::Binaries | CheckName::Conflist)
                && !check.failures.is_empty()
        });
        match wrong {
            // What is wrong and why it stays so in one, since the short form of /readyz has room for one.
            Some(wrong) => {
                let failures = &mut snapshot.checks[wrong].failures;
                failures[0] = format!("{}; {stuck}", failures[0]);
                let wanted = pass.wanted.iter();
                let others = wanted.filter_map(|artifact| daemon.no_supply.get(&artifact.name));
                failures.extend(others.filter(|other| *other != stuck).cloned());
            }
            None => {
                if let Some(check) = snapshot.checks.first_mut() {
                    check.warnings.push(stuck.to_owned());
                }
            }
        }
    }
    around(daemon, &mut snapshot);
    Status {
        snapshot,
        directory: pass.directory,
        ..said(daemon, pass.began, stuck)
    }
}

/// What is true where the disk cannot be looked at: the files are as they were last seen, and that is no answer.
pub(super) fn blind(daemon: &Daemon, error: &ReconcileError, began: Instant) -> Status {
    let before = daemon.publisher.latest();
    let mut check = Check::new(CheckName::Binaries);
    check.failures = lines(error);
    let mut snapshot = Snapshot {
        files: before.snapshot.files.clone(),
        checks: vec![check],
        effective: None,
    };
    around(daemon, &mut snapshot);
    Status {
        snapshot,
        ..said(daemon, began, Some(&error.to_string()))
    }
}

/// Everything but what a pass tells. `stuck` is what keeps drift from being mended now; what once did is no reason.
fn said(daemon: &Daemon, began: Instant, stuck: Option<&str>) -> Status {
    let waiting = daemon.waiting(stuck);
    let ago = began.elapsed();
    Status {
        agent: daemon.agent.clone(),
        declared: declared(daemon.caretaker.context()),
        looked: Timestamp(SystemTime::now() - ago),
        began: Some(began),
        verified: daemon.verified,
        passes: daemon.passes,
        snapshot: Snapshot::default(),
        watch: match &daemon.blind {
            None => WatchMode::Events,
            Some(reason) => WatchMode::Polling {
                every_seconds: POLL.as_secs(),
                reason: reason.clone(),
            },
        },
        directory: None,
        kubernetes: daemon.uses_the_api().then(|| daemon.requests.snapshot()),
        downloads: daemon.downloads.values().cloned().collect(),
        errors: daemon.errors.clone(),
        drift: daemon.log.entries(waiting),
        counters: daemon.counters.clone(),
    }
}

/// Puts the checks that are about the agent itself around those that are about the disk.
fn around(daemon: &Daemon, snapshot: &mut Snapshot) {
    let mut config = Check::new(CheckName::Config);
    config.failures.clone_from(&daemon.refused);
    config.warnings.extend(daemon.postponed.clone());
    let mut watch = Check::new(CheckName::Watch);
    if let Some(reason) = &daemon.blind {
        watch.warnings.push(format!(
            "degraded: the disk is looked at every {} s, since changes are not told: {reason}",
            POLL.as_secs()
        ));
    }
    snapshot.checks.insert(0, config);
    snapshot.checks.push(watch);
    snapshot.checks.push(conflict(daemon));
    let settings = daemon.caretaker.context().settings();
    if settings.runtime.is_some() && settings.network.is_some() {
        snapshot.checks.push(daemon.runtime.check());
    }
}

/// Whether another writer is at work. Without numbers: the sentence has to stay the same as long as it is true.
fn conflict(daemon: &Daemon) -> Check {
    let mut check = Check::new(CheckName::Conflict);
    let (bin, conf) = daemon.caretaker.context().shown_dirs();
    for (place, name) in daemon.patience.conflicts() {
        let dir = match place {
            ManagedDir::Bin => &bin,
            ManagedDir::Conf => &conf,
        };
        let path = dir.join(name.as_str());
        let by = daemon.log.author(&path);
        let by = by.map_or("another writer".to_owned(), |by| {
            format!("another writer ({by})")
        });
        check.failures.push(format!(
            "{by} keeps undoing what cni-keeper (pid {}) does to {}; find and stop one of the two, /drift tells what it does",
            daemon.agent.pid,
            path.display()
        ));
    }
    if let Some(error) = daemon.no_hold.as_ref().filter(|error| error.is_held()) {
        check.failures.push(error.to_string());
    }
    check
}

/// The declaration in force, without secrets.
fn declared(keeper: &Context) -> Declared {
    let settings = keeper.settings();
    let (bin_dir, conf_dir) = keeper.shown_dirs();
    let artifact = |artifact: &Artifact<DeclaredPin>| DeclaredArtifact {
        name: artifact.name.clone(),
        version: artifact.version.clone(),
        pin: keeper.pin_of(artifact).map(|pin| pin.to_string()),
        pinned_by: artifact.pin.describe_source(),
        sources: artifact
            .sources
            .iter()
            .map(|source| redact_url(source))
            .collect(),
        plugins: artifact
            .members
            .iter()
            .map(|member| member.plugin.to_string())
            .collect(),
    };
    Declared {
        profile: settings.profile.clone(),
        policy: settings.drift.policy,
        foreign_conflists: settings.drift.foreign_conflists,
        resync_seconds: settings.drift.resync.as_secs(),
        bin_dir,
        conf_dir,
        state_dir: keeper.shown_state_dir(),
        artifacts: settings.artifacts.iter().map(artifact).collect(),
        conflist: settings
            .network
            .as_ref()
            .map(|network| network.file_name.to_string()),
    }
}

/// What is wrong, a line for each mistake.
pub(super) fn lines(error: &ReconcileError) -> Vec<String> {
    match error {
        ReconcileError::Conflist(findings) => findings
            .iter()
            .map(|finding| {
                format!(
                    "network.conflist.{}: {}; {}",
                    finding.at, finding.problem, finding.fix
                )
            })
            .collect(),
        ReconcileError::Render(error) => {
            let problems = error.problems.iter();
            problems
                .map(|problem| format!("network.conflist.{problem}"))
                .collect()
        }
        other => vec![other.to_string()],
    }
}
