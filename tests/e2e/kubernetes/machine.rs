//! A machine of the cluster: namespaces inside those of the test, with disks that outlive a reboot and a cable.
//!
//! The test program runs itself once more under `unshare`, as the first process of the machine. It makes the machine's
//! places private and then does nothing but bury orphans. When it is killed, everything on the machine is.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, sethostname};
use tokio::signal::unix::{SignalKind, signal};

use super::program::only_child;
use crate::cgroup;
use crate::namespace::{SHARED, UNSHARE, block_on, find_program, run};
use crate::poll::until;

/// Set for the first process of a machine: its name.
const MACHINE: &str = "CNI_KEEPER_E2E_MACHINE";
/// What it prints when the machine is up.
const UP: &str = "the machine is up";
/// What a machine keeps in memory, seen from the test.
const STATE: &str = "/run/machines";
/// The bridge that all machines are connected to, with the router's address on it.
pub(crate) const SWITCH: &str = "switch0";
/// The address of the router: of the test itself, where the control plane is.
pub(crate) const ROUTER: &str = "192.168.77.1";

/// What a reboot does not change: places of the node, and where each is kept. Plugins and conflist are on a real disk,
/// because pages of a tmpfs count as the memory of who writes them.
const DISKS: [(&str, &str); 5] = [
    ("/opt/cni", SHARED),
    ("/etc/cni", SHARED),
    ("/var/lib/cni", STATE),
    ("/var/lib/containerd", STATE),
    ("/var/lib/kubelet", STATE),
];

/// Files of the kernel that belong to all machines, and what a file in their place says: a kubelet writes to them.
const SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// A machine that is on.
pub(crate) struct Machine {
    number: u8,
    /// The parent of all its cgroups.
    pub(crate) cgroup: String,
    holder: Child,
    init: Pid,
}

/// Does what the first process of a machine does, for ever, if this is one.
pub(crate) fn be_machine() {
    if let Ok(name) = env::var(MACHINE) {
        make_private(&name);
        println!("\n{UP}");
        block_on(bury_orphans());
    }
}

impl Machine {
    /// Switches on the machine of that number, with the disks that it had, and connects it.
    pub(crate) async fn boot(number: u8, cgroup_parent: &str) -> Self {
        let name = format!("node-{number}");
        let cgroup = format!("{cgroup_parent}/{name}");
        cgroup::make(cgroup_parent);
        cgroup::make(&cgroup);
        let log = Path::new(SHARED).join(format!("{name}.log"));
        let mut holder = Command::new("unshare")
            .args(UNSHARE)
            .arg(env::current_exe().unwrap())
            // Those of the test itself.
            .args(env::args().skip(1))
            .env(MACHINE, &name)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(holder.stdout.take().unwrap()).lines();
        if !output.any(|line| line.unwrap() == UP) {
            let log = fs::read_to_string(log).unwrap();
            panic!("{name} does not come up:\n{log}");
        }
        let init = only_child(holder.id()).unwrap();
        let machine = Self {
            number,
            cgroup,
            holder,
            init,
        };
        machine.connect();
        machine
    }

    /// Puts a cable between the machine and the switch. Its end has the same address whenever the machine is on.
    fn connect(&self) {
        let (port, init, number) = (self.name(), self.init, self.number);
        ip(&format!(
            "link add {port} type veth peer name eth0 address 02:00:00:00:00:{number:02x} netns {init}"
        ));
        ip(&format!("link set {port} master {SWITCH} up"));
        for arguments in [
            format!("address add {}/24 dev eth0", self.address()),
            "link set eth0 up".to_owned(),
            format!("route add default via {ROUTER}"),
        ] {
            let arguments: Vec<&str> = arguments.split(' ').collect();
            self.run("ip", &arguments);
        }
    }

    /// Its name, which is the name of its node.
    pub(crate) fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    /// Its address on the switch.
    pub(crate) fn address(&self) -> String {
        format!("192.168.77.{}", 10 + self.number)
    }

    /// Where the test finds a file of the machine.
    pub(crate) fn path(&self, place: impl AsRef<Path>) -> PathBuf {
        let place = place.as_ref();
        Path::new("/proc")
            .join(self.init.to_string())
            .join("root")
            .join(place.strip_prefix("/").unwrap())
    }

