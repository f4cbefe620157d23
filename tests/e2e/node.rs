//! A node as its parts see it: the runtime's own words, and the agent under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::archive::{DEBIAN_PLUGINS, plugins_tgz, sha256};
use crate::containerd::{BIN_DIR_SETTING, Containerd};
use crate::cri::{Cri, RuntimeCondition};
use crate::loaded::Loaded;
use crate::namespace::run;
use crate::poll::until;

/// Where the runtime looks for plugins.
pub(crate) const BIN_DIR: &str = "/opt/cni/bin";
/// Where the runtime looks for networks.
pub(crate) const CONF_DIR: &str = "/etc/cni/net.d";
/// The conflist that is declared.
pub(crate) const CONFLIST: &str = "10-cni-keeper.conflist";
/// The plugins that are declared.
pub(crate) const PLUGINS: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];
/// The name of the network, which is also the name of the directory of its leases.
pub(crate) const NETWORK: &str = "pod-network";

/// One private node with a running containerd.
pub(crate) struct Node {
    pub(crate) containerd: Containerd,
    pub(crate) cri: Cri,
    dir: PathBuf,
    /// The parent of the cgroups of its pods.
    pub(crate) cgroup_parent: String,
}

impl Node {
    /// A node without a network; `dir` is on the real disk and empty.
    pub(crate) async fn start(dir: &Path, cgroup_parent: String) -> Self {
        let (containerd, cri) = Containerd::start(dir, BIN_DIR_SETTING).await;
        Self {
            containerd,
            cri,
            dir: dir.to_owned(),
            cgroup_parent,
        }
    }

    /// Declares the network with a release of the plugins that differs from others by `version` alone.
    pub(crate) fn declare(&self, version: &str) {
        self.declare_with(version, "");
    }

    /// The same, with `more` sections of the configuration.
    pub(crate) fn declare_with(&self, version: &str, more: &str) {
        self.declare_from(Path::new(DEBIAN_PLUGINS), "", version, more);
    }

    /// The same with the plugins in `dir`, and one more key in the conflist.
    pub(crate) fn declare_from(&self, dir: &Path, key: &str, version: &str, more: &str) {
        let archive = self.dir.join(format!("cni-plugins-{version}.tgz"));
        // One more plugin than is wanted, as in upstream's archives.
        let packed: Vec<&str> = PLUGINS.into_iter().chain(["vlan"]).collect();
        let bytes = plugins_tgz(dir, &packed, version.as_bytes());
        fs::write(&archive, &bytes).unwrap();
        let arch = cni_keeper::model::Arch::of_this_program().unwrap();
        let config = format!(
            r#"
apiVersion: cni-keeper/v1alpha1
kind: NodeNetwork
artifacts:
  - name: cni-plugins
    version: {version}
    sources: ["file://{archive}"]
    sha256: {{{arch}: "{digest}"}}
    plugins: [{plugins}]
network:
  fileName: {CONFLIST}
  facts: [{{values: {{node.podCIDR: 10.88.0.0/16}}}}]
  conflist:
    cniVersion: "1.0.0"
    {key}
    name: {NETWORK}
    plugins:
      - type: bridge
        bridge: cni0
        isGateway: true
        ipMasq: true
        hairpinMode: true
        ipam:
          type: host-local
          ranges: [[{{subnet: "${{node.podCIDR}}"}}]]
          routes: [{{dst: 0.0.0.0/0}}]
      - type: portmap
        capabilities: {{portMappings: true}}
        snat: true
{more}
"#,
            archive = archive.display(),
            digest = sha256(&bytes),
            plugins = PLUGINS.join(", "),
        );
        fs::write(self.config(), config).unwrap();
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join("config.yaml")
    }

