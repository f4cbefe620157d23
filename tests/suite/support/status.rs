//! Statuses of a running agent, in the states in which people see it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cni_keeper::model::{
    Agent, Candidate, Check, CheckName, ContainerRuntime, Counters, Declared, DeclaredArtifact,
    Difference, Directory, DriftKind, DriftPolicy, DriftRecord, EffectiveNetwork, FileReport,
    ForeignConflists, Outcome, RecordedError, RuntimeView, Sha256, Snapshot, Standing, Status,
    Timestamp, WatchMode,
};

const BIN: &str = "/opt/cni/bin";
const CONF: &str = "/etc/cni/net.d";
const OURS: &str = "10-cni-keeper.conflist";
const CHECKS: [CheckName; 8] = [
    CheckName::Config,
    CheckName::Binaries,
    CheckName::Conflist,
    CheckName::Precedence,
    CheckName::Plugins,
    CheckName::Gates,
    CheckName::Watch,
    CheckName::Conflict,
];

/// The time of all these statuses.
pub(crate) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_363_392)
}

fn ago(seconds: u64) -> Timestamp {
    Timestamp(now() - Duration::from_secs(seconds))
}

/// Everything is as declared, and always was so.
pub(crate) fn ready() -> Status {
    let plugins = [
        "bandwidth",
        "bridge",
        "firewall",
        "host-local",
        "loopback",
        "portmap",
    ];
    let mut files: Vec<FileReport> = plugins
        .map(|plugin| right(&Path::new(BIN).join(plugin), "cni-plugins v1.9.1"))
        .into();
    files.push(right(&Path::new(CONF).join(OURS), "configuration"));
    Status {
        agent: Agent {
            version: "0.1.0".to_owned(),
            pid: 4242,
            node: Some("worker-7.example".to_owned()),
            started: ago(3 * 86_400 + 5_000),
            config: PathBuf::from("/etc/cni-keeper/config.yaml"),
            flags: [("log-format".to_owned(), "json".to_owned())].into(),
        },
        declared: Declared {
            profile: Some("reference-bridge".to_owned()),
            policy: DriftPolicy::Heal,
            foreign_conflists: ForeignConflists::Report,
            resync_seconds: 300,
            bin_dir: PathBuf::from(BIN),
            conf_dir: PathBuf::from(CONF),
            state_dir: PathBuf::from("/opt/cni/.cni-keeper"),
            artifacts: vec![DeclaredArtifact {
                name: "cni-plugins".to_owned(),
                version: "v1.9.1".to_owned(),
                pin: Some(format!("sha256:{}", Sha256::of(b"archive"))),
                pinned_by: "configuration".to_owned(),
                sources: vec!["https://mirror.example/cni-plugins.tgz".to_owned()],
                plugins: plugins.map(str::to_owned).into(),
            }],
            conflist: Some(OURS.to_owned()),
        },
        looked: ago(2),
        began: Some(Instant::now()),
        verified: Some(ago(190)),
        passes: 1_203,
        snapshot: Snapshot {
            files,
            checks: CHECKS.map(Check::new).into(),
            effective: None,
        },
        watch: WatchMode::Events,
        directory: Some(Directory {
            path: PathBuf::from(CONF),
            runtimes: ContainerRuntime::ALL.map(takes_ours).into(),
            candidates: vec![candidate(OURS, true, Ok("pod-network"))],
            effective: Some(EffectiveNetwork {
                file: OURS.to_owned(),
                name: "pod-network".to_owned(),
                cni_version: "1.0.0".to_owned(),
                chain: ["bridge", "portmap", "bandwidth", "firewall"]
                    .map(str::to_owned)
                    .into(),
                text: r#"{"secret": "SECRET"}"#.to_owned(),
            }),
        }),
        downloads: Vec::new(),
        errors: Vec::new(),
        drift: Vec::new(),
        kubernetes: None,
        counters: Counters::default(),
    }
}

