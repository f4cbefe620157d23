//! A cluster of one node: etcd, the API server, the controllers, the scheduler and a kubelet on the node's containerd.
//!
//! Everything is in the namespaces of the node, so addresses and ports are fixed, and nobody else can ask for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::kubectl::Kubectl;
use super::program::Program;
use crate::namespace::run;
use crate::node::Node;
use crate::poll::until_within;

/// The name of the node in the cluster.
pub(crate) const NODE: &str = "node-1";
/// The pod range of the cluster; of the node, which is its only one, the first /24 of it.
const PODS: &str = "10.244.0.0/16";
/// The range of the services, and the first address in it, which is the API server's.
const SERVICES: &str = "10.96.0.0/24";
const API_SERVICE: &str = "10.96.0.1";
/// The address of the node: a kubelet refuses one on loopback.
const ADDRESS: &str = "192.168.77.2";
const PORT: &str = "6443";
/// For a program to come up on a cold and busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who asks the API server, in which group; the name is the secret as well, where nobody else can ask.
const USERS: [(&str, &str); 4] = [
    ("admin", "system:masters"),
    ("system:kube-controller-manager", ""),
    ("system:kube-scheduler", ""),
    ("system:node:node-1", "system:nodes"),
];

/// What a kubelet writes to and what to: the kernel's, not the namespace's, so that a file takes its place.
const SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// The running cluster.
pub(crate) struct Cluster {
    /// For the operator, who may do everything.
    pub(crate) kubectl: Kubectl,
    dir: PathBuf,
    etcd: Program,
    api: Program,
    controllers: Program,
    scheduler: Program,
    kubelet: Program,
}

impl Cluster {
    /// Starts it on `node` and returns once the API server answers; the node registers itself soon after.
    pub(crate) async fn start(node: &Node) -> Self {
        let dir = node.dir().to_owned();
        prepare_machine(&dir);
        write_keys(&dir);
        // In memory: what it holds is worth nothing once the test is over.
        let etcd = Program::start(
            &dir,
            "etcd",
            &flags(&[("data-dir", "/run/etcd"), ("log-level", "warn")]),
        );
        let mut api = start_api(&dir);
        for (user, _) in USERS {
            write_kubeconfig(&dir, user);
        }
        let kubectl = Kubectl::new(&kubeconfig(&dir, "admin"));
        until_answers(&mut api, &kubectl).await;
        let controllers = start_controllers(&dir);
        let scheduler = Program::start(
            &dir,
            "kube-scheduler",
            &flags(&[
                (
                    "kubeconfig",
                    path(&kubeconfig(&dir, "system:kube-scheduler")),
                ),
                ("leader-elect", "false"),
            ]),
        );
        let kubelet = start_kubelet(&dir, &node.cgroup_parent);
        Self {
            kubectl,
            dir,
            etcd,
            api,
            controllers,
            scheduler,
            kubelet,
        }
    }

    /// Stops the API server, as in an outage.
    pub(crate) async fn stop_api(&mut self) {
        self.api.kill().await;
    }

    /// Starts it again, and waits until it answers.
    pub(crate) async fn start_api(&mut self) {
        self.api = start_api(&self.dir);
        until_answers(&mut self.api, &self.kubectl).await;
    }

    /// Stops all of it. The pods belong to the node, and stay.
    pub(crate) async fn stop(mut self) {
        for program in [
            &mut self.kubelet,
            &mut self.scheduler,
            &mut self.controllers,
            &mut self.api,
            &mut self.etcd,
        ] {
            program.assert_running();
            program.stop().await;
        }
        map_api_service("-D");
    }
}

/// Adds or deletes what kube-proxy does for the API server's own service.
fn map_api_service(action: &str) {
    for chain in ["PREROUTING", "OUTPUT"] {
        let rule = format!(
            "-t nat {action} {chain} -d {API_SERVICE} -p tcp --dport 443 -j DNAT --to {ADDRESS}:{PORT}"
        );
        let rule: Vec<&str> = rule.split(' ').collect();
        run("iptables", &rule);
    }
}

/// Gives the node an address, a way to the API server's service, and what a kubelet insists on.
fn prepare_machine(dir: &Path) {
    for arguments in [
        "link add node0 type veth peer name node1",
        &format!("address add {ADDRESS}/24 dev node0"),
        "link set node1 up",
        "link set node0 up",
        "route add default dev node0",
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        run("ip", &arguments);
    }
    map_api_service("-A");
    for (name, value) in SYSCTLS {
        let file = dir.join(name.replace('/', "."));
        fs::write(&file, format!("{value}\n")).unwrap();
        let target = format!("/proc/sys/{name}");
        run("mount", &["--bind", path(&file), &target]);
    }
    // A kubelet makes containerd write the logs of pods here, whatever its configuration.
    run("mount", &["-t", "tmpfs", "tmpfs", "/var/log"]);
}

