//! A node as its parts see it: the runtime's own words, pods, and the agent under test.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::archive::{IMAGE, plugins_tgz, sha256};
use crate::containerd::Containerd;
use crate::cri::{
    ContainerConfig, ContainerId, ContainerMetadata, CreateContainerRequest, Cri, ExecSyncRequest,
    ImageSpec, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxId, PodSandboxMetadata,
    PortMapping, RunPodSandboxRequest, RuntimeCondition, StatusRequest,
};
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
const LEASES: &str = "/var/lib/cni/networks";

/// One private node with a running containerd.
pub(crate) struct Node {
    containerd: Containerd,
    cri: Cri,
    dir: PathBuf,
    cgroup_parent: String,
}

/// A sandbox with one container that serves the pod's name over HTTP on port 80.
pub(crate) struct Pod {
    sandbox: String,
    container: String,
    /// Its address in the pod network.
    pub(crate) ip: IpAddr,
}

impl Node {
    /// A node without a network; `dir` is on the real disk and empty.
    pub(crate) async fn start(dir: &Path, cgroup_parent: String) -> Self {
        let (containerd, cri) = Containerd::start(dir).await;
        Self {
            containerd,
            cri,
            dir: dir.to_owned(),
            cgroup_parent,
        }
    }

    /// Declares the network with a release of the plugins that differs from others by `version` alone.
    pub(crate) fn declare(&self, version: &str) {
        let archive = self.dir.join(format!("cni-plugins-{version}.tgz"));
        // One more plugin than is wanted, as in upstream's archives.
        let packed: Vec<&str> = PLUGINS.into_iter().chain(["vlan"]).collect();
        let bytes = plugins_tgz(&packed, version.as_bytes());
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
"#,
            archive = archive.display(),
            digest = sha256(&bytes),
            plugins = PLUGINS.join(", "),
        );
        fs::write(self.config(), config).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.dir.join("config.yaml")
    }

    /// Runs the agent's `command` over what is declared; fails unless it ends with success.
    pub(crate) fn keeper(&self, command: &str) {
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
        let answer = self.cri.status(StatusRequest { verbose: false }).await;
        let conditions = answer.unwrap().status.unwrap().conditions;
        conditions
            .into_iter()
            .find(|condition| condition.kind == "NetworkReady")
            .unwrap()
    }

    /// Waits until the runtime says that its network is ready, or that it is not. It is the same containerd
    /// as at the start: a restarted one would have to be told apart from one that saw the change.
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
        self.containerd.stop().await;
        (self.containerd, self.cri) = Containerd::start(&self.dir).await;
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

    /// Runs a pod, with its port 80 mapped to `host_port` of the node.
    pub(crate) async fn run_pod(&self, name: &str, host_port: u16) -> Pod {
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: name.to_owned(),
                namespace: "default".to_owned(),
            }),
            hostname: name.to_owned(),
            port_mappings: vec![PortMapping {
                container_port: 80,
                host_port: host_port.into(),
            }],
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup_parent.clone(),
            }),
        };
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
        };
        let sandbox = match self.cri.run_pod_sandbox(request).await {
            Ok(answer) => answer.id,
            Err(error) => panic!(
                "no sandbox for {name}: {}\n{}",
                error.message(),
                self.containerd.log_tail()
            ),
        };
        let serve =
            format!("echo {name} >/tmp/index.html; exec /bin/busybox httpd -f -p 80 -h /tmp");
        let container = ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: "server".to_owned(),
            }),
            image: Some(ImageSpec {
                image: IMAGE.to_owned(),
            }),
            command: ["/bin/busybox", "sh", "-c", &serve]
                .map(str::to_owned)
                .to_vec(),
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(container),
            sandbox_config: Some(config),
        };
        let container = self.cri.create_container(request).await.unwrap().id;
        let id = ContainerId {
            id: container.clone(),
        };
        self.cri.start_container(id).await.unwrap();
        let id = PodSandboxId {
            id: sandbox.clone(),
        };
        let status = self.cri.pod_sandbox_status(id).await.unwrap().status;
        let ip = status.unwrap().network.unwrap().ip.parse().unwrap();
        Pod {
            sandbox,
            container,
            ip,
        }
    }

    /// The page that `from` gets from `to`, once the server of `to` is up.
    pub(crate) async fn page_between(&self, from: &Pod, to: &Pod) -> String {
        let url = format!("http://{}/", to.ip);
        until("one pod to reach the other", async || {
            let cmd = ["/bin/busybox", "wget", "-O", "-", &url];
            let request = ExecSyncRequest {
                container_id: from.container.clone(),
                cmd: cmd.map(str::to_owned).to_vec(),
                timeout: 10,
            };
            match self.cri.exec_sync(request).await {
                Ok(answer) if answer.exit_code == 0 => {
                    Ok(String::from_utf8(answer.stdout).unwrap())
                }
                Ok(answer) => Err(format!(
                    "exit {}: {}",
                    answer.exit_code,
                    String::from_utf8_lossy(&answer.stderr)
                )),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }

    /// The page that the node itself gets from an address of its own, which portmap turns towards a pod.
    pub(crate) async fn page_from_node(&self, address: IpAddr, port: u16) -> String {
        until("the mapped port to answer", async || {
            get(SocketAddr::new(address, port)).map_err(|error| error.to_string())
        })
        .await
    }

    /// Stops and removes a pod, as a kubelet does; the runtime calls DEL of the plugins.
    pub(crate) async fn remove_pod(&self, pod: Pod) {
        let id = PodSandboxId { id: pod.sandbox };
        if let Err(error) = self.cri.stop_pod_sandbox(id.clone()).await {
            panic!("{}\n{}", error.message(), self.containerd.log_tail());
        }
        self.cri.remove_pod_sandbox(id).await.unwrap();
    }

    /// The addresses that host-local has given away and not got back.
    pub(crate) fn leases(&self) -> Vec<String> {
        let names = names_in(&Path::new(LEASES).join(NETWORK));
        names
            .into_iter()
            .filter(|name| name.parse::<IpAddr>().is_ok())
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
        until("every process of the node to end", async || reap()).await;
    }
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

/// The body of a GET of `/`.
fn get(address: SocketAddr) -> std::io::Result<String> {
    let patience = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_head, body)| body);
    Ok(body.unwrap_or_default().to_owned())
}
