//! The profile flannel beside real flanneld daemons, which the agent waits for and does not start.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::cluster::{Cluster, PODS, flags, path};
use super::declared::{Operator, Overlay};
use super::image::{VERSIONS, archive};
use super::machine::Machine;
use super::pod::until_ready;
use super::pod_traffic::{PINGED, PodTraffic, create_server, run_pod_on};
use super::program::Program;
use crate::agent::readiness;
use crate::archive::{current_plugins, plugins_tgz, sha256};
use crate::namespace::find_program;
use crate::node::{BIN_DIR, CONF_DIR, PLUGINS};
use crate::poll::until;

/// What the profile waits for, and flanneld writes.
const SUBNET: &str = "/run/flannel/subnet.env";
/// The node whose flanneld dies, and the one that is switched off.
const BEREAVED: u8 = 2;
const REBOOTED: u8 = 3;
const NODES: [u8; 3] = [1, BEREAVED, REBOOTED];
/// A pod on the node that is switched off.
const SETTLED: &str = "settled";

/// The cluster, and the daemon of each node.
pub(crate) struct Flannel {
    pub(crate) cluster: Cluster,
    daemons: BTreeMap<u8, Program>,
    operator: Operator,
}

impl Flannel {
    /// Three nodes whose agents have placed the plugins, and wait for daemons that do not run yet.
    pub(crate) async fn begin(dir: &Path, cgroup_parent: String) -> Self {
        let mut cluster = Cluster::start(dir, cgroup_parent, &[archive(VERSIONS[0])]).await;
        for number in NODES {
            cluster.join(number).await;
        }
        cluster.tell("three nodes have joined");
        let network = json!({"Network": PODS, "Backend": {"Type": "vxlan"}});
        fs::write(dir.join("flannel.json"), network.to_string()).unwrap();
        let flannel = Self {
            cluster,
            daemons: BTreeMap::new(),
            operator: Operator::new(dir),
        };
        flannel.apply();
        for machine in flannel.cluster.machines() {
            until_waits(machine).await;
            assert!(machine.path(BIN_DIR).join("flannel").is_file());
            assert!(!conflist(machine).exists());
        }
        for number in NODES {
            let none = "cni plugin not initialized";
            flannel.cluster.until_node(number, "False", none).await;
        }
        flannel
            .cluster
            .tell("flanneld is late: the agents have placed the plugins and wait for it");
        flannel
    }

    /// Applies the profile's directory, with a mirror.
    fn apply(&self) {
        let arch = cni_keeper::model::Arch::of_this_program().unwrap();
        let release = plugins_tgz(&current_plugins(), &PLUGINS, b"");
        let plugin = fs::read(find_program("flannel").unwrap()).unwrap();
        let config = format!(
            "apiVersion: cni-keeper/v1alpha1
kind: NodeNetwork
profile: flannel
artifacts:
  - name: cni-plugins
    version: here
    sources: [{release_url}]
    sha256: {{{arch}: {release}}}
  - name: flannel
    version: here
    sources: [{plugin_url}]
    sha256: {{{arch}: {plugin}}}
network:
  conflist: {conflist}
",
            conflist = conflist_of_old_plugin(),
            release_url = self.operator.serve("plugins.tgz", &release),
            plugin_url = self.operator.serve("flannel", &plugin),
            release = sha256(&release),
            plugin = sha256(&plugin),
        );
        let overlay = self.operator.write_overlay(&Overlay {
            resource: "profiles/flannel",
            agent: VERSIONS[0],
            components: &[],
            config: &config,
        });
        let kubectl = &self.cluster.kubectl;
        kubectl.run(&["apply", "--kustomize", &overlay]);
    }

    /// The daemons start. Pods of different nodes talk, and not by any route of the router.
    pub(crate) async fn start_daemons(&mut self) -> PodTraffic {
        for number in NODES {
            self.start_daemon(number);
        }
        self.cluster.until_nodes_ready().await;
        for machine in self.cluster.machines() {
            until_ready(machine).await;
        }
        self.cluster.tell("flanneld has started: nodes Ready");
        let [from, to] = [1, BEREAVED].map(|number| self.cluster.machine(number).name());
        let talk = PodTraffic::start(&self.cluster.kubectl, &from, &to).await;
        let sent = tunnelled(self.cluster.machine(1));
        assert!(sent > 0, "nothing went through the tunnel");
        self.cluster
            .tell(&format!("pods of two nodes talk, by VXLAN: {sent} packets"));
        talk
    }