    /// The namespace of its own network, by which a process on it is known.
    pub(crate) fn network(&self) -> PathBuf {
        fs::read_link(format!("/proc/{}/ns/net", self.init)).unwrap()
    }

    /// A command for a program that runs on the machine. Its process is a child of the one that is spawned.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string()])
            .args(["--mount", "--net", "--pid", "--ipc", "--uts", "--"])
            .arg(program);
        command
    }

    /// Runs a program on it to its end; fails with its output.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> String {
        let mut command = self.command(&find_program(program).unwrap());
        let output = command.args(args).output().unwrap();
        assert!(
            output.status.success(),
            "{}: {program} {}: {}",
            self.name(),
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asks something in its network.
    pub(crate) fn in_network<T: Send>(&self, ask: impl FnOnce() -> T + Send) -> T {
        let network = File::open(format!("/proc/{}/ns/net", self.init)).unwrap();
        // The namespace is the thread's, so the thread is thrown away.
        let thread = || {
            setns(&network, CloneFlags::CLONE_NEWNET).unwrap();
            ask()
        };
        std::thread::scope(|scope| scope.spawn(thread).join().unwrap())
    }

    /// How many processes it has besides the first.
    pub(crate) fn processes(&self) -> usize {
        let names = fs::read_dir(self.path("/proc")).unwrap();
        let is_process = |name: &str| name.parse::<u32>().is_ok_and(|pid| pid != 1);
        names
            .filter(|entry| is_process(entry.as_ref().unwrap().file_name().to_str().unwrap()))
            .count()
    }

    /// Pulls the plug: the network, all mounts and all processes are gone, and the disks stay.
    pub(crate) async fn power_off(mut self) {
        // The kernel would take the cable away as well, but some time later.
        ip(&format!("link delete {}", self.name()));
        kill(self.init, Signal::SIGKILL).unwrap();
        self.holder.wait().unwrap();
        until("the cgroups of the machine to go", async || {
            let left = cgroup::remove_path(&self.cgroup);
            left.is_empty().then_some(()).ok_or(format!("{left:?}"))
        })
        .await;
    }
}

/// Runs `ip` in the network of the test.
pub(crate) fn ip(arguments: &str) {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    run("ip", &arguments);
}

/// Makes the places of a node the machine's own.
fn make_private(name: &str) {
    sethostname(name).unwrap();
    let mount = |arguments: &[&str]| run("mount", arguments);
    for (place, keeper) in DISKS {
        let kept = format!("{keeper}/{name}{place}");
        fs::create_dir_all(&kept).unwrap();
        fs::create_dir_all(place).unwrap();
        mount(&["--bind", &kept, place]);
    }
    // By this a kubelet sees that a machine was started anew.
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    for (file, value) in [
        &SYSCTLS[..],
        &[("kernel/random/boot_id", boot_id.trim_end())],
    ]
    .concat()
    {
        let substitute = format!("{STATE}/{name}/{}", file.replace('/', "."));
        fs::write(&substitute, format!("{value}\n")).unwrap();
        mount(&["--bind", &substitute, &format!("/proc/sys/{file}")]);
    }
    // A kubelet makes containerd write the logs of pods there, whatever its configuration.
    mount(&["-t", "tmpfs", "tmpfs", "/var/log"]);
    // An empty /run, but with what is shared with the test.
    let new_run = format!("{STATE}/{name}/run");
    fs::create_dir_all(&new_run).unwrap();
    mount(&["-t", "tmpfs", "-o", "mode=755", "tmpfs", &new_run]);
    let shared = Path::new(&new_run).join(Path::new(SHARED).file_name().unwrap());
    fs::create_dir(&shared).unwrap();
    mount(&["--bind", SHARED, shared.to_str().unwrap()]);
    // mount would write down what it did in /run.
    mount(&["--no-mtab", "--move", &new_run, "/run"]);
    fs::create_dir("/run/netns").unwrap();
    // A kubelet insists that what it mounts for pods is seen in the containers' own namespaces.
    for place in ["/run", "/var/lib/kubelet"] {
        mount(&["--make-rshared", place]);
    }
    ip("link set lo up");
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
}

/// Waits for each process whose parent has ended before it.
async fn bury_orphans() {
    let mut ended = signal(SignalKind::child()).unwrap();
    loop {
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {
        }
        ended.recv().await;
    }
}
