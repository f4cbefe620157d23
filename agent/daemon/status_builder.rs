//! Builds the published status from everything that the agent knows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use super::state::Daemon;
use crate::config::ForeignConflists;
use crate::fetch::redact_url;
use crate::model::{
    Agent, Artifact, Check, CheckName, Counters, Declared, DeclaredArtifact, DriftKind,
    DriftRecord, ManagedDir, Snapshot, Status, Timestamp, WatchMode,
};
use crate::reconcile::{PassReport, ReconcileError, Reconciler};
use crate::trust::DeclaredPin;

/// The status before the first pass: nothing is known, so the node is not ready.
pub(super) fn build_first_status(agent: &Agent, reconciler: &Reconciler) -> Status {
    let mut check = Check::new(CheckName::Binaries);
    check.failures.push("not checked yet".to_owned());
    Status {
        agent: agent.clone(),
        declared: describe_declaration(reconciler),
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
        counters: new_counters(),
    }
}

/// Counters that exist from the start. A time series that begins at 1 would hide its first increment.
pub(super) fn new_counters() -> Counters {
    let mut counters = Counters::default();
    counters.repairs.extend([("healed", 0), ("failed", 0)]);
    counters.downloads.insert(("ok", ""), 0);
    counters
}

/// The status after a pass. `blocker` is what keeps the agent from repairing.
pub(super) fn build_status(daemon: &Daemon, pass: PassReport, blocker: Option<&str>) -> Status {
    let mut snapshot = pass.snapshot;
    if let Some(blocker) = blocker {
        add_blocker(daemon, &mut snapshot.checks, &pass.wanted, blocker);
    }
    add_failed_repairs(daemon, &mut snapshot.checks);
    add_agent_checks(daemon, &mut snapshot);
    Status {
        snapshot,
        directory: pass.directory,
        ..build_without_snapshot(daemon, pass.began, blocker)
    }
}

/// The status if the disk cannot be observed: the files of the last observation, and the node is not ready.
pub(super) fn build_unobserved_status(
    daemon: &Daemon,
    error: &ReconcileError,
    began: Instant,
) -> Status {
    let before = daemon.latest_status();
    let mut check = Check::new(CheckName::Binaries);
    check.failures = list_mistakes(error);
    let mut snapshot = Snapshot {
        files: before.snapshot.files.clone(),
        checks: vec![check],
        effective: None,
    };
    add_agent_checks(daemon, &mut snapshot);
    Status {
        snapshot,
        ..build_without_snapshot(daemon, began, Some(&error.to_string()))
    }
}

/// Adds the blocker to the check that fails because of it. If no check fails, it becomes a warning.
fn add_blocker(
    daemon: &Daemon,
    checks: &mut [Check],
    wanted: &[Artifact<DeclaredPin>],
    blocker: &str,
) {
    let failed = checks.iter_mut().find(|check| {
        matches!(check.name, CheckName::Binaries | CheckName::Conflist)
            && !check.failures.is_empty()
    });
    if let Some(failed) = failed {
        // It is on one line with the first failure, because the short form of /readyz shows only one line.
        let failures = &mut failed.failures;
        failures[0] = format!("{}; {blocker}", failures[0]);
        let others = daemon.downloads.errors_of(wanted);
        failures.extend(others.filter(|other| *other != blocker).cloned());
    } else if let Some(check) = checks.first_mut() {
        check.warnings.push(blocker.to_owned());
    }
}

/// Adds to each file whose repair failed why it did, in the check of its directory.
fn add_failed_repairs(daemon: &Daemon, checks: &mut [Check]) {
    for ((dir, name), reason) in daemon.repair_backoff.failed_repairs() {
        let tells = |failure: &String| failure.contains(name.as_str());
        let told = checks.iter_mut().flat_map(|check| &mut check.failures);
        if let Some(failure) = told.into_iter().find(|failure| tells(failure)) {
            *failure = format!("{failure}; {reason}");
            continue;
        }
        let about = match dir {
            ManagedDir::Bin => CheckName::Binaries,
            ManagedDir::Conf => CheckName::Conflist,
        };
        if let Some(check) = checks.iter_mut().find(|check| check.name == about) {
            check.failures.push(reason.to_owned());
        }
    }
}

/// Everything except the snapshot and the directory. `blocker` is what keeps the agent from repairing now.
fn build_without_snapshot(daemon: &Daemon, began: Instant, blocker: Option<&str>) -> Status {
    Status {
        agent: daemon.agent.clone(),
        declared: describe_declaration(&daemon.reconciler),
        looked: Timestamp(SystemTime::now() - began.elapsed()),
        began: Some(began),
        verified: daemon.last_full_reading,
        passes: daemon.passes,
        snapshot: Snapshot::default(),
        watch: daemon.watch.mode(),
        directory: None,
        kubernetes: daemon.uses_kubernetes().then(|| daemon.requests.snapshot()),
        downloads: daemon.downloads.outcomes(),
        errors: daemon.errors.clone(),
        drift: daemon
            .drift_log
            .list_records(explain_waiting(daemon, blocker)),
        counters: daemon.counters.clone(),
    }
}

