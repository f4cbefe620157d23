//! A cluster of several nodes: etcd, the API server, the controllers and the scheduler beside the test, each node on a
//! machine of its own.
//!
//! Everything is in the namespaces of the test, so addresses and ports are fixed, and nobody else can ask for them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::keys::Keys;
use super::kubectl::{Kubectl, condition};
use super::machine::{Machine, ROUTER, SWITCH, ip};
use super::program::Program;
use super::worker::Worker;
use crate::archive::busybox_image;
use crate::namespace::find_program;
use crate::poll::until_within;

/// The pod range of the cluster; each node gets a /24 of it.
pub(crate) const PODS: &str = "10.244.0.0/16";
/// The range of the services, and the first address in it, which is the API server's.
const SERVICES: &str = "10.96.0.0/24";
pub(crate) const API_SERVICE: &str = "10.96.0.1";
/// Where the API server serves.
pub(crate) const API: &str = "https://192.168.77.1:6443";
/// No cluster has more nodes.
const MOST_NODES: u8 = 3;
/// For a program to come up on a cold and busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The running cluster.
pub(crate) struct Cluster {
    /// For the operator, who may do everything.
    pub(crate) kubectl: Kubectl,
    pub(crate) dir: PathBuf,
    pub(crate) keys: Keys,
    pub(crate) workers: Vec<Worker>,
    cgroup_parent: String,
    /// What every node has in its store: that of the pods, and more.
    images: Vec<PathBuf>,
    etcd: Program,
    api: Program,
    controllers: Program,
    scheduler: Program,
    began: Instant,
}

impl Cluster {
    /// Starts one without nodes, and returns once the API server answers.
    /// `gives_ranges` says whether the cluster itself gives nodes their ranges.
    pub(crate) async fn start(
        dir: &Path,
        cgroup_parent: String,
        images: &[PathBuf],
        gives_ranges: bool,
    ) -> Self {
        let began = Instant::now();
        prepare_network();
        let busybox = dir.join("busybox.tar");
        fs::write(&busybox, busybox_image(&find_program("busybox").unwrap())).unwrap();
        let keys = Keys::make(dir, MOST_NODES);
        // In memory: what it holds is worth nothing once the test is over.
        let etcd = flags(&[
            ("data-dir", "/run/etcd"),
            ("log-level", "warn"),
            ("unsafe-no-fsync", "true"),
        ]);
        let etcd = Program::start(dir, "etcd", &etcd);
        let mut api = start_api(dir, &keys);
        let kubectl = Kubectl::new(&keys.kubeconfig("admin"));
        until_answers(&mut api, &kubectl).await;
        Self {
            controllers: start_controllers(dir, &keys, gives_ranges),
            scheduler: start_scheduler(dir, &keys),
            kubectl,
            dir: dir.to_owned(),
            keys,
            workers: Vec::new(),
            cgroup_parent,
            images: [&[busybox], images].concat(),
            etcd,
            api,
            began,
        }
    }

    /// Adds the node of that number, or switches it on again, and returns its range once it has one.
    pub(crate) async fn join(&mut self, number: u8) -> String {
        self.switch_on(number).await;
        self.range_of(number).await
    }

    /// The same without a look at its range.
    pub(crate) async fn switch_on(&mut self, number: u8) {
        let worker = Worker::start(
            number,
            &self.dir,
            &self.keys,
            &self.cgroup_parent,
            &self.images,
        )
        .await;
        self.workers.push(worker);
    }

    /// Deletes the node of that number and lets it join anew, and returns the range that it then has.
    pub(crate) async fn rejoin(&mut self, number: u8) -> String {
        let name = self.machine(number).name();
        self.kubectl.delete(&["node", &name]);
        let mut workers = self.workers.iter_mut();
        let worker = workers.find(|worker| worker.number == number).unwrap();
        worker.restart_kubernetes(&self.dir, &self.keys).await;
        self.range_of(number).await
    }

