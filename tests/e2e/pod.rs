//! Pods: sandboxes as a kubelet makes them.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::archive::IMAGE;
use crate::cri::{
    ContainerConfig, ContainerId, ContainerMetadata, CreateContainerRequest, Empty,
    ExecSyncRequest, ExecSyncResponse, ImageSpec, LinuxPodSandboxConfig, PodSandboxConfig,
    PodSandboxId, PodSandboxMetadata, PortMapping, RunPodSandboxRequest,
};
use crate::http::get;
use crate::node::{NETWORK, Node, names_in};
use crate::poll::until;

const LEASES: &str = "/var/lib/cni/networks";

/// A sandbox with one container that serves the pod's name over HTTP on port 80.
pub(crate) struct Pod {
    sandbox: String,
    container: String,
    /// Its address in the pod network.
    pub(crate) ip: IpAddr,
}

impl Node {
    /// Runs a pod, with its port 80 mapped to `host_port` of the node.
    pub(crate) async fn run_pod(&self, name: &str, host_port: u16) -> Pod {
        match self.try_pod(name, host_port).await {
            Ok(pod) => pod,
            Err(error) => panic!(
                "no sandbox for {name}: {error}\n{}",
                self.containerd.log_tail()
            ),
        }
    }

    /// The same; fails with the runtime's words where it cannot give the pod a network.
    pub(crate) async fn try_pod(&self, name: &str, host_port: u16) -> Result<Pod, String> {
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
            Err(error) => return Err(error.message().to_owned()),
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
        Ok(Pod {
            sandbox,
            container,
            ip,
        })
    }

    /// The page that `from` gets from `to`, once the server of `to` is up.
    pub(crate) async fn page_between(&self, from: &Pod, to: &Pod) -> String {
        let url = format!("http://{}/", to.ip);
        until("one pod to reach the other", async || {
            match self
                .exec(from, &["/bin/busybox", "wget", "-O", "-", &url])
                .await
            {
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

    /// What a shell in a pod prints; fails unless it ends with success.
    pub(crate) async fn shell(&self, pod: &Pod, script: &str) -> String {
        let answer = self.exec(pod, &["/bin/busybox", "sh", "-c", script]).await;
        let answer = answer.unwrap();
        assert_eq!(answer.exit_code, 0, "{script}: {answer:?}");
        String::from_utf8(answer.stdout).unwrap()
    }

    async fn exec(&self, pod: &Pod, cmd: &[&str]) -> Result<ExecSyncResponse, tonic::Status> {
        let request = ExecSyncRequest {
            container_id: pod.container.clone(),
            cmd: cmd.iter().map(|&part| part.to_owned()).collect(),
            timeout: 10,
        };
        self.cri.exec_sync(request).await
    }

    /// The page that the node itself gets from an address of its own, which portmap turns towards a pod.
    pub(crate) async fn page_from_node(&self, address: IpAddr, port: u16) -> String {
        until("the mapped port to answer", async || {
            let answer = get(SocketAddr::new(address, port), "/");
            answer
                .map(|answer| answer.body)
                .map_err(|error| error.to_string())
        })
        .await
    }

    /// Stops and removes a pod, as a kubelet does; the runtime calls DEL of the plugins.
    pub(crate) async fn remove_pod(&self, pod: Pod) {
        self.remove_sandbox(PodSandboxId { id: pod.sandbox }).await;
    }

    /// The same; fails with the runtime's words where it cannot take the network away from the pod.
    pub(crate) async fn try_remove_pod(&self, pod: &Pod) -> Result<(), String> {
        let id = PodSandboxId {
            id: pod.sandbox.clone(),
        };
        let stopped = self.cri.stop_pod_sandbox(id.clone()).await;
        stopped.map_err(|error| error.message().to_owned())?;
        let removed = self.cri.remove_pod_sandbox(id).await;
        removed
            .map(drop)
            .map_err(|error| error.message().to_owned())
    }

    /// Removes what is left of pods that could not be run, as a kubelet does in the end; `sound` are all others.
    pub(crate) async fn remove_failed_pods(&self, sound: &[&Pod]) {
        let all = self.cri.list_pod_sandbox(Empty {}).await.unwrap().items;
        let is_sound = |id: &PodSandboxId| sound.iter().any(|pod| pod.sandbox == id.id);
        for id in all.into_iter().filter(|id| !is_sound(id)) {
            self.remove_sandbox(id).await;
        }
    }

    async fn remove_sandbox(&self, id: PodSandboxId) {
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
}
