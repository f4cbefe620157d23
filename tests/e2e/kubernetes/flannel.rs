//! The overlay aks-byocni-flannel on a cluster that gives nodes no ranges: node-ranges does, flanneld carries the packets,
//! and the agent waits for it and does not start it. All three run as pods, with the arguments, the rights and the tokens
//! that the components give them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use super::cluster::{Cluster, PODS};
use super::companions::make_images;
use super::declared::{Operator, Overlay};
use super::image::{VERSIONS, archive};
use super::kubectl::{Kubectl, NAMESPACE};
use super::machine::Machine;
use super::pod::{process, until_ready};
use super::pod_traffic::{PINGED, PodTraffic, create_server, run_pod_on};
use crate::agent::readiness;
use crate::archive::{current_plugins, plugins_tgz, sha256};
use crate::namespace::find_program;
use crate::node::{BIN_DIR, CONF_DIR, PLUGINS};
use crate::poll::until;

/// What is applied.
const OVERLAY: &str = "overlays/aks-byocni-flannel";
/// What the profile waits for, and flanneld writes.
const SUBNET: &str = "/run/flannel/subnet.env";
/// The node that the first node-ranges runs on, and that is switched off; the one whose flanneld dies; and the one that
/// joins once there is a network.
const REBOOTED: u8 = 1;
const BEREAVED: u8 = 2;
const LATECOMER: u8 = 3;
/// A pod on the node that is switched off.
const SETTLED: &str = "settled";
/// A node that joins while no node-ranges is in charge: only its object.
const ORPHAN: &str = "orphan";
/// The label of a node that has no flanneld.
const BEREFT: &str = "test/without-flanneld";
/// Keeps the flanneld of the component away from such nodes.
const PATCH: &str = r#"
  - target: {kind: DaemonSet, name: flanneld}
    patch: |-
      - op: add
        path: /spec/template/spec/affinity
        value:
          nodeAffinity:
            requiredDuringSchedulingIgnoredDuringExecution:
              nodeSelectorTerms:
                - matchExpressions: [{key: test/without-flanneld, operator: DoesNotExist}]
"#;
/// How the command line of flanneld begins.
const FLANNELD: &str = "/opt/bin/flanneld\0";

/// The cluster, and the operator of the overlay.
pub(crate) struct Flannel {
    pub(crate) cluster: Cluster,
    operator: Operator,
}

impl Flannel {
    /// Two nodes without ranges get them. Their agents have placed the plugins, and wait for daemons that are late.
    pub(crate) async fn begin(dir: &Path, cgroup_parent: String) -> Self {
        let images = [vec![archive(VERSIONS[0])], make_images(dir)].concat();
        let mut cluster = Cluster::start(dir, cgroup_parent, &images, false).await;
        let none = "cni plugin not initialized";
        for number in [REBOOTED, BEREAVED] {
            cluster.switch_on(number).await;
            cluster.until_node(number, "False", none).await;
            let node = cluster.kubectl.get(&["node", &name(number)]).unwrap();
            assert_eq!(node["spec"]["podCIDR"], Value::Null, "{node:#}");
            lose_flanneld(&cluster.kubectl, number);
        }
        cluster.tell("two nodes have joined, and have no ranges");
        let flannel = Self {
            cluster,
            operator: Operator::new(dir),
        };
        // So that the first node-ranges runs on the other.
        let kubectl = &flannel.cluster.kubectl;
        kubectl.run(&["cordon", &name(BEREAVED)]);
        flannel.apply();
        flannel.until_node_ranges_run();
        kubectl.run(&["uncordon", &name(BEREAVED)]);
        for number in [REBOOTED, BEREAVED] {
            let range = flannel.cluster.range_of(number).await;
            let machine = flannel.cluster.machine(number);
            flannel
                .cluster
                .tell(&format!("{} has the range {range}", machine.name()));
            until_waits(machine).await;
            assert!(machine.path(BIN_DIR).join("flannel").is_file());
            assert!(!conflist(machine).exists());
            flannel.cluster.until_node(number, "False", none).await;
        }
        flannel
            .cluster
            .tell("flanneld is late: the agents have placed the plugins and wait for it");
        flannel
    }

