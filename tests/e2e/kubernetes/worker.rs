//! A node of the cluster: a machine with containerd, a kubelet and kube-proxy.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::cluster::{PODS, flags, path};
use super::keys::{Keys, user_of};
use super::machine::Machine;
use super::program::Program;
use crate::archive::IMAGE;
use crate::containerd::SOCKET;
use crate::node::names_in;
use crate::poll::until;

/// `restrict_oom_score_adj` lets runc run without CAP_SYS_RESOURCE; AppArmor is off because its profile would outlive
/// the test in the kernel.
const CONTAINERD: &str = r#"
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.tracing",
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "native"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "IMAGE"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/opt/cni/bin"]
    conf_dir = "/etc/cni/net.d"
"#;

/// A node that runs.
pub(crate) struct Worker {
    pub(crate) number: u8,
    pub(crate) machine: Machine,
    containerd: Program,
    kubelet: Program,
    proxy: Program,
}

impl Worker {
    /// Switches on the machine of that number and starts the programs of a node, with `images` in its store.
    pub(crate) async fn start(
        number: u8,
        dir: &Path,
        keys: &Keys,
        cgroup_parent: &str,
        images: &[PathBuf],
    ) -> Self {
        let machine = Machine::boot(number, cgroup_parent).await;
        let mut containerd = start_containerd(&machine, dir);
        until_listens(&machine, &mut containerd).await;
        for image in images {
            let import = [
                "--address",
                SOCKET,
                "--namespace",
                "k8s.io",
                "images",
                "import",
            ];
            machine.run("ctr", &[&import[..], &[path(image)]].concat());
        }
        let kubelet = start_kubelet(&machine, dir, &keys.kubeconfig(&user_of(number)));
        let proxy = start_proxy(&machine, dir, &keys.kubeconfig("system:kube-proxy"));
        Self {
            number,
            machine,
            containerd,
            kubelet,
            proxy,
        }
    }

    /// What the runtime says to crictl.
    fn ask_runtime(&self, question: &[&str]) -> String {
        let runtime = format!("unix://{SOCKET}");
        let args = [&["--runtime-endpoint", &runtime], question].concat();
        self.machine.run("crictl", &args)
    }

    /// The network that pods get, by its name: the first that the runtime has loaded besides `lo`.
    pub(crate) fn network(&self) -> Option<String> {
        let info: Value = serde_json::from_str(&self.ask_runtime(&["info"])).unwrap();
        let mut networks = info["cniconfig"]["Networks"].as_array()?.iter();
        let network = networks.find(|network| network["IFName"] != "lo")?;
        network["Config"]["Name"].as_str().map(str::to_owned)
    }

    /// The addresses that host-local has given to pods and not got back.
    pub(crate) fn leases(&self) -> BTreeSet<String> {
        let networks = self.machine.path("/var/lib/cni/networks");
        names_in(&networks)
            .iter()
            .flat_map(|network| names_in(&networks.join(network)))
            .filter(|name| name.parse::<IpAddr>().is_ok())
            .collect()
    }

    /// Ends its programs of Kubernetes and starts them again, so that a node that was deleted joins anew. kube-proxy ends
    /// by itself when its node is deleted.
    pub(crate) async fn restart_kubernetes(&mut self, dir: &Path, keys: &Keys) {
        self.kubelet.stop().await;
        self.proxy.stop().await;
        let kubeconfig = keys.kubeconfig(&user_of(self.number));
        self.kubelet = start_kubelet(&self.machine, dir, &kubeconfig);
        self.proxy = start_proxy(&self.machine, dir, &keys.kubeconfig("system:kube-proxy"));
    }

    /// Pulls the plug.
    pub(crate) async fn power_off(mut self) {
        self.machine.power_off().await;
        for program in [&mut self.containerd, &mut self.kubelet, &mut self.proxy] {
            program.until_ended().await;
        }
    }

    /// Stops its programs, and checks that no pod has left anything on the machine.
    pub(crate) async fn stop(mut self) {
        let name = self.machine.name();
        until("every sandbox to be stopped", async || {
            let running = self.ask_runtime(&["pods", "--state", "ready"]);
            // The first line is a heading.
            (running.lines().count() == 1).then_some(()).ok_or(running)
        })
        .await;
        assert_eq!(self.leases(), BTreeSet::new(), "{name}: leases");
        let namespaces = names_in(&self.machine.path("/run/netns"));
        assert_eq!(namespaces, Vec::<String>::new(), "{name}");
        let rules = self.machine.run("iptables", &["-t", "nat", "-S"]);
        assert!(!rules.contains("CNI-DN-"), "ports still mapped:\n{rules}");
        for program in [&mut self.kubelet, &mut self.proxy, &mut self.containerd] {
            program.assert_running();
            program.stop().await;
        }
        let mounts = fs::read_to_string(self.machine.path("/proc/1/mountinfo")).unwrap();
        let of_pods: Vec<&str> = mounts
            .lines()
            .filter(|line| line.contains("/run/containerd/") || line.contains("/kubelet/pods/"))
            .collect();
        assert_eq!(of_pods, Vec::<&str>::new(), "{name}: still mounted");
        until("every process of the machine to end", async || {
            match self.machine.processes() {
                0 => Ok(()),
                left => Err(format!("{left}: {}", self.machine.run("busybox", &["ps"]))),
            }
        })
        .await;
        self.machine.power_off().await;
    }
}

fn start_containerd(machine: &Machine, dir: &Path) -> Program {
    let config = dir.join("containerd.toml");
    fs::write(&config, CONTAINERD.replace("IMAGE", IMAGE)).unwrap();
    let args = flags(&[("config", path(&config))]);
    Program::start_on(machine, dir, "containerd", &args)
}

async fn until_listens(machine: &Machine, containerd: &mut Program) {
    until("containerd to listen", async || {
        containerd.assert_running();
        let socket = UnixStream::connect(machine.path(SOCKET));
        socket.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

fn start_kubelet(machine: &Machine, dir: &Path, kubeconfig: &Path) -> Program {
    let name = machine.name();
    let config = dir.join(format!("kubelet-{name}.json"));
    let content = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": machine.cgroup,
        "failCgroupV1": false,
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        // The disk is the machine's that runs the test, and how full it is no business of the test.
        "evictionHard": {
            "memory.available": "1Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        // A node tells of itself, and looks at its ConfigMaps, more often than a real one, which has more to do.
        "nodeStatusUpdateFrequency": "1s",
        "syncFrequency": "2s",
        "resolvConf": "",
        "volumePluginDir": "/run/volume-plugins",
    });
    fs::write(&config, content.to_string()).unwrap();
    let args = flags(&[
        ("config", path(&config)),
        ("kubeconfig", path(kubeconfig)),
        ("cert-dir", "/var/lib/kubelet/pki"),
        ("hostname-override", &name),
        ("node-ip", &machine.address()),
    ]);
    Program::start_on(machine, dir, "kubelet", &args)
}

fn start_proxy(machine: &Machine, dir: &Path, kubeconfig: &Path) -> Program {
    let args = flags(&[
        ("kubeconfig", path(kubeconfig)),
        ("hostname-override", &machine.name()),
        ("proxy-mode", "iptables"),
        ("cluster-cidr", PODS),
        // The limit is not of the namespace.
        ("conntrack-max-per-core", "0"),
    ]);
    Program::start_on(machine, dir, "kube-proxy", &args)
}