    fn start_daemon(&mut self, number: u8) {
        let dir = &self.cluster.dir;
        let machine = self.cluster.machine(number);
        let mut args = flags(&[
            ("net-config-path", path(&dir.join("flannel.json"))),
            (
                "kubeconfig-file",
                path(&self.cluster.keys.kubeconfig("flannel")),
            ),
        ]);
        args.extend(["--kube-subnet-mgr", "--ip-masq"].map(str::to_owned));
        let name = machine.name();
        let environment = [("NODE_NAME", name.as_str())];
        let daemon = Program::start_on(machine, dir, "flanneld", &args, &environment);
        self.daemons.insert(number, daemon);
    }

    /// A daemon dies. Its pods talk on, drift is repaired, new pods get a network; and it comes back.
    pub(crate) async fn lose_daemon(&mut self, talk: &PodTraffic) {
        let mut daemon = self.daemons.remove(&BEREAVED).unwrap();
        daemon.kill().await;
        let machine = self.cluster.machine(BEREAVED);
        let plugin = machine.path(BIN_DIR).join("flannel");
        for file in [&plugin, &conflist(machine)] {
            fs::remove_file(file).unwrap();
        }
        until("what was deleted to come back", async || {
            let is_back = plugin.is_file() && conflist(machine).is_file();
            is_back.then_some(()).ok_or("not there".into())
        })
        .await;
        until_ready(machine).await;
        let kubectl = &self.cluster.kubectl;
        run_pod_on(kubectl, "meanwhile", &machine.name()).await;
        kubectl.delete(&["--grace-period=1", "pod", "meanwhile"]);
        let talked = talk.assert_uninterrupted(kubectl).await;
        self.cluster.tell(&format!("a flanneld has died: {talked}"));

        let before = fs::read_to_string(self.cluster.machine(BEREAVED).path(SUBNET)).unwrap();
        self.start_daemon(BEREAVED);
        self.until_lease_is_renewed().await;
        let machine = self.cluster.machine(BEREAVED);
        assert_eq!(fs::read_to_string(machine.path(SUBNET)).unwrap(), before);
        until_ready(machine).await;
        let talked = talk.assert_uninterrupted(&self.cluster.kubectl).await;
        self.cluster.tell(&format!("it is back: {talked}"));
    }

    /// Waits until the daemon that was started again has done its work: it writes its file last.
    async fn until_lease_is_renewed(&self) {
        let file = self.cluster.machine(BEREAVED).path(SUBNET);
        let written = || fs::metadata(&file).unwrap().modified().unwrap();
        let started = self.daemons[&BEREAVED].started();
        until("flanneld to write its file again", async || {
            (written() >= started).then_some(()).ok_or("not yet".into())
        })
        .await;
    }

    /// A node is switched off and on, and its flanneld is late: the conflist is there and what it needs is not, which
    /// the agent says. The pod that was there runs again once flanneld does.
    pub(crate) async fn reboot(&mut self, talk: &PodTraffic) {
        let name = self.cluster.machine(REBOOTED).name();
        run_pod_on(&self.cluster.kubectl, SETTLED, &name).await;
        self.cluster.power_off(REBOOTED).await;
        self.daemons.remove(&REBOOTED).unwrap().until_ended().await;
        self.cluster.join(REBOOTED).await;
        let machine = self.cluster.machine(REBOOTED);
        until_waits(machine).await;
        assert!(conflist(machine).exists(), "it outlives a reboot");
        self.start_daemon(REBOOTED);
        let machine = self.cluster.machine(REBOOTED);
        until_ready(machine).await;
        self.cluster.until_node(REBOOTED, "True", "").await;
        let kubectl = &self.cluster.kubectl;
        let pod = kubectl.until_pod_restarted(SETTLED).await;
        self.assert_reachable(&pod).await;
        let talked = talk.assert_uninterrupted(kubectl).await;
        self.cluster.tell(&format!(
            "node {REBOOTED} was switched off and on: {talked}"
        ));
    }

    /// Only pods have addresses on the node, and another node's pod gets its page.
    async fn assert_reachable(&self, pod: &Value) {
        let address = pod["status"]["podIP"].as_str().unwrap();
        let name = pod["metadata"]["name"].as_str().unwrap();
        self.cluster.until_leases_are_of_pods(REBOOTED).await;
        until("the pod to be reached through the tunnel", async || {
            let page = self.cluster.kubectl.page(PINGED, address)?;
            (page == format!("{name}\n")).then_some(()).ok_or(page)
        })
        .await;
    }