/// Everything is as declared again, a few times already, and there is something odd.
pub(crate) fn healed() -> Status {
    let mut status = ready();
    status.watch = WatchMode::Polling {
        every_seconds: 2,
        reason: "fs.inotify.max_user_instances is used up; raise it with sysctl".to_owned(),
    };
    let odd = "degraded: looking every 2 s, because fs.inotify.max_user_instances is used up; raise it with sysctl";
    check(&mut status, "watch").warnings.push(odd.to_owned());
    status.drift = [
        entry(
            3,
            190,
            "bridge",
            DriftKind::Missing,
            healed_by("placed from the store", 1_300),
        ),
        DriftRecord {
            before: "mode 0666".to_owned(),
            after: Some("mode 0755".to_owned()),
            what: "has mode 0666, expected 0755".to_owned(),
            ..entry(
                2,
                5_400,
                "portmap",
                DriftKind::Mode,
                healed_by("mode and owner set", 420),
            )
        },
        DriftRecord {
            before: "sha256 0d1b0a5b3f8e".to_owned(),
            after: Some("sha256 5c9a7c1b5c0e".to_owned()),
            what: "has sha256 0d1b0a5b3f8e, expected 5c9a7c1b5c0e".to_owned(),
            ..entry(
                1,
                86_400,
                "bridge",
                DriftKind::Content,
                Outcome::Gone {
                    after: Duration::from_secs(75),
                },
            )
        },
    ]
    .map(Arc::new)
    .into();
    status
}

/// Another program deletes a plugin whenever it is back, and edits the conflist.
pub(crate) fn drifting() -> Status {
    let mut status = healed();
    let bridge = &mut status.snapshot.files[1];
    bridge.standing = Standing::Drift;
    bridge.actual = None;
    bridge.drifts = vec![Difference::Missing];
    let conflist = status.snapshot.files.last_mut().unwrap();
    let (expected, actual) = (conflist.expected.unwrap(), Sha256::of(b"edited"));
    conflist.standing = Standing::Drift;
    conflist.actual = Some(actual);
    conflist.drifts = vec![Difference::Content { expected, actual }];
    let reported = format!("{CONF}/{OURS} {}", conflist.drifts[0]);
    fail(&mut status, "binaries", "/opt/cni/bin/bridge is missing");
    fail(&mut status, "conflist", &reported);
    fail(
        &mut status,
        "conflict",
        "/opt/cni/bin/bridge was undone 7 times in 40 s; the next repair is in 12 s. Find whoever deletes it",
    );
    let fight = DriftRecord {
        times: 7,
        by: Some("a program that deletes it within 20 ms of each repair".to_owned()),
        ..entry(
            12,
            8,
            "bridge",
            DriftKind::Missing,
            Outcome::Open {
                waiting: Some("backing off, tried again in 12 s".to_owned()),
            },
        )
    };
    status.drift.insert(0, Arc::new(fight));
    status.errors.push(RecordedError {
        at: ago(30),
        what: "cannot reach mirror.example: no such host; check the DNS of the node".to_owned(),
        times: 4,
    });
    status
}

/// A foreign file stops the runtimes, and the node waits for its network daemon.
pub(crate) fn blocked() -> Status {
    let mut status = ready();
    let error = "line 1 column 2: EOF while parsing an object";
    for (check, reason) in [
        (
            "config",
            "/etc/cni-keeper/config.yaml:14: drift.resync: '5 minutes' is no duration; write 5m",
        ),
        (
            "precedence",
            "05-broken.conf sorts before 10-cni-keeper.conflist and does not load (line 1 column 2: EOF while parsing an object), so containerd loads nothing; remove it, or set drift.foreignConflists: disable to have it renamed",
        ),
        ("gates", "file /run/flannel/subnet.env does not exist yet"),
    ] {
        fail(&mut status, check, reason);
    }
    let conflist = status.snapshot.files.last_mut().unwrap();
    conflist.standing = Standing::Waiting;
    conflist.expected = None;
    let directory = status.directory.as_mut().unwrap();
    directory.effective = None;
    directory.candidates = vec![
        candidate("05-broken.conf", false, Err(error)),
        candidate(OURS, true, Ok("pod-network")),
        candidate("87-podman-bridge.conflist", false, Ok("podman")),
    ];
    for runtime in &mut directory.runtimes[..2] {
        runtime.takes = None;
        runtime.network = None;
        runtime.why = vec![format!("05-broken.conf does not load: {error}")];
    }
    directory.runtimes[2].why = vec![format!("passes over 05-broken.conf: {error}")];
    status
}

