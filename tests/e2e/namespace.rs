//! A private node: namespaces in which the real paths of a node belong to one test.
//!
//! The test binary runs itself again under `unshare`, as the first process of a new process namespace.
//! When that one ends, for whatever reason, the kernel kills everything in it and releases its mounts.
//! It ends by itself when its standard input does, so even a killed test run leaves nothing running.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::Uid;

use crate::archive::DEBIAN_PLUGINS;
use crate::cgroup::{self, CgroupParent};
use crate::node::Node;

/// Set for the run inside: the directory on the real disk that it shares with the run outside.
const INSIDE: &str = "CNI_KEEPER_E2E_DIR";
/// Where the run inside finds that directory.
const SHARED: &str = "/run/test";
/// Set for the run inside: the parent of its cgroups.
const CGROUP: &str = "CNI_KEEPER_E2E_CGROUP";
/// Set to `require`, a test that cannot run fails instead of being skipped.
const REQUIRE: &str = "CNI_KEEPER_E2E";
/// Written by the run inside once its scenario is through: the proof that it was run at all.
const DONE: &str = "done";
/// For a whole scenario, which takes seconds; every wait in it has a shorter deadline of its own.
const DEADLINE: Duration = Duration::from_secs(300);
/// For one that tells of its steps, which is for those that take long.
const LONG_DEADLINE: Duration = Duration::from_secs(1200);

/// Where root finds programs, whatever the caller's own path: containerd looks for runc, and plugins for iptables.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Each names directories to look into first. The one: another containerd than the installed one, with its shim and
/// `ctr`; the tests of a blind runtime do not hold for 2.1, which ends where others go blind. The other: the programs
/// of Kubernetes, which no package installs.
const OTHERS: [&str; 2] = ["CNI_KEEPER_E2E_CONTAINERD", "CNI_KEEPER_E2E_KUBERNETES"];

/// The search path on the node.
fn path() -> String {
    let mut path = String::new();
    for dirs in OTHERS.iter().filter_map(|other| env::var(other).ok()) {
        path = format!("{path}{dirs}:");
    }
    path + PATH
}

const UNSHARE: [&str; 10] = [
    "--mount",
    "--net",
    "--pid",
    "--ipc",
    "--uts",
    "--fork",
    "--mount-proc",
    "--kill-child",
    "--propagation",
    "private",
];

/// The programs that a node is made of, and the Debian package of each.
const PROGRAMS: [(&str, &str); 7] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("busybox", "busybox-static"),
    ("unshare", "util-linux"),
];

/// Runs `scenario` on a fresh private node. `test` is the calling test itself, by which it is found again inside.
///
/// Skips, with a line that says what to install, where no node can be made; `CNI_KEEPER_E2E=require` makes
/// that a failure.
pub(crate) fn on_a_private_node<T: Fn()>(test: T, scenario: impl AsyncFnOnce(&mut Node)) {
    match env::var_os(INSIDE) {
        Some(dir) => inside(Path::new(&dir), scenario),
        None => outside(name_of(&test), None),
    }
}

/// The same for a scenario that takes minutes: what it writes to standard error is seen at once.
pub(crate) fn on_a_private_node_for_long<T: Fn()>(test: T, scenario: impl AsyncFnOnce(&mut Node)) {
    match env::var_os(INSIDE) {
        Some(dir) => inside(Path::new(&dir), scenario),
        None => outside(name_of(&test), Some(Stdio::inherit())),
    }
}

/// The name by which `--exact` finds the test: its path without the crate's.
fn name_of<T>(_test: &T) -> &'static str {
    let path = std::any::type_name::<T>();
    path.split_once("::").map_or(path, |(_crate, rest)| rest)
}