    /// The node is taken out of the cluster and joins anew, so that flanneld gets another range for it. The bridge keeps
    /// the address that it has, and no pod gets a network until somebody deletes it.
    pub(crate) async fn change_range(&mut self, talk: &PodTraffic) {
        let before = self.cluster.range_of(REBOOTED).await;
        self.cluster
            .kubectl
            .delete(&["--grace-period=1", "pod", SETTLED]);
        let mut daemon = self.daemons.remove(&REBOOTED).unwrap();
        daemon.stop().await;
        let range = self.cluster.rejoin(REBOOTED).await;
        assert_ne!(range, before);
        self.start_daemon(REBOOTED);
        let machine = self.cluster.machine(REBOOTED);
        let network = range.strip_suffix("0/24").unwrap();
        until("flanneld to write the new range", async || {
            let subnet = fs::read_to_string(machine.path(SUBNET)).unwrap();
            let is_new = subnet.contains(&format!("{network}1/24"));
            is_new.then_some(()).ok_or(subnet)
        })
        .await;
        until_ready(machine).await;

        let kubectl = &self.cluster.kubectl;
        create_server(kubectl, "with-old-bridge", Some(&machine.name()));
        let selected = "involvedObject.name=with-old-bridge,reason=FailedCreatePodSandBox";
        let events = ["events", "--field-selector", selected];
        let message = kubectl
            .until("the pod to fail", &events, |events| {
                let message = events["items"][0]["message"].as_str();
                message.map(str::to_owned).ok_or(events.to_string())
            })
            .await;
        assert!(
            message.contains("\"cni0\" already has an IP address"),
            "{message}"
        );
        self.cluster.tell(&format!(
            "flanneld is back with {range}, not {before}: {message}"
        ));
        machine.run("ip", &["link", "delete", "cni0"]);
        // A new pod, because the kubelet waits before it tries the old one again.
        kubectl.delete(&["--grace-period=1", "pod", "with-old-bridge"]);
        let pod = run_pod_on(kubectl, "with-new-bridge", &machine.name()).await;
        let address = pod["status"]["podIP"].as_str().unwrap();
        assert!(address.starts_with(network), "{address}");
        self.assert_reachable(&pod).await;
        kubectl.delete(&["--grace-period=1", "pod", "with-new-bridge"]);
        let talked = talk.assert_uninterrupted(kubectl).await;
        self.cluster.tell(&format!("cni0 was deleted: {talked}"));
    }

    /// Ends all of it.
    pub(crate) async fn end(mut self, talk: PodTraffic) {
        talk.end(&self.cluster.kubectl);
        let kubectl = &self.cluster.kubectl;
        kubectl.delete(&["namespace", "cni-keeper"]);
        for number in NODES {
            self.cluster.until_leases_are_of_pods(number).await;
        }
        for daemon in self.daemons.values_mut() {
            daemon.assert_running();
            daemon.stop().await;
        }
        self.operator.end_mirror();
        self.cluster.stop().await;
    }
}

/// The profile's own, for the plugin that can be built here: the last one of the reference set, which ends at 0.4.0.
fn conflist_of_old_plugin() -> Value {
    json!({
        "name": "cbr0",
        "cniVersion": "0.4.0",
        "plugins": [
            {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// Waits until the agent says that it waits for the daemon's file, and that nothing else is wrong but what follows from
/// that.
async fn until_waits(machine: &Machine) {
    until("the agent to wait", async || {
        let answer = machine.in_network(readiness).ok_or("no answer")?;
        let names_it = |line: &str| line.starts_with("gates: ") && line.contains(SUBNET);
        let follows = |line: &str| names_it(line) || line.starts_with("conflist: ");
        let is_so = answer.body.lines().any(names_it) && answer.body.lines().all(follows);
        is_so.then_some(()).ok_or(format!("{answer:?}"))
    })
    .await;
}

fn conflist(machine: &Machine) -> PathBuf {
    machine.path(CONF_DIR).join("10-flannel.conflist")
}

/// How many packets have gone into the tunnel of a machine.
fn tunnelled(machine: &Machine) -> u64 {
    let links = machine.run("ip", &["-json", "-stats", "link", "show", "flannel.1"]);
    let links: Value = serde_json::from_str(&links).unwrap();
    links[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
}
