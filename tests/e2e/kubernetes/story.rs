//! What happens to a cluster, in order. Each part checks what must hold after it, and prints how long it took.

mod nodes;
mod reports;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cluster::Cluster;
use super::declared::{Declared, Operator, Plugins};
use super::image::{VERSIONS, archive};
use super::kubectl::NAMESPACE;
use super::machine::Machine;
use super::pod::{
    agent, cost, until_another, until_gone, until_ready, until_resync, until_unready,
};
use super::pod_traffic::{PodTraffic, create_server, run_pod};
use crate::archive::current_plugins;
use crate::node::{BIN_DIR, CONF_DIR, CONFLIST, NETWORK, PLUGINS, names_in};
use crate::poll::until;

/// What a node's image appends to its own build of a plugin.
const IMAGES_OWN: &[u8] = b"the image's own";
/// The pod range of the first node, which the controllers give to the first of a cluster: as the operator writes it
/// down.
const WRITTEN: &str = "values: {node.podCIDR: 10.244.0.0/24}";
/// Has the agent ask for its node's pod range, as an item of `network.facts`.
const ASKED: &str = "kubernetes: node";
/// Pods that are run on the way, to see that they can be.
const VISITORS: [&str; 5] = ["early", "after-wipe", "meanwhile", "after-outage", "orphan"];
/// The node that is damaged.
const DAMAGED: u8 = 1;

/// The cluster, its operator, and what is declared now.
pub(crate) struct Story {
    pub(crate) cluster: Cluster,
    operator: Operator,
    declared: Declared,
}

impl Story {
    /// Starts a cluster of one node, and waits until the node says that it has no network.
    pub(crate) async fn begin(dir: &Path, cgroup_parent: String) -> Self {
        let images = VERSIONS.map(archive);
        let mut story = Self {
            cluster: Cluster::start(dir, cgroup_parent, &images, true).await,
            operator: Operator::new(dir),
            declared: Declared {
                agent: VERSIONS[0],
                plugins: Plugins::Mirrored("v1"),
                if_present: "keep",
                facts: WRITTEN,
                more: "",
                components: &[],
            },
        };
        story.cluster.tell("the API server is ready");
        let range = story.cluster.join(1).await;
        assert!(WRITTEN.contains(&range), "{range}");
        let why = story
            .cluster
            .until_node(1, "False", "cni plugin not initialized")
            .await;
        story.cluster.tell(&format!("node NotReady: {why}"));
        story
    }

    /// All agents; fails unless there is one on each node.
    fn agents(&self) -> Vec<Pid> {
        self.cluster
            .machines()
            .map(|machine| agent(machine).unwrap())
            .collect()
    }

    /// Waits until all agents are ready.
    async fn until_ready(&self) {
        for machine in self.cluster.machines() {
            until_ready(machine).await;
        }
    }

    /// `kubectl apply -k`.
    fn apply(&self) {
        let overlay = self.operator.write(&self.declared);
        self.cluster
            .kubectl
            .run(&["apply", "--kustomize", &overlay]);
    }

    /// Checks that a pod is scheduled and started, with an address in the range of the cluster.
    async fn runs_a_pod(&self, name: &str) {
        let pod = run_pod(&self.cluster.kubectl, name).await;
        let ip = pod["status"]["podIP"].as_str().unwrap();
        assert!(ip.starts_with("10.244."), "{ip}");
    }

    /// From NotReady to Ready: a pod that waited is started. The plugins of the node's image are not touched.
    pub(crate) async fn bring_up_network(&self) {
        let kubectl = &self.cluster.kubectl;
        let bridge = plugin(self.cluster.machine(1), "bridge");
        fs::create_dir_all(bridge.parent().unwrap()).unwrap();
        fs::copy(current_plugins().join("bridge"), &bridge).unwrap();
        let mut own = fs::read(&bridge).unwrap();
        own.extend_from_slice(IMAGES_OWN);
        fs::write(&bridge, &own).unwrap();
        let before = identity(&bridge);
        let object = ["serviceaccount", "default"];
        kubectl.until("accounts", &object, |_| Ok(())).await;
        create_server(kubectl, VISITORS[0], None);

        self.apply();
        kubectl.roll_out();
        self.cluster
            .tell("kubectl apply -k: the agent's pod is ready");
        self.cluster.until_node(1, "True", "").await;
        self.cluster.assert_network(NETWORK);
        self.cluster.tell("node Ready");
        kubectl.until_pod_ready("default", VISITORS[0]).await;
        self.cluster
            .tell("a pod that waited for the network is ready");
        assert_eq!(identity(&bridge), before, "ifPresent: keep");
        assert!(holds(self.cluster.machine(1), "host-local", b"v1"));
    }

