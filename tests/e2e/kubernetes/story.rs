//! What happens to a node, in order. Each part checks what must hold after it, and prints how long it took.

mod reports;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};

use super::cluster::{Cluster, NODE};
use super::declared::{Declared, Operator, Plugins};
use super::image::{VERSIONS, archive};
use super::kubectl::{NAMESPACE, condition};
use super::pod::{agent, cost, until_another, until_ready, until_resync, until_unready};
use super::pod_traffic::{PodTraffic, create_pod, run_pod};
use crate::archive::DEBIAN_PLUGINS;
use crate::containerd::SOCKET;
use crate::namespace::run;
use crate::node::{BIN_DIR, CONF_DIR, CONFLIST, Node, PLUGINS, names_in};
use crate::poll::until;

/// What a node's image appends to its own build of a plugin.
const IMAGES_OWN: &[u8] = b"the image's own";
/// The pod range of the node, which the controllers give to the first of a cluster: as the operator writes it down.
const WRITTEN: &str = "values: {node.podCIDR: 10.244.0.0/24}";
/// Pods that are run on the way, to see that they can be.
const VISITORS: [&str; 5] = ["early", "after-wipe", "meanwhile", "after-outage", "orphan"];

/// The cluster, its operator, and what is declared now.
pub(crate) struct Story {
    cluster: Cluster,
    operator: Operator,
    declared: Declared,
    start: Instant,
}

impl Story {
    /// Starts the cluster, and waits until the node says that it has no network.
    pub(crate) async fn begin(node: &Node) -> Self {
        let start = Instant::now();
        for version in VERSIONS {
            let image = archive(version);
            let import = [
                "--namespace",
                "k8s.io",
                "images",
                "import",
                image.to_str().unwrap(),
            ];
            run("ctr", &[&["--address", SOCKET][..], &import].concat());
        }
        let story = Self {
            cluster: Cluster::start(node).await,
            operator: Operator::new(node.dir()),
            declared: Declared {
                agent: VERSIONS[0],
                plugins: Plugins::Mirrored("v1"),
                if_present: "keep",
                facts: WRITTEN,
                more: "",
                components: &[],
            },
            start,
        };
        story.tell("the API server is ready");
        let why = story
            .until_node("False", "cni plugin not initialized")
            .await;
        story.tell(&format!("node NotReady: {why}"));
        story
    }

    /// Prints a line for the person who watches.
    fn tell(&self, what: &str) {
        eprintln!("{:7.1} s  {what}", self.start.elapsed().as_secs_f64());
    }