fn outside(test: &str, reported: Option<Stdio>) {
    if let Some(reason) = obstacle() {
        assert!(
            env::var_os(REQUIRE).is_none_or(|value| value != "require"),
            "{reason}"
        );
        // Past the capture of `cargo test`: a skip must be seen.
        let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
        return;
    }
    cgroup::sweep();
    let parent = CgroupParent::new(test);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let log = dir.path().join("test.log");
    let output = File::create(&log).unwrap();
    let deadline = if reported.is_some() {
        LONG_DEADLINE
    } else {
        DEADLINE
    };
    let mut child = Command::new("unshare")
        .args(UNSHARE)
        .arg(env::current_exe().unwrap())
        .args([
            "--exact",
            test,
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("PATH", path())
        .env(INSIDE, dir.path())
        .env(CGROUP, parent.path())
        // Held open for as long as this run lives: its end is the sign to stop.
        .stdin(Stdio::piped())
        .stdout(output.try_clone().unwrap())
        .stderr(reported.unwrap_or_else(|| output.into()))
        .spawn()
        .unwrap();
    let in_time = ended_in_time(&mut child, deadline);
    // Waiting closes its standard input, which ends it if it still runs.
    let status = child.wait().unwrap();
    assert!(
        in_time && status.success() && dir.path().join(DONE).exists(),
        "{}\n{}",
        fs::read_to_string(&log).unwrap(),
        if in_time { "" } else { "It was out of time." }
    );
    assert_eq!(
        parent.remove(),
        Vec::<PathBuf>::new(),
        "something still runs in the cgroups of this test"
    );
}

/// Whether the run inside ends before its deadline.
fn ended_in_time(child: &mut Child, deadline: Duration) -> bool {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

/// Why no node can be made here, and what to do about it.
fn obstacle() -> Option<String> {
    if !Uid::effective().is_root() {
        return Some("a private node needs root: run as root, in a virtual machine".to_owned());
    }
    let plugins = Path::new(DEBIAN_PLUGINS).is_dir();
    let missing: BTreeSet<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|(_, package)| *package)
        .chain((!plugins).then_some("containernetworking-plugins"))
        .collect();
    if !missing.is_empty() {
        return Some(format!(
            "programs are missing: apt-get install {}",
            missing.into_iter().collect::<Vec<_>>().join(" ")
        ));
    }
    let allowed = Command::new("unshare")
        .args(UNSHARE)
        .arg("true")
        .output()
        .unwrap();
    (!allowed.status.success()).then(|| {
        format!(
            "namespaces are refused here ({}): run in a virtual machine or a privileged container",
            String::from_utf8_lossy(&allowed.stderr).trim()
        )
    })
}

/// Where a program of the node lies.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&path())
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

fn inside(dir: &Path, scenario: impl AsyncFnOnce(&mut Node)) {
    std::thread::spawn(|| {
        // Ends when the run outside does, whether it finished or was killed.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    make_private(dir);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut node = Node::start(Path::new(SHARED), env::var(CGROUP).unwrap()).await;
        scenario(&mut node).await;
        node.finish().await;
    });
    fs::write(Path::new(SHARED).join(DONE), []).unwrap();
}

/// Hides the real node: what a runtime and a network installer write to is empty, and in memory.
fn make_private(dir: &Path) {
    run("mount", &["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"]);
    // Before the overlays, which would keep to themselves what is written under them.
    fs::create_dir(SHARED).unwrap();
    run("mount", &["--bind", dir.to_str().unwrap(), SHARED]);
    // An overlay takes the mount points that are missing, so that none is made on the real disk,
    // and leaves everything else there visible, perhaps this program.
    for (name, dir) in [("etc", "/etc"), ("opt", "/opt"), ("lib", "/var/lib")] {
        let (upper, work) = (format!("/run/{name}/upper"), format!("/run/{name}/work"));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        let layers = format!("lowerdir={dir},upperdir={upper},workdir={work}");
        run("mount", &["-t", "overlay", "-o", &layers, "overlay", dir]);
    }
    for dir in [
        "/etc/cni",
        "/opt/cni",
        "/var/lib/cni",
        "/var/lib/containerd",
    ] {
        fs::create_dir_all(dir).unwrap();
        run("mount", &["-t", "tmpfs", "-o", "mode=755", "tmpfs", dir]);
    }
    run("ip", &["link", "set", "lo", "up"]);
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
}

/// Runs a program of the node to its end; fails with its output.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let path = find_program(program).unwrap();
    let output = Command::new(path).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