/// For each drift, why it is not repaired at once.
fn explain_waiting(
    daemon: &Daemon,
    blocker: Option<&str>,
) -> impl Fn(&DriftRecord) -> Option<String> {
    let settings = daemon.context().settings();
    let backoff = daemon.repair_backoff.files_in_backoff(Instant::now());
    let backoff: BTreeMap<PathBuf, Duration> = backoff
        .map(|((dir, name), left)| (daemon.context().shown_path(*dir, name), left))
        .collect();
    let failed = daemon.repair_backoff.failed_repairs();
    let failed: BTreeMap<PathBuf, String> = failed
        .map(|((dir, name), why)| (daemon.context().shown_path(*dir, name), why.to_owned()))
        .collect();
    let is_report_only = daemon.reconciler.is_report_only();
    let general = if is_report_only {
        Some("drift.policy is report".to_owned())
    } else if daemon.downloads.is_running() {
        Some("its artifact is being downloaded".to_owned())
    } else {
        blocker.map(str::to_owned)
    };
    let leaves_foreign =
        settings.drift.foreign_conflists == ForeignConflists::Report && !is_report_only;
    move |record| match backoff.get(&record.path) {
        _ if leaves_foreign && record.kind.is_foreign_conflist() => {
            Some("drift.foreignConflists is report".to_owned())
        }
        // The agent never removes a drop-in.
        _ if record.kind == DriftKind::DropIn => None,
        Some(left) => Some(format!(
            "another writer keeps undoing the repair; the next one is in {:.1} s",
            left.as_secs_f64()
        )),
        None => failed.get(&record.path).or(general.as_ref()).cloned(),
    }
}

/// Adds the checks that are about the agent itself before and after those that are about the disk.
fn add_agent_checks(daemon: &Daemon, snapshot: &mut Snapshot) {
    snapshot.checks.insert(0, daemon.config.check());
    snapshot.checks.push(daemon.watch.check());
    snapshot.checks.push(check_conflict(daemon));
    let mut endpoint = Check::new(CheckName::Endpoint);
    endpoint.warnings = daemon.publisher.endpoint_problems();
    if !endpoint.warnings.is_empty() {
        snapshot.checks.push(endpoint);
    }
    let settings = daemon.context().settings();
    if settings.runtime.is_some() && settings.network.is_some() {
        snapshot.checks.push(daemon.runtime.check());
    }
}

/// Checks whether another program undoes the repairs. The text contains no numbers that change, so that it stays the
/// same while it is true.
fn check_conflict(daemon: &Daemon) -> Check {
    let mut check = Check::new(CheckName::Conflict);
    for (dir, name) in daemon.repair_backoff.files_in_conflict() {
        let path = daemon.context().shown_path(*dir, name);
        let writer = daemon.drift_log.last_writer(&path);
        let writer = writer.map_or("another writer".to_owned(), |writer| {
            format!("another writer ({writer})")
        });
        check.failures.push(format!(
            "{writer} keeps undoing what cni-keeper (pid {}) does to {}; find it and stop one of the two; /drift shows what it does",
            daemon.agent.pid,
            path.display()
        ));
    }
    let lock_error = daemon.lock.error().filter(|error| error.is_held());
    check.failures.extend(lock_error.map(ToString::to_string));
    check
}

/// The declaration in force, without secrets.
fn describe_declaration(reconciler: &Reconciler) -> Declared {
    let context = reconciler.context();
    let settings = context.settings();
    let (bin_dir, conf_dir) = context.shown_dirs();
    let artifact = |artifact: &Artifact<DeclaredPin>| DeclaredArtifact {
        name: artifact.name.clone(),
        version: artifact.version.clone(),
        pin: reconciler.known_pin(artifact).map(|pin| pin.to_string()),
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
        state_dir: context.shown_state_dir(),
        artifacts: settings.artifacts.iter().map(artifact).collect(),
        conflist: settings
            .network
            .as_ref()
            .map(|network| network.file_name.to_string()),
    }
}

/// The mistakes in a declaration, a line each.
pub(super) fn list_mistakes(error: &ReconcileError) -> Vec<String> {
    match error {
        ReconcileError::Conflist(findings) => findings
            .iter()
            .map(|finding| format!("network.conflist.{}: {}", finding.at, finding.describe()))
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