    /// Waits for the node's condition Ready to be that, with such a message, and returns the message.
    async fn until_node(&self, status: &str, message: &str) -> String {
        let what = format!("the node's Ready to be {status}");
        self.cluster
            .kubectl
            .until(&what, &["node", NODE], |node| {
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

    /// `kubectl apply -k`.
    fn apply(&self) {
        let overlay = self.operator.write(&self.declared);
        self.cluster
            .kubectl
            .run(&["apply", "--kustomize", &overlay]);
    }

    /// Waits until every pod of the DaemonSet is the new one and ready.
    fn roll_out(&self) {
        let object = format!("daemonset/{NAMESPACE}");
        let kubectl = |args: &[&str]| {
            let args = [&["--namespace", NAMESPACE], args].concat();
            self.cluster.kubectl.try_run(&args)
        };
        if let Err(error) = kubectl(&["rollout", "status", "--timeout=120s", &object]) {
            panic!(
                "{error}\n{:?}\n{:?}",
                kubectl(&["describe", "daemonsets,pods"]),
                kubectl(&["logs", &object])
            );
        }
    }

    /// Checks that a pod is scheduled and started, with an address in the node's range.
    async fn runs_a_pod(&self, name: &str) {
        let pod = run_pod(&self.cluster.kubectl, name).await;
        let ip = pod["status"]["podIP"].as_str().unwrap();
        assert!(ip.starts_with("10.244.0."), "{ip}");
    }

    /// From NotReady to Ready: a pod that waited is started. The plugins of the node's image are not touched.
    pub(crate) async fn bring_up_network(&self) -> PodTraffic {
        let kubectl = &self.cluster.kubectl;
        fs::create_dir_all(BIN_DIR).unwrap();
        let mut own = fs::read(Path::new(DEBIAN_PLUGINS).join("bridge")).unwrap();
        own.extend_from_slice(IMAGES_OWN);
        run(
            "busybox",
            &["cp", &format!("{DEBIAN_PLUGINS}/bridge"), BIN_DIR],
        );
        fs::write(plugin("bridge"), &own).unwrap();
        let before = identity(&plugin("bridge"));
        let object = ["serviceaccount", "default"];
        kubectl.until("accounts", &object, |_| Ok(())).await;
        create_pod(kubectl, VISITORS[0]);

        self.apply();
        self.roll_out();
        self.tell("kubectl apply -k: the agent's pod is ready");
        self.until_node("True", "").await;
        self.tell("node Ready");
        kubectl.until_pod_ready("default", VISITORS[0]).await;
        self.tell("a pod that waited for the network is ready");
        assert_eq!(identity(&plugin("bridge")), before, "ifPresent: keep");
        assert!(holds("host-local", b"v1"));
        let talk = PodTraffic::start(kubectl).await;
        self.tell("two pods talk");
        talk
    }

    /// A new image of the agent is rolled out under running pods.
    pub(crate) async fn upgrade_agent(&mut self, talk: &PodTraffic) {
        let before = agent().unwrap();
        self.declared.agent = VERSIONS[1];
        self.apply();
        self.roll_out();
        until_another(before).await;
        let object = ["--namespace", NAMESPACE, "pods"];
        let pods = self.cluster.kubectl.get(&object).unwrap();
        let image = &pods["items"][0]["spec"]["containers"][0]["image"];
        assert_eq!(*image, format!("localhost/cni-keeper:{}", VERSIONS[1]));
        let talked = talk.assert_uninterrupted(&self.cluster.kubectl).await;
        self.tell(&format!("a new agent is rolled out: {talked}"));
    }

    /// A new version of the plugins, by the ConfigMap alone. It now replaces the image's own plugins as well.
    pub(crate) async fn upgrade_plugins(&mut self, talk: &PodTraffic) {
        let before = agent().unwrap();
        self.declared.plugins = Plugins::Mirrored("v2");
        self.declared.if_present = "replace";
        self.apply();
        self.until_placed().await;
        until_ready().await;
        assert_eq!(agent().unwrap(), before, "no roll-out for that");
        let talked = talk.assert_uninterrupted(&self.cluster.kubectl).await;
        self.tell(&format!("new plugins by the ConfigMap: {talked}"));
    }

    /// Fault 24 under a kubelet: the plugins go with their directory, and the conflist.
    pub(crate) async fn wipe_directories(&self, talk: &PodTraffic) {
        // Moved away first: deleting it in place takes longer than the agent takes to fill it again.
        let away = format!("{BIN_DIR}.away");
        fs::rename(BIN_DIR, &away).unwrap();
        fs::remove_dir_all(away).unwrap();
        fs::remove_file(conflist()).unwrap();
        self.until_repaired().await;
        self.runs_a_pod(VISITORS[1]).await;
        let talked = talk.assert_uninterrupted(&self.cluster.kubectl).await;
        self.tell(&format!(
            "/opt/cni/bin and the conflist were deleted: {talked}"
        ));
    }

    async fn until_repaired(&self) {
        let damaged = Instant::now();
        self.until_placed().await;
        let milliseconds = damaged.elapsed().as_millis();
        until_ready().await;
        self.tell(&format!("repaired within {milliseconds} ms"));
    }

    /// Waits for the conflist, and for the plugins that are declared.
    async fn until_placed(&self) {
        let tails = PLUGINS.map(|name| (name, self.declared.plugins.tail(name)));
        until("what is declared to be in place", async || {
            let wrong: Vec<&str> = tails
                .iter()
                .filter(|(name, tail)| !holds(name, tail))
                .map(|(name, _)| *name)
                .collect();
            if wrong.is_empty() && conflist().is_file() {
                Ok(())
            } else {
                Err(format!("{wrong:?} {:?}", names_in(Path::new(CONF_DIR))))
            }
        })
        .await;
    }

    /// Fault 55 by a ConfigMap: the last good configuration stays in force, and every view names the key.
    pub(crate) async fn apply_mistake(&mut self, talk: &PodTraffic) {
        let placed: Vec<PathBuf> = PLUGINS.iter().map(|name| plugin(name)).collect();
        let placed = [placed, vec![conflist()]].concat();
        let before: Vec<_> = placed.iter().map(|file| identity(file)).collect();
        self.declared.more = "drift: {policy: heel}";
        self.apply();
        let reason = until_unready("config").await;
        assert!(
            reason.contains("drift.policy") && reason.contains("heel"),
            "{reason}"
        );
        assert_eq!(reason.lines().count(), 1, "{reason}");
        self.tell(&format!(
            "a mistake in the ConfigMap: {}",
            reason.trim_end()
        ));
        let object = ["--namespace", NAMESPACE, "daemonset", NAMESPACE];
        self.cluster
            .kubectl
            .until("the DaemonSet to tell", &object, |set| {
                let unavailable = &set["status"]["numberUnavailable"];
                (unavailable == 1)
                    .then_some(())
                    .ok_or(set["status"].to_string())
            })
            .await;
        self.runs_a_pod(VISITORS[2]).await;
        self.until_node("True", "").await;
        let after: Vec<_> = placed.iter().map(|file| identity(file)).collect();
        assert_eq!(after, before, "touched although the configuration is wrong");

        self.declared.more = "";
        self.apply();
        until_ready().await;
        self.roll_out();
        let talked = talk.assert_uninterrupted(&self.cluster.kubectl).await;
        self.tell(&format!("fixed in the ConfigMap: {talked}"));
    }

    /// The API server does not answer: drift is repaired, and an agent that dies comes back and is ready.
    pub(crate) async fn lose_api_server(&mut self, talk: &PodTraffic) {
        self.cluster.stop_api().await;
        fs::write(plugin("bridge"), b"not a program").unwrap();
        fs::remove_file(conflist()).unwrap();
        self.until_repaired().await;
        let before = agent().unwrap();
        kill(before, Signal::SIGKILL).unwrap();
        until_another(before).await;
        until_ready().await;
        self.tell("no API server: the agent was killed, and its next one is ready");
        self.cluster.start_api().await;
        self.runs_a_pod(VISITORS[3]).await;
        let talked = talk.assert_uninterrupted(&self.cluster.kubectl).await;
        self.tell(&format!("the API server is back: {talked}"));
    }

    /// The mirror is gone, and the plugins come out of the agent's image.
    pub(crate) async fn install_from_image(&mut self, talk: &PodTraffic) {
        self.operator.end_mirror();
        self.declared.plugins = Plugins::Seeded;
        self.apply();
        self.until_placed().await;
        until_ready().await;
        let talked = talk.assert_uninterrupted(&self.cluster.kubectl).await;
        self.tell(&format!("other plugins, from the image: {talked}"));
    }

    /// Prints what the agent used, to compare with its requests and limits.
    pub(crate) fn report_cost(&self) {
        let cost = cost(agent().unwrap());
        self.tell(&format!(
            "the agent's container: at most {:.1} of {:.0} MiB, {} ms of processor time, throttled {} times",
            mebibytes(cost.memory),
            mebibytes(cost.limit),
            cost.cpu / 1_000_000,
            cost.throttled
        ));
        assert!(cost.memory < cost.limit, "{cost:?}");
    }

    /// The agent is removed and the network stays. Then the network is removed as well, and nothing is left.
    pub(crate) async fn end(mut self, node: &Node, talk: PodTraffic) {
        let kubectl = &self.cluster.kubectl;
        kubectl.delete(&["--namespace", NAMESPACE, "daemonset", NAMESPACE]);
        until("the agent to be gone", async || match agent() {
            Ok(agent) => Err(format!("{agent}")),
            Err(_) => Ok(()),
        })
        .await;
        self.runs_a_pod(VISITORS[4]).await;
        self.until_node("True", "").await;
        let talked = talk.assert_uninterrupted(kubectl).await;
        self.tell(&format!("the DaemonSet was deleted: {talked}"));

        // A pod cannot be stopped properly without its network.
        talk.end(kubectl);
        kubectl.delete(&[&["--grace-period=1", "pod"], &VISITORS[..]].concat());
        assert_eq!(
            node.leases(),
            Vec::<String>::new(),
            "addresses not given back"
        );
        self.tell("all other pods were deleted");
        self.declared.components = &["kubernetes-api", "uninstall"];
        self.apply();
        self.roll_out();
        self.tell("uninstalled");
        assert_eq!(names_in(Path::new(CONF_DIR)), Vec::<String>::new());
        assert_eq!(names_in(Path::new(BIN_DIR)), Vec::<String>::new());
        let overlay = self.operator.write(&self.declared);
        self.cluster.kubectl.delete(&["--kustomize", &overlay]);
        self.tell("nothing of it is left in the cluster");
        self.install_by_helm().await;
        self.cluster.stop().await;
    }

    /// The chart on the same node: from NotReady to Ready, another configuration without a new pod, and
    /// `helm uninstall`, which leaves the network.
    async fn install_by_helm(&mut self) {
        let helm = |what, declared: &Declared| {
            let values = self.operator.values(declared);
            self.cluster.kubectl.helm(&[what, "--values", &values])
        };
        self.declared.facts = WRITTEN;
        self.declared.more = "";
        helm("install", &self.declared).unwrap();
        self.roll_out();
        self.until_placed().await;
        self.until_node("True", "").await;
        self.tell("helm install: node Ready");

        let before = agent().unwrap();
        self.declared.more = "drift: {policy: heel}";
        let refused = helm("upgrade", &self.declared).unwrap_err();
        assert!(refused.contains("config/drift/policy"), "{refused}");
        self.declared.more = "drift: {resync: 4m}";
        helm("upgrade", &self.declared).unwrap();
        until_resync(240).await;
        until_ready().await;
        assert_eq!(agent().unwrap(), before, "no roll-out for a configuration");
        self.tell(
            "helm upgrade: a mistake is refused, and what is right is in force without a roll-out",
        );

        self.cluster.kubectl.helm(&["uninstall"]).unwrap();
        until("the agent to be gone", async || match agent() {
            Ok(agent) => Err(format!("{agent}")),
            Err(_) => Ok(()),
        })
        .await;
        self.until_placed().await;
        self.until_node("True", "").await;
        self.tell("helm uninstall: the network stays");
    }
}

fn plugin(name: &str) -> PathBuf {
    Path::new(BIN_DIR).join(name)
}

fn conflist() -> PathBuf {
    Path::new(CONF_DIR).join(CONFLIST)
}

/// Whether a plugin is there and is of that version.
fn holds(name: &str, version: &[u8]) -> bool {
    fs::read(plugin(name)).is_ok_and(|bytes| bytes.ends_with(version))
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