    /// A new image of the agent is rolled out under running pods.
    pub(crate) async fn upgrade_agent(&mut self, talk: &PodTraffic) {
        let before = self.agents();
        self.declared.agent = VERSIONS[1];
        self.apply();
        self.cluster.kubectl.roll_out();
        for (machine, before) in self.cluster.machines().zip(before) {
            until_another(machine, before).await;
        }
        let object = ["--namespace", NAMESPACE, "pods"];
        let pods = self.cluster.kubectl.get(&object).unwrap();
        let pods = pods["items"].as_array().unwrap().iter();
        // The former one may still be on its way out.
        for pod in pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()) {
            let image = &pod["spec"]["containers"][0]["image"];
            assert_eq!(*image, format!("localhost/cni-keeper:{}", VERSIONS[1]));
        }
        let talked = talk.assert_uninterrupted(&self.cluster.kubectl).await;
        self.cluster
            .tell(&format!("a new agent is rolled out: {talked}"));
    }

    /// A new version of the plugins, by the ConfigMap alone. It now replaces the image's own plugins as well.
    pub(crate) async fn upgrade_plugins(&mut self, talk: &PodTraffic) {
        let before = self.agents();
        self.declared.plugins = Plugins::Mirrored("v2");
        self.declared.if_present = "replace";
        self.apply();
        self.until_placed().await;
        self.until_ready().await;
        assert_eq!(self.agents(), before, "no roll-out for that");
        let talked = talk.assert_uninterrupted(&self.cluster.kubectl).await;
        self.cluster
            .tell(&format!("new plugins by the ConfigMap: {talked}"));
    }

    /// Fault 24 under a kubelet: the plugins go with their directory, and the conflist.
    pub(crate) async fn wipe_directories(&self, talk: &PodTraffic) {
        let machine = self.cluster.machine(DAMAGED);
        // Moved away first: deleting it in place takes longer than the agent takes to fill it again.
        let away = machine.path(format!("{BIN_DIR}.away"));
        fs::rename(machine.path(BIN_DIR), &away).unwrap();
        fs::remove_dir_all(away).unwrap();
        fs::remove_file(conflist(machine)).unwrap();
        self.until_repaired().await;
        self.runs_a_pod(VISITORS[1]).await;
        let talked = talk.assert_uninterrupted(&self.cluster.kubectl).await;
        self.cluster.tell(&format!(
            "/opt/cni/bin and the conflist were deleted: {talked}"
        ));
    }

    async fn until_repaired(&self) {
        let damaged = Instant::now();
        self.until_placed().await;
        let milliseconds = damaged.elapsed().as_millis();
        self.until_ready().await;
        self.cluster
            .tell(&format!("repaired within {milliseconds} ms"));
    }

    /// Waits, on every node, for the conflist and for the plugins that are declared.
    async fn until_placed(&self) {
        let tails = PLUGINS.map(|name| (name, self.declared.plugins.tail(name)));
        let is_placed = |machine: &Machine| {
            let is_there = |(name, tail): &(&str, Vec<u8>)| holds(machine, name, tail);
            tails.iter().all(is_there) && conflist(machine).is_file()
        };
        until("what is declared to be in place", async || {
            match self.cluster.machines().find(|machine| !is_placed(machine)) {
                None => Ok(()),
                Some(machine) => {
                    let [bin, conf] = [BIN_DIR, CONF_DIR].map(|dir| names_in(&machine.path(dir)));
                    Err(format!("{}: {bin:?} {conf:?}", machine.name()))
                }
            }
        })
        .await;
    }

    /// Fault 55 by a ConfigMap: the last good configuration stays in force, and every view names the key.
    pub(crate) async fn apply_mistake(&mut self, talk: &PodTraffic) {
        let placed: Vec<PathBuf> = self.cluster.machines().flat_map(placed_on).collect();
        let before: Vec<_> = placed.iter().map(|file| identity(file)).collect();
        self.declared.more = "drift: {policy: heel}";
        self.apply();
        for machine in self.cluster.machines() {
            let reason = until_unready(machine, "config").await;
            assert!(
                reason.contains("drift.policy") && reason.contains("heel"),
                "{reason}"
            );
            assert_eq!(reason.lines().count(), 1, "{reason}");
            self.cluster.tell(&format!(
                "a mistake in the ConfigMap: {}",
                reason.trim_end()
            ));
        }
        let object = ["--namespace", NAMESPACE, "daemonset", NAMESPACE];
        self.cluster
            .kubectl
            .until("the DaemonSet to tell", &object, |set| {
                let unavailable = &set["status"]["numberUnavailable"];
                (*unavailable == self.cluster.workers.len())
                    .then_some(())
                    .ok_or(set["status"].to_string())
            })
            .await;
        self.runs_a_pod(VISITORS[2]).await;
        self.cluster.until_nodes_ready().await;
        let after: Vec<_> = placed.iter().map(|file| identity(file)).collect();
        assert_eq!(after, before, "touched although the configuration is wrong");

        self.declared.more = "";
        self.apply();
        self.until_ready().await;
        self.cluster.kubectl.roll_out();
        let talked = talk.assert_uninterrupted(&self.cluster.kubectl).await;
        self.cluster
            .tell(&format!("fixed in the ConfigMap: {talked}"));
    }

    /// The API server does not answer: drift is repaired, and an agent that dies comes back and is ready.
    pub(crate) async fn lose_api_server(&mut self, talk: &PodTraffic) {
        self.cluster.stop_api().await;
        let machine = self.cluster.machine(DAMAGED);
        // By a rename: the runtime may be running it right now, to ask for its STATUS.
        let other = machine.path("/opt/cni/other");
        fs::write(&other, b"not a program").unwrap();
        fs::rename(other, plugin(machine, "bridge")).unwrap();
        fs::remove_file(conflist(machine)).unwrap();
        self.until_repaired().await;
        let before = agent(machine).unwrap();
        kill(before, Signal::SIGKILL).unwrap();
        until_another(machine, before).await;
        until_ready(machine).await;
        self.cluster
            .tell("no API server: the agent was killed, and its next one is ready");
        self.cluster.start_api().await;
        self.runs_a_pod(VISITORS[3]).await;
        let talked = talk.assert_uninterrupted(&self.cluster.kubectl).await;
        self.cluster
            .tell(&format!("the API server is back: {talked}"));
    }

    /// The mirror is gone, and the plugins come out of the agent's image.
    pub(crate) async fn install_from_image(&mut self, talk: &PodTraffic) {
        self.operator.end_mirror();
        self.declared.plugins = Plugins::Seeded;
        self.apply();
        self.until_placed().await;
        self.until_ready().await;
        let talked = talk.assert_uninterrupted(&self.cluster.kubectl).await;
        self.cluster
            .tell(&format!("other plugins, from the image: {talked}"));
    }

    /// Prints what the agents used, to compare with their requests and limits.
    pub(crate) fn report_cost(&self) {
        for machine in self.cluster.machines() {
            let cost = cost(agent(machine).unwrap());
            self.cluster.tell(&format!(
                "the agent's container: at most {:.1} of {:.0} MiB, {} ms of processor time, throttled {} times",
                mebibytes(cost.memory),
                mebibytes(cost.limit),
                cost.cpu / 1_000_000,
                cost.throttled
            ));
            assert_eq!(cost.killed, 0, "{cost:?}");
        }
    }

    /// The agents are removed and the network stays. Then the network is removed as well, and nothing is left.
    pub(crate) async fn end(mut self, talk: PodTraffic) {
        let kubectl = &self.cluster.kubectl;
        kubectl.delete(&["--namespace", NAMESPACE, "daemonset", NAMESPACE]);
        self.until_gone().await;
        self.runs_a_pod(VISITORS[4]).await;
        self.cluster.until_nodes_ready().await;
        let talked = talk.assert_uninterrupted(kubectl).await;
        self.cluster
            .tell(&format!("the DaemonSet was deleted: {talked}"));

        // A pod cannot be stopped properly without its network.
        talk.end(kubectl);
        kubectl.delete(&[&["--grace-period=1", "pod"], &VISITORS[..]].concat());
        for worker in &self.cluster.workers {
            self.cluster.until_leases_are_of_pods(worker.number).await;
        }
        self.cluster.tell("all other pods were deleted");
        self.declared.components = &["kubernetes-api", "uninstall"];
        self.apply();
        kubectl.roll_out();
        self.cluster.tell("uninstalled");
        for machine in self.cluster.machines() {
            for dir in [CONF_DIR, BIN_DIR] {
                assert_eq!(names_in(&machine.path(dir)), Vec::<String>::new(), "{dir}");
            }
        }
        let overlay = self.operator.write(&self.declared);
        self.cluster.kubectl.delete(&["--kustomize", &overlay]);
        self.cluster.tell("nothing of it is left in the cluster");
        self.install_by_helm().await;
        self.cluster.stop().await;
    }

    async fn until_gone(&self) {
        for machine in self.cluster.machines() {
            until_gone(machine).await;
        }
    }

    /// The chart on the same nodes: from NotReady to Ready, another configuration without a new pod, and
    /// `helm uninstall`, which leaves the network.
    async fn install_by_helm(&mut self) {
        let helm = |what, declared: &Declared| {
            let values = self.operator.values(declared);
            self.cluster.kubectl.helm(&[what, "--values", &values])
        };
        self.declared.more = "";
        helm("install", &self.declared).unwrap();
        self.cluster.kubectl.roll_out();
        self.until_placed().await;
        self.cluster.until_nodes_ready().await;
        self.cluster.tell("helm install: nodes Ready");

        let before = self.agents();
        self.declared.more = "drift: {policy: heel}";
        let refused = helm("upgrade", &self.declared).unwrap_err();
        assert!(refused.contains("config/drift/policy"), "{refused}");
        self.declared.more = "drift: {resync: 4m}";
        helm("upgrade", &self.declared).unwrap();
        for machine in self.cluster.machines() {
            until_resync(machine, 240).await;
        }
        self.until_ready().await;
        assert_eq!(self.agents(), before, "no roll-out for a configuration");
        self.cluster.tell(
            "helm upgrade: a mistake is refused, and what is right is in force without a roll-out",
        );

        self.cluster.kubectl.helm(&["uninstall"]).unwrap();
        self.until_gone().await;
        self.until_placed().await;
        self.cluster.until_nodes_ready().await;
        self.cluster.assert_network(NETWORK);
        self.cluster.tell("helm uninstall: the network stays");
    }
}

fn plugin(machine: &Machine, name: &str) -> PathBuf {
    machine.path(BIN_DIR).join(name)
}

fn conflist(machine: &Machine) -> PathBuf {
    machine.path(CONF_DIR).join(CONFLIST)
}

/// All that the agent places.
fn placed_on(machine: &Machine) -> Vec<PathBuf> {
    let plugins = PLUGINS.iter().map(|name| plugin(machine, name));
    plugins.chain([conflist(machine)]).collect()
}

/// Whether a plugin is there and is of that version.
fn holds(machine: &Machine, name: &str, version: &[u8]) -> bool {
    fs::read(plugin(machine, name)).is_ok_and(|bytes| bytes.ends_with(version))
}

/// What changes when a file is written, or another takes its place.
fn identity(file: &Path) -> (u64, i64, i64, u64) {
    let metadata = fs::metadata(file).unwrap();
    (
        metadata.ino(),
        metadata.ctime(),
        metadata.ctime_nsec(),
        metadata.len(),
    )
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