    /// The range of a node, once it has one.
    pub(crate) async fn range_of(&self, number: u8) -> String {
        self.range_of_node(&self.machine(number).name()).await
    }

    /// The same of a node by its name.
    pub(crate) async fn range_of_node(&self, name: &str) -> String {
        self.kubectl
            .until("the node's range", &["node", name], |node| {
                let range = node["spec"]["podCIDR"].as_str();
                range.map(str::to_owned).ok_or(node.to_string())
            })
            .await
    }

    /// The node of that number.
    pub(crate) fn worker(&self, number: u8) -> &Worker {
        let mut workers = self.workers.iter();
        workers.find(|worker| worker.number == number).unwrap()
    }

    /// The machine of that number.
    pub(crate) fn machine(&self, number: u8) -> &Machine {
        &self.worker(number).machine
    }

    /// All of them.
    pub(crate) fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.workers.iter().map(|worker| &worker.machine)
    }

    /// Waits for a node's condition Ready to be that, with such a message, and returns the message.
    pub(crate) async fn until_node(&self, number: u8, status: &str, message: &str) -> String {
        let name = self.machine(number).name();
        let what = format!("{name}'s Ready to be {status}");
        self.kubectl
            .until(&what, &["node", &name], |node| {
                let ready = condition(node, "Ready").ok_or("it has none")?;
                let actual = ready["message"].as_str().unwrap_or_default();
                if ready["status"] == status && actual.contains(message) {
                    Ok(actual.to_owned())
                } else {
                    Err(ready.to_string())
                }
            })
            .await
    }

    /// Waits until all nodes are Ready.
    pub(crate) async fn until_nodes_ready(&self) {
        for worker in &self.workers {
            self.until_node(worker.number, "True", "").await;
        }
    }

    /// Checks that every runtime has loaded that network, and gives it to pods.
    pub(crate) fn assert_network(&self, name: &str) {
        for worker in &self.workers {
            let loaded = worker.network();
            assert_eq!(loaded.as_deref(), Some(name), "{}", worker.machine.name());
        }
    }

    /// Prints a line for the person who watches.
    pub(crate) fn tell(&self, what: &str) {
        eprintln!("{:7.1} s  {what}", self.began.elapsed().as_secs_f64());
    }

    /// Pulls the plug of a node.
    pub(crate) async fn power_off(&mut self, number: u8) {
        let place = self
            .workers
            .iter()
            .position(|worker| worker.number == number);
        self.workers.remove(place.unwrap()).power_off().await;
    }

    /// Waits until the addresses in use on a node are those of its pods, and no others.
    pub(crate) async fn until_leases_are_of_pods(&self, number: u8) {
        let worker = self.worker(number);
        let on_node = format!("spec.nodeName={}", worker.machine.name());
        let pods = ["pods", "--all-namespaces", "--field-selector", &on_node];
        let has_own = |pod: &&Value| pod["spec"]["hostNetwork"] != true;
        self.kubectl
            .until("only the addresses of pods to be in use", &pods, |pods| {
                let pods = pods["items"].as_array().unwrap().iter().filter(has_own);
                let addresses = pods.filter_map(|pod| pod["status"]["podIP"].as_str());
                let addresses: BTreeSet<String> = addresses.map(str::to_owned).collect();
                let leases = worker.leases();
                (leases == addresses)
                    .then_some(())
                    .ok_or(format!("leases {leases:?}, pods {addresses:?}"))
            })
            .await;
    }

    /// Tells the router of each node's range, as the route table of a cloud has it.
    pub(crate) fn route_ranges(&self) {
        for worker in &self.workers {
            let node = self.kubectl.get(&["node", &worker.machine.name()]).unwrap();
            let range = node["spec"]["podCIDR"].as_str().unwrap();
            ip(&format!(
                "route replace {range} via {}",
                worker.machine.address()
            ));
        }
    }

    /// Stops the API server, as in an outage.
    pub(crate) async fn stop_api(&mut self) {
        self.api.kill().await;
    }

    /// Starts it again, and waits until it answers.
    pub(crate) async fn start_api(&mut self) {
        self.api = start_api(&self.dir, &self.keys);
        until_answers(&mut self.api, &self.kubectl).await;
    }

    /// Stops all of it, and checks that no pod has left anything on a node.
    pub(crate) async fn stop(mut self) {
        for worker in std::mem::take(&mut self.workers) {
            worker.stop().await;
        }
        for program in [
            &mut self.scheduler,
            &mut self.controllers,
            &mut self.api,
            &mut self.etcd,
        ] {
            program.assert_running();
            program.stop().await;
        }
        self.tell("the cluster has ended");
    }
}

