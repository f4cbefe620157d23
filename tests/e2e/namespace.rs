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
pub(crate) const SHARED: &str = "/run/test";
/// Set for the run inside: the parent of its cgroups.
const CGROUP: &str = "CNI_KEEPER_E2E_CGROUP";
/// Set to `require`, a test that cannot run fails instead of being skipped.
const REQUIRE: &str = "CNI_KEEPER_E2E";
/// Written by the run inside once its scenario is through: the proof that it was run at all.
const DONE: &str = "done";
/// For a whole scenario, which takes seconds; every wait in it has a shorter deadline of its own.
const DEADLINE: Duration = Duration::from_secs(300);
/// For one that tells of its steps, because it takes long.
const LONG_DEADLINE: Duration = Duration::from_secs(1200);

/// Where root finds programs, whatever the caller's own path: containerd looks for runc, and plugins for iptables.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names directories to look into first: those of `scripts/peers`, or of another containerd than the installed one, with
/// its shim and `ctr`. The tests of a blind runtime do not hold for 2.1, which ends where others go blind.
const PEERS: &str = "CNI_KEEPER_E2E_PEERS";

/// The search path on the node.
fn path() -> String {
    with_path(peers())
}

/// Those directories.
fn peers() -> Option<String> {
    env::var(PEERS).ok().filter(|dirs| !dirs.is_empty())
}

fn with_path(peers: Option<String>) -> String {
    peers.map_or(PATH.to_owned(), |peers| format!("{peers}:{PATH}"))
}

/// Namespaces whose processes die with the first one of them.
pub(crate) const UNSHARE: [&str; 10] = [
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
    on_a_node_with(test, &Needs::default(), scenario);
}

/// The same with more that it needs.
pub(crate) fn on_a_node_with<T: Fn()>(
    test: T,
    needs: &Needs,
    scenario: impl AsyncFnOnce(&mut Node),
) {
    in_namespaces(test, needs, async |dir, cgroup| {
        let mut node = Node::start(dir, cgroup).await;
        scenario(&mut node).await;
        node.finish().await;
    });
}

/// What a test needs besides root and the Debian packages.
#[derive(Default)]
pub(crate) struct Needs<'a> {
    /// Programs of others, each with the name that `scripts/peers` has for it.
    pub(crate) peers: &'a [(&'a str, &'a str)],
    /// A directory in which all programs are looked for first; with the reason where there is none.
    pub(crate) first: Option<Result<String, String>>,
    /// Whether it may take minutes, and tells of its steps on standard error meanwhile.
    pub(crate) is_long: bool,
}

impl Needs<'_> {
    /// What is missing, and what to do about it.
    fn missing(&self) -> Option<String> {
        if let Some(Err(reason)) = &self.first {
            return Some(reason.clone());
        }
        let missing: BTreeSet<&str> = self
            .peers
            .iter()
            .filter(|(program, _)| find_in(&peers().unwrap_or_default(), program).is_none())
            .map(|(_, name)| *name)
            .collect();
        let names = missing.into_iter().collect::<Vec<_>>().join(" ");
        (!names.is_empty()).then(|| format!("programs are missing: scripts/peers {names}"))
    }

    /// The directories to look into first.
    fn peers_path(&self) -> Option<String> {
        let first = self.first.iter().flatten().cloned();
        let dirs: Vec<String> = first.chain(peers()).collect();
        (!dirs.is_empty()).then(|| dirs.join(":"))
    }
}

/// Runs `scenario` in namespaces of its own, with a directory on the disk and a parent for its cgroups.
pub(crate) fn in_namespaces<T: Fn()>(
    test: T,
    needs: &Needs,
    scenario: impl AsyncFnOnce(&Path, String),
) {
    match env::var_os(INSIDE) {
        Some(dir) => inside(Path::new(&dir), scenario),
        None => outside(name_of(&test), needs),
    }
}

/// The name by which `--exact` finds the test: its path without the crate's.
fn name_of<T>(_test: &T) -> &'static str {
    let path = std::any::type_name::<T>();
    path.split_once("::").map_or(path, |(_crate, rest)| rest)
}

fn outside(test: &str, needs: &Needs) {
    if let Some(reason) = obstacle().or_else(|| needs.missing()) {
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
    let (deadline, errors) = match needs.is_long {
        true => (LONG_DEADLINE, Stdio::inherit()),
        false => (DEADLINE, output.try_clone().unwrap().into()),
    };
    let peers = needs.peers_path();
    let mut child = Command::new("unshare")
        .envs(peers.clone().map(|peers| (PEERS, peers)))
        .args(UNSHARE)
        .arg(env::current_exe().unwrap())
        .args([
            "--exact",
            test,
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("PATH", with_path(peers))
        .env(INSIDE, dir.path())
        .env(CGROUP, parent.path())
        // Held open for as long as this run lives: its end is the sign to stop.
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(errors)
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
    find_in(&path(), name)
}

fn find_in(path: &str, name: &str) -> Option<PathBuf> {
    env::split_paths(path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

fn inside(dir: &Path, scenario: impl AsyncFnOnce(&Path, String)) {
    std::thread::spawn(|| {
        // Ends when the run outside does, whether it finished or was killed.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    make_private(dir);
    let shared = Path::new(SHARED);
    block_on(scenario(shared, env::var(CGROUP).unwrap()));
    fs::write(shared.join(DONE), []).unwrap();
}

/// Runs what is asynchronous on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
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