/// Nothing is declared but an artifact without files, and nothing was looked at.
pub(crate) fn bare() -> Status {
    let mut status = ready();
    status.agent.node = None;
    status.declared.profile = None;
    status.declared.conflist = None;
    status.verified = None;
    status.directory = None;
    status.snapshot.files.clear();
    status.snapshot.checks.clear();
    status
}

/// The same text wherever a text from outside can stand.
pub(crate) fn hostile(text: &str) -> Status {
    let mut status = drifting();
    status.agent.node = Some(text.to_owned());
    status.agent.config = PathBuf::from(text);
    status.declared.profile = Some(text.to_owned());
    status.declared.bin_dir = PathBuf::from(text);
    status.watch = WatchMode::Polling {
        every_seconds: 1,
        reason: text.to_owned(),
    };
    let file = &mut status.snapshot.files[0];
    file.path = Path::new(BIN).join(text);
    file.origin = text.to_owned();
    file.standing = Standing::Drift;
    file.drifts = vec![Difference::Unreadable {
        reason: text.to_owned(),
    }];
    for check in &mut status.snapshot.checks {
        check.failures.push(text.to_owned());
        check.warnings.push(text.to_owned());
    }
    let directory = status.directory.as_mut().unwrap();
    directory.path = PathBuf::from(text);
    directory.candidates = vec![
        candidate(text, false, Err(text)),
        candidate(text, true, Ok(text)),
    ];
    directory.runtimes[0].takes = Some(text.to_owned());
    directory.runtimes[0].network = Some(text.to_owned());
    directory.runtimes[0].why = vec![text.to_owned()];
    let effective = directory.effective.as_mut().unwrap();
    effective.file = text.to_owned();
    effective.name = text.to_owned();
    effective.cni_version = text.to_owned();
    effective.chain = vec![text.to_owned()];
    status.errors[0].what = text.to_owned();
    let reported = DriftRecord {
        path: Path::new(CONF).join(text),
        what: text.to_owned(),
        before: text.to_owned(),
        after: Some(text.to_owned()),
        by: Some(text.to_owned()),
        ..entry(
            13,
            1,
            "",
            DriftKind::Content,
            Outcome::Open {
                waiting: Some(text.to_owned()),
            },
        )
    };
    status.drift.insert(0, Arc::new(reported));
    status
}

/// A check that speaks against the node.
pub(crate) fn fail(status: &mut Status, name: &str, reason: &str) {
    check(status, name).failures.push(reason.to_owned());
}

fn check<'a>(status: &'a mut Status, name: &str) -> &'a mut Check {
    let mut checks = status.snapshot.checks.iter_mut();
    checks.find(|check| check.name.as_str() == name).unwrap()
}

fn right(path: &Path, origin: &str) -> FileReport {
    let digest = Sha256::of(path.as_os_str().as_encoded_bytes());
    FileReport {
        path: path.to_owned(),
        standing: Standing::Ok,
        expected: Some(digest),
        actual: Some(digest),
        origin: origin.to_owned(),
        drifts: Vec::new(),
    }
}

fn takes_ours(runtime: ContainerRuntime) -> RuntimeView {
    RuntimeView {
        runtime,
        takes: Some(OURS.to_owned()),
        network: Some("pod-network".to_owned()),
        why: Vec::new(),
    }
}

fn candidate(name: &str, ours: bool, network: Result<&str, &str>) -> Candidate {
    Candidate {
        name: name.to_owned(),
        ours,
        network: network.ok().map(str::to_owned),
        error: network.err().map(str::to_owned),
    }
}

fn entry(id: u64, seconds: u64, plugin: &str, kind: DriftKind, outcome: Outcome) -> DriftRecord {
    let is_healed = matches!(outcome, Outcome::Healed { .. });
    DriftRecord {
        id,
        at: ago(seconds),
        path: Path::new(BIN).join(plugin),
        kind,
        what: "is missing".to_owned(),
        before: "absent".to_owned(),
        after: is_healed.then(|| format!("sha256 {}", Sha256::of(plugin.as_bytes()).short())),
        outcome,
        times: 1,
        by: None,
    }
}

const fn healed_by(how: &'static str, micros: u64) -> Outcome {
    Outcome::Healed {
        how: Cow::Borrowed(how),
        took: Duration::from_micros(micros),
    }
}