/// Makes the switch that connects the nodes, with the router on it. Nobody is asked for names.
fn prepare_network() {
    // Without an address of its own, the bridge would take another one whenever a cable comes or goes.
    ip(&format!(
        "link add {SWITCH} address 02:00:00:00:01:00 type bridge"
    ));
    ip(&format!("address add {ROUTER}/24 dev {SWITCH}"));
    ip(&format!("link set {SWITCH} up"));
    let _ = fs::remove_file("/etc/resolv.conf");
    fs::write("/etc/resolv.conf", "").unwrap();
}

fn start_api(dir: &Path, keys: &Keys) -> Program {
    let key = |name| keys.path(name).to_str().unwrap().to_owned();
    let args = flags(&[
        ("etcd-servers", "http://127.0.0.1:2379"),
        ("advertise-address", ROUTER),
        ("secure-port", "6443"),
        ("tls-cert-file", &key("server.pem")),
        ("tls-private-key-file", &key("server.key")),
        ("token-auth-file", &key("tokens.csv")),
        ("authorization-mode", "Node,RBAC"),
        ("enable-admission-plugins", "NodeRestriction"),
        ("service-cluster-ip-range", SERVICES),
        ("service-account-issuer", "https://kubernetes.default.svc"),
        ("service-account-key-file", &key("accounts.pub")),
        ("service-account-signing-key-file", &key("accounts.pem")),
        ("kubelet-preferred-address-types", "InternalIP"),
        ("allow-privileged", "true"),
    ]);
    Program::start(dir, "kube-apiserver", &args)
}

fn start_controllers(dir: &Path, keys: &Keys, gives_ranges: bool) -> Program {
    let user = keys.kubeconfig("system:kube-controller-manager");
    let args = flags(&[
        ("kubeconfig", path(&user)),
        ("leader-elect", "false"),
        // Each controller as the user that it has a role for.
        ("use-service-account-credentials", "true"),
        ("allocate-node-cidrs", &gives_ranges.to_string()),
        ("cluster-cidr", PODS),
        ("service-cluster-ip-range", SERVICES),
        (
            "service-account-private-key-file",
            path(&keys.path("accounts.pem")),
        ),
        ("root-ca-file", path(&keys.path("authority.pem"))),
        ("cert-dir", path(&dir.join("kube-controller-manager"))),
    ]);
    Program::start(dir, "kube-controller-manager", &args)
}

fn start_scheduler(dir: &Path, keys: &Keys) -> Program {
    let args = flags(&[
        (
            "kubeconfig",
            path(&keys.kubeconfig("system:kube-scheduler")),
        ),
        ("leader-elect", "false"),
        ("cert-dir", path(&dir.join("kube-scheduler"))),
    ]);
    Program::start(dir, "kube-scheduler", &args)
}

async fn until_answers(api: &mut Program, kubectl: &Kubectl) {
    until_within(PATIENCE, "the API server to be ready", async || {
        api.assert_running();
        kubectl.try_run(&["get", "--raw", "/readyz"])
    })
    .await;
}

/// The arguments of a program, from names and values.
pub(crate) fn flags(flags: &[(&str, &str)]) -> Vec<String> {
    flags
        .iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
}

/// A path as an argument.
pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