    /// Where logs go.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs the agent's `command` over what is declared; fails unless it ends with success.
    pub(crate) fn run_command(&self, command: &str) {
        let output = Command::new(env!("CARGO_BIN_EXE_cni-keeper"))
            .arg("--config")
            .arg(self.config())
            .arg(command)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "cni-keeper {command}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// What the runtime says about its network right now.
    pub(crate) async fn network(&self) -> RuntimeCondition {
        self.loaded().await.condition
    }

    /// The same, with what it has loaded.
    pub(crate) async fn loaded(&self) -> Loaded {
        Loaded::ask(&self.cri).await.unwrap()
    }

    /// Waits until the runtime says that its network is ready, or that it is not. It is the same containerd
    /// as at the start: a restarted one would have to be distinguished from one that saw the change.
    pub(crate) async fn until_network_ready(&mut self, wanted: bool) -> RuntimeCondition {
        let condition = until("NetworkReady to change", async || {
            let condition = self.network().await;
            if condition.status == wanted {
                Ok(condition)
            } else {
                Err(format!("{condition:?}"))
            }
        })
        .await;
        self.containerd.assert_running();
        condition
    }

    /// Ends the runtime and starts it again.
    pub(crate) async fn restart_runtime(&mut self) {
        self.stop_runtime().await;
        self.start_runtime().await;
    }

    /// Ends the runtime; pods stay.
    pub(crate) async fn stop_runtime(&mut self) {
        self.containerd.stop().await;
    }

    /// Starts the runtime that was ended.
    pub(crate) async fn start_runtime(&mut self) {
        self.start_runtime_with(BIN_DIR_SETTING).await;
    }

    /// The same with other settings about CNI.
    pub(crate) async fn start_runtime_with(&mut self, cni: &str) {
        (self.containerd, self.cri) = Containerd::start(&self.dir, cni).await;
    }

    /// What made the runtime load its network anew, since the start.
    ///
    /// It acts on events in the kernel's order, so a file of our own is written and waited for: whatever was
    /// going to be logged of what came before is logged by then.
    pub(crate) async fn reloads(&self) -> Vec<String> {
        let flag = Path::new(CONF_DIR).join("flag");
        let before = self.containerd.reloads().len();
        fs::write(&flag, "seen?").unwrap();
        let count = |events: &[String]| {
            events
                .iter()
                .filter(|event| event.contains("/flag"))
                .count()
        };
        let flags = count(&self.containerd.reloads()[..before]);
        let events = until("the runtime to see a file", async || {
            let events = self.containerd.reloads();
            if count(&events) > flags {
                Ok(events)
            } else {
                Err(format!("{events:?}"))
            }
        })
        .await;
        events
            .into_iter()
            .filter(|event| !event.contains("/flag"))
            .collect()
    }

    /// Stops the runtime and looks for anything that was left: a lease, a network namespace, a mapped port, a
    /// mount, a process.
    pub(crate) async fn finish(mut self) {
        assert_eq!(
            self.leases(),
            Vec::<String>::new(),
            "addresses not given back"
        );
        assert_eq!(names_in(Path::new("/run/netns")), Vec::<String>::new());
        let rules = run("iptables", &["-t", "nat", "-S"]);
        assert!(!rules.contains("--dport"), "ports still mapped:\n{rules}");
        self.containerd.stop().await;
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let of_pods: Vec<&str> = mounts
            .lines()
            .filter(|line| line.contains("/run/containerd/") || line.contains("/run/netns"))
            .collect();
        assert_eq!(of_pods, Vec::<&str>::new(), "still mounted");
        until_nothing_runs().await;
    }
}

/// Waits until the processes of the test have ended.
pub(crate) async fn until_nothing_runs() {
    until("every process to end", async || reap()).await;
}

/// Whether nothing runs any more. As the first process of its namespace, this one is the parent of all orphans.
fn reap() -> Result<(), String> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return Ok(()),
            Ok(WaitStatus::StillAlive) => return Err(run("busybox", &["ps"])),
            Ok(_) => {}
            Err(error) => panic!("cannot wait: {error}"),
        }
    }
}

/// The names in a directory; none where it is missing.
pub(crate) fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
