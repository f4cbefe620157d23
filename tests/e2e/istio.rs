//! Istio's own installer beside the agent: what each does with the other's files, as both are today.
//!
//! The installer needs no API server for that. It runs in a root of its own, into which the directories of the node are
//! mounted, as they are into its container.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::agent::{Agent, readiness};
use crate::namespace::{Needs, find_program, on_a_node_with, run};
use crate::node::{BIN_DIR, CONF_DIR, CONFLIST, NETWORK, Node};
use crate::poll::until;

/// Istio's plugin, which the installer adds.
const PLUGIN: &str = "istio-cni";

#[test]
fn istio_s_installer_and_the_agent_undo_each_other() {
    let needs = Needs {
        peers: &[("install-cni", "istio"), (PLUGIN, "istio")],
        ..Needs::default()
    };
    on_a_node_with(
        istio_s_installer_and_the_agent_undo_each_other,
        &needs,
        async |node| {
            node.declare("v1");
            node.run_command("install");
            node.until_network_ready(true).await;
            let istio = Istio::prepare(node);
            without_an_agent(node, &istio).await;
            with_an_owned_file_and_no_ambient_mode(node, &istio).await;
            against_an_agent(node, &istio).await;
        },
    );
}

/// The installer adds its plugin to the end of our conflist and changes nothing else in it, which `verify` calls drift. At
/// its end it takes out what it added, but the file stays written in its own way.
async fn without_an_agent(node: &mut Node, istio: &Istio) {
    let declared = conflist();
    let installer = istio.install(&["--chained-cni-plugin"]);
    until_inserted().await;
    let mut inserted = conflist();
    let plugins = inserted["plugins"].as_array_mut().unwrap();
    plugins.retain(|plugin| plugin["type"] != PLUGIN);
    assert_eq!(inserted, declared);
    assert!(verify(node).contains(CONFLIST));
    let loaded = node.loaded().await;
    assert_eq!(loaded.network.as_deref(), Some(NETWORK), "{loaded:?}");

    installer.stop().await;
    assert_eq!(conflist(), declared);
    assert!(!Path::new(BIN_DIR).join(PLUGIN).exists());
    assert!(verify(node).contains(CONFLIST));
    node.run_command("install");
    node.run_command("verify");
}

/// With a file of its own declared, but not the ambient mode that it needs, the installer adds to our conflist as well.
/// At its end it deletes the file, with the network of the node.
async fn with_an_owned_file_and_no_ambient_mode(node: &mut Node, istio: &Istio) {
    let installer = istio.install(&["--istio-owned-cni-config"]);
    until_inserted().await;
    assert!(!Path::new(CONF_DIR).join("02-istio-cni.conflist").exists());
    installer.stop().await;
    assert!(!Path::new(CONF_DIR).join(CONFLIST).exists());
    node.until_network_ready(false).await;
    node.run_command("install");
    node.run_command("verify");
    node.until_network_ready(true).await;
}

/// A running agent takes the plugin out, the installer adds it again, and so on until the agent waits longer and longer and
/// says that there is a conflict. Either way the node has its network. Once the installer has ended, our conflist stays.
async fn against_an_agent(node: &mut Node, istio: &Istio) {
    let declared = conflist();
    let agent = Agent::start(node);
    agent.until_ready().await;
    let installer = istio.install(&["--chained-cni-plugin"]);
    let conflict = until("a conflict", async || {
        let body = readiness().ok_or("no answer")?.body;
        let line = body.lines().find(|line| line.starts_with("conflict: "));
        line.map(str::to_owned).ok_or(body.clone())
    })
    .await;
    assert!(conflict.contains(CONFLIST), "{conflict}");
    assert!(conflict.contains("uid 0"), "{conflict}");
    assert!(Path::new(BIN_DIR).join(PLUGIN).exists(), "it is not ours");
    let loaded = node.loaded().await;
    assert_eq!(loaded.network.as_deref(), Some(NETWORK), "{loaded:?}");

    installer.stop().await;
    agent.until_ready().await;
    assert_eq!(conflist(), declared);
    agent.stop().await;
    node.run_command("verify");
}

/// Istio's installer on a node.
struct Istio {
    /// The root of its file system.
    root: PathBuf,
}

/// One that runs.
struct Installer {
    process: Child,
    log: PathBuf,
}

impl Istio {
    /// Makes the file system of its container.
    fn prepare(node: &Node) -> Self {
        let root = node.dir().join("istio");
        let dir = |place: &str| {
            let dir = root.join(place);
            fs::create_dir_all(&dir).unwrap();
            dir
        };
        for (host, place) in [("/opt/cni", "host/opt/cni"), ("/etc/cni", "host/etc/cni")] {
            run("mount", &["--bind", host, dir(place).to_str().unwrap()]);
        }
        run(
            "mount",
            &["-t", "proc", "proc", dir("proc").to_str().unwrap()],
        );
        let account = dir("var/run/secrets/kubernetes.io/serviceaccount");
        for file in ["token", "ca.crt"] {
            fs::write(account.join(file), file).unwrap();
        }
        let bin = dir("opt/cni/bin");
        fs::copy(find_program(PLUGIN).unwrap(), bin.join(PLUGIN)).unwrap();
        fs::copy(
            find_program("install-cni").unwrap(),
            root.join("install-cni"),
        )
        .unwrap();
        Self { root }
    }

    /// Starts it.
    fn install(&self, args: &[&str]) -> Installer {
        let log = self.root.join("log");
        let output = File::create(&log).unwrap();
        let process = Command::new("chroot")
            .arg(&self.root)
            .args(["/install-cni", "--repair-enabled=false"])
            .args(args)
            // Nobody asks there: the plugin would.
            .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            .env("KUBERNETES_SERVICE_PORT", "1")
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Installer { process, log }
    }
}

impl Installer {
    /// Ends it as a kubelet does, and waits until it has cleaned up.
    async fn stop(mut self) {
        let pid = Pid::from_raw(self.process.id().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        until("the installer to end", async || {
            let ended = self.process.try_wait().unwrap();
            ended.ok_or_else(|| fs::read_to_string(&self.log).unwrap())
        })
        .await;
    }
}

/// Our conflist as it is now.
fn conflist() -> Value {
    serde_json::from_slice(&fs::read(Path::new(CONF_DIR).join(CONFLIST)).unwrap()).unwrap()
}

/// Waits until Istio's plugin is in place, and is the last one of our conflist.
async fn until_inserted() {
    until("the installer's entry", async || {
        let last = conflist()["plugins"].as_array().unwrap().last().cloned();
        let is_there = last.is_some_and(|plugin| plugin["type"] == PLUGIN);
        let is_placed = Path::new(BIN_DIR).join(PLUGIN).exists();
        (is_there && is_placed)
            .then_some(())
            .ok_or("not there".into())
    })
    .await;
}

/// Runs `verify`, which must find something, and returns what it says.
fn verify(node: &Node) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cni-keeper"))
        .arg("--config")
        .arg(node.config())
        .arg("verify")
        .output()
        .unwrap();
    assert!(!output.status.success(), "{output:?}");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