/// The key of the tokens of service accounts, and the tokens of everybody else.
fn write_keys(dir: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(dir.join("accounts.pem"), key.serialize_pem()).unwrap();
    fs::write(dir.join("accounts.pub"), key.public_key_pem()).unwrap();
    let users: Vec<String> = USERS
        .iter()
        .map(|(user, group)| format!("{user},{user},{user},{group}\n"))
        .collect();
    fs::write(dir.join("tokens.csv"), users.concat()).unwrap();
}

fn start_api(dir: &Path) -> Program {
    let mut args = flags(&[
        ("etcd-servers", "http://127.0.0.1:2379"),
        ("advertise-address", ADDRESS),
        ("secure-port", PORT),
        // It makes a certificate of its own there, unless there is one.
        ("cert-dir", path(&dir.join("api"))),
        ("token-auth-file", path(&dir.join("tokens.csv"))),
        ("authorization-mode", "Node,RBAC"),
        ("enable-admission-plugins", "NodeRestriction"),
        ("service-cluster-ip-range", SERVICES),
        ("service-account-issuer", "https://kubernetes.default.svc"),
        ("service-account-key-file", path(&dir.join("accounts.pub"))),
        (
            "service-account-signing-key-file",
            path(&dir.join("accounts.pem")),
        ),
        ("kubelet-preferred-address-types", "InternalIP"),
    ]);
    args.push("--allow-privileged".to_owned());
    Program::start(dir, "kube-apiserver", &args)
}

fn start_controllers(dir: &Path) -> Program {
    Program::start(
        dir,
        "kube-controller-manager",
        &flags(&[
            (
                "kubeconfig",
                path(&kubeconfig(dir, "system:kube-controller-manager")),
            ),
            ("leader-elect", "false"),
            // Each controller as the user that it has a role for.
            ("use-service-account-credentials", "true"),
            ("allocate-node-cidrs", "true"),
            ("cluster-cidr", PODS),
            ("service-cluster-ip-range", SERVICES),
            (
                "service-account-private-key-file",
                path(&dir.join("accounts.pem")),
            ),
            ("root-ca-file", path(&certificate(dir))),
        ]),
    )
}

fn start_kubelet(dir: &Path, cgroup_root: &str) -> Program {
    make_cgroups(cgroup_root);
    let config = dir.join("kubelet.json");
    let content = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup_root,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        // The disk is the machine's, and how full it is no business of the test.
        "evictionHard": {"memory.available": "1Mi"},
        "imageGCHighThresholdPercent": 100,
        // A node tells of itself, and looks at its ConfigMaps, more often than a real one, which has more to do.
        "nodeStatusUpdateFrequency": "1s",
        "syncFrequency": "2s",
        "volumePluginDir": "/run/volume-plugins",
    });
    fs::write(&config, content.to_string()).unwrap();
    let user = format!("system:node:{NODE}");
    Program::start(
        dir,
        "kubelet",
        &flags(&[
            ("config", path(&config)),
            ("kubeconfig", path(&kubeconfig(dir, &user))),
            ("cert-dir", path(&dir.join("kubelet"))),
            ("container-runtime", "remote"),
            (
                "container-runtime-endpoint",
                "unix:///run/containerd/containerd.sock",
            ),
            ("hostname-override", NODE),
            ("node-ip", ADDRESS),
        ]),
    )
}

/// A kubelet wants its root to be there in every hierarchy, and makes only what is below it.
fn make_cgroups(root: &str) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let hierarchies = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        kind.starts_with("cgroup").then_some(place)
    });
    for hierarchy in hierarchies {
        fs::create_dir_all(format!("{hierarchy}{root}")).unwrap();
    }
}

async fn until_answers(api: &mut Program, kubectl: &Kubectl) {
    until_within(PATIENCE, "the API server to be ready", async || {
        api.assert_running();
        kubectl.try_run(&["get", "--raw", "/readyz"])
    })
    .await;
}

/// The API server's own certificate, and the authority that signed it.
fn certificate(dir: &Path) -> PathBuf {
    dir.join("api/apiserver.crt")
}

fn kubeconfig(dir: &Path, user: &str) -> PathBuf {
    dir.join(format!("{}.kubeconfig", user.replace(':', "-")))
}

fn write_kubeconfig(dir: &Path, user: &str) {
    let content = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {
            "server": format!("https://{ADDRESS}:{PORT}"),
            "certificate-authority": certificate(dir),
        }}],
        "users": [{"name": user, "user": {"token": user}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": user}}],
        "current-context": "here",
    });
    fs::write(kubeconfig(dir, user), content.to_string()).unwrap();
}

fn flags(flags: &[(&str, &str)]) -> Vec<String> {
    flags
        .iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