    /// Applies the overlay, with a mirror.
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
  podRanges: [{PODS}]
  conflist: {conflist}
",
            conflist = conflist_of_old_plugin(),
            release_url = self.operator.serve("plugins.tgz", &release),
            plugin_url = self.operator.serve("flannel", &plugin),
            release = sha256(&release),
            plugin = sha256(&plugin),
        );
        self.operator.fill_in_range(OVERLAY, PODS);
        let overlay = self.operator.write_overlay(&Overlay {
            resource: OVERLAY,
            agent: VERSIONS[0],
            components: &[],
            config: &config,
            patches: PATCH,
        });
        let kubectl = &self.cluster.kubectl;
        kubectl.run(&["apply", "--kustomize", &overlay]);
    }

    /// Waits until as many pods of node-ranges run as are declared.
    fn until_node_ranges_run(&self) {
        let rollout = ["rollout", "status", "--timeout=120s"];
        let of_it = ["--namespace", NAMESPACE, "deployment/node-ranges"];
        let kubectl = &self.cluster.kubectl;
        if let Err(error) = kubectl.try_run(&[&rollout[..], &of_it].concat()) {
            let pods = kubectl.try_run(&["--namespace", NAMESPACE, "describe", "pods"]);
            panic!("{error}\n{}", pods.unwrap_or_default());
        }
    }

    /// The daemons start, and one more node joins. Pods of different nodes talk, and not by any route of the router.
    pub(crate) async fn start_daemons(&mut self) -> PodTraffic {
        for number in [REBOOTED, BEREAVED] {
            self.find_flanneld(number);
        }
        self.cluster.until_nodes_ready().await;
        self.cluster.tell("flanneld has started: nodes Ready");
        let range = self.cluster.join(LATECOMER).await;
        self.cluster.until_node(LATECOMER, "True", "").await;
        self.cluster.tell(&format!(
            "a node has joined and is Ready without a hand: {range}"
        ));
        for machine in self.cluster.machines() {
            until_ready(machine).await;
        }
        self.cluster.assert_network("cbr0");
        let kubectl = &self.cluster.kubectl;
        let talk = PodTraffic::start(kubectl, &name(LATECOMER), &name(BEREAVED)).await;
        let sent = tunnelled(self.cluster.machine(LATECOMER));
        assert!(sent > 0, "nothing went through the tunnel");
        self.cluster
            .tell(&format!("pods of two nodes talk, by VXLAN: {sent} packets"));
        talk
    }

    /// The flanneld of a node starts.
    fn find_flanneld(&self, number: u8) {
        let label = format!("{BEREFT}-");
        let kubectl = &self.cluster.kubectl;
        kubectl.run(&["label", "node", &name(number), &label]);
    }

    /// A daemon is gone. Its pods talk on, drift is repaired, new pods get a network; and it comes back. Then it is
    /// killed, and the kubelet starts it again.
    pub(crate) async fn lose_daemon(&mut self, talk: &PodTraffic) {
        let machine = self.cluster.machine(BEREAVED);
        let kubectl = &self.cluster.kubectl;
        lose_flanneld(kubectl, BEREAVED);
        until_gone(machine).await;
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
        run_pod_on(kubectl, "meanwhile", &machine.name()).await;
        kubectl.delete(&["--grace-period=1", "pod", "meanwhile"]);
        let talked = talk.assert_uninterrupted(kubectl).await;
        self.cluster.tell(&format!("a flanneld is gone: {talked}"));

        let before = fs::read_to_string(machine.path(SUBNET)).unwrap();
        let since = SystemTime::now();
        self.find_flanneld(BEREAVED);
        until_lease_is_renewed(machine, since).await;
        let running = process(machine, FLANNELD).unwrap();
        let since = SystemTime::now();
        kill(running, Signal::SIGKILL).unwrap();
        until_lease_is_renewed(machine, since).await;
        assert_eq!(fs::read_to_string(machine.path(SUBNET)).unwrap(), before);
        until_ready(machine).await;
        let talked = talk.assert_uninterrupted(kubectl).await;
        self.cluster.tell(&format!(
            "it came back, was killed and is back again: {talked}"
        ));
    }

    /// A node is switched off and on, and its flanneld is late: the conflist is there and what it needs is not, which
    /// the agent says. The pod that was there runs again once flanneld does.
    ///
    /// The node-ranges in charge dies with the node. A second one runs elsewhere, and gives a node that joins its range
    /// once it may take over.
    pub(crate) async fn reboot(&mut self, talk: &PodTraffic) {
        run_pod_on(&self.cluster.kubectl, SETTLED, &name(REBOOTED)).await;
        let leader = self.leader().await;
        assert!(leader.starts_with(&name(REBOOTED)), "{leader}");
        self.cluster.kubectl.run(&[
            "--namespace",
            NAMESPACE,
            "scale",
            "--replicas=2",
            "deployment/node-ranges",
        ]);
        self.until_node_ranges_run();
        self.cluster.power_off(REBOOTED).await;
        let died = Instant::now();
        let kubectl = &self.cluster.kubectl;
        kubectl.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": ORPHAN}}));
        self.replace_leader();
        lose_flanneld(kubectl, REBOOTED);
        self.cluster.switch_on(REBOOTED).await;
        self.cluster.kubectl.run(&["uncordon", &name(REBOOTED)]);
        let machine = self.cluster.machine(REBOOTED);
        until_waits(machine).await;
        assert!(conflist(machine).exists(), "it outlives a reboot");
        self.find_flanneld(REBOOTED);
        until_ready(machine).await;
        self.cluster.until_node(REBOOTED, "True", "").await;
        let kubectl = &self.cluster.kubectl;
        let pod = kubectl.until_pod_restarted(SETTLED).await;
        self.assert_reachable(&pod).await;
        let talked = talk.assert_uninterrupted(kubectl).await;
        self.cluster.tell(&format!(
            "node {REBOOTED} was switched off and on: {talked}"
        ));
        self.assert_other_leader(died).await;
    }

    /// What an operator does who knows that the node is lost: its node-ranges does not come back with it.
    fn replace_leader(&self) {
        let kubectl = &self.cluster.kubectl;
        kubectl.run(&["cordon", &name(REBOOTED)]);
        let on_node = format!("spec.nodeName={}", name(REBOOTED));
        kubectl.delete(&[
            "--namespace",
            NAMESPACE,
            "pod",
            "--force",
            "--selector",
            "app.kubernetes.io/component=node-ranges",
            "--field-selector",
            &on_node,
        ]);
    }

    /// Who is in charge of the ranges: the name of its node, and more.
    async fn leader(&self) -> String {
        let lease = ["--namespace", NAMESPACE, "lease", "node-ranges"];
        let holder = |lease: &Value| {
            let holder = lease["spec"]["holderIdentity"].as_str();
            holder.map(str::to_owned).ok_or(lease.to_string())
        };
        let kubectl = &self.cluster.kubectl;
        kubectl.until("a holder of the lease", &lease, holder).await
    }

    /// The node that joined after the death of the node-ranges in charge has a range, by one on another node.
    async fn assert_other_leader(&self, died: Instant) {
        let range = self.cluster.range_of_node(ORPHAN).await;
        let seconds = died.elapsed().as_secs_f64();
        let leader = self.leader().await;
        assert!(!leader.starts_with(&name(REBOOTED)), "{leader}");
        self.cluster.kubectl.delete(&["node", ORPHAN]);
        self.cluster.tell(&format!(
            "node-ranges died with its node; {seconds:.0} s later a new node has {range} from {leader}"
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
        let kubectl = &self.cluster.kubectl;
        kubectl.delete(&["--grace-period=1", "pod", SETTLED]);
        lose_flanneld(kubectl, REBOOTED);
        until_gone(self.cluster.machine(REBOOTED)).await;
        // The label goes with the node.
        let range = self.cluster.rejoin(REBOOTED).await;
        assert_ne!(range, before);
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
        kubectl.delete(&["namespace", NAMESPACE]);
        for number in [REBOOTED, BEREAVED, LATECOMER] {
            self.cluster.until_leases_are_of_pods(number).await;
        }
        self.operator.end_mirror();
        self.cluster.stop().await;
    }
}

/// The name of the node of that number.
fn name(number: u8) -> String {
    format!("node-{number}")
}

/// The flanneld of a node ends, or does not start.
fn lose_flanneld(kubectl: &Kubectl, number: u8) {
    kubectl.run(&["label", "node", &name(number), &format!("{BEREFT}=")]);
}

/// Waits until no flanneld runs on a machine.
async fn until_gone(machine: &Machine) {
    until("flanneld to end", async || {
        process(machine, FLANNELD).map_or(Ok(()), |pid| Err(format!("{pid} runs")))
    })
    .await;
}

/// Waits until a daemon that was started has done its work: it writes its file last.
async fn until_lease_is_renewed(machine: &Machine, since: SystemTime) {
    let file = machine.path(SUBNET);
    let written = || fs::metadata(&file).unwrap().modified().unwrap();
    until("flanneld to write its file again", async || {
        (written() >= since).then_some(()).ok_or("not yet".into())
    })
    .await;
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
