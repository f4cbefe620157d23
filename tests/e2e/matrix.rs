//! What each containerd really does with a network, and whether `/readyz` told of it: the table in manifests/README.md.
//!
//! Each test measures the row of one version, and holds it against the page. `CNI_KEEPER_MATRIX=renew` writes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::agent::Agent;
use crate::archive::current_plugins;
use crate::containerd::BIN_DIR_SETTING;
use crate::loaded::Loaded;
use crate::namespace::{Needs, on_a_node_with};
use crate::node::{BIN_DIR, CONF_DIR, CONFLIST, Node};
use crate::poll::until;

/// Where the containerds are: `VERSION=DIRECTORY`, separated by colons.
const CONTAINERDS: &str = "CNI_KEEPER_E2E_CONTAINERDS";
/// Set to `renew`, the table is written.
const RENEW: &str = "CNI_KEEPER_MATRIX";
/// Real plugins that know CNI 1.1.0.
const PEERS: [(&str, &str); 1] = [("host-local", "plugins")];
/// So long is waited for what may never happen.
const LIMIT: Duration = Duration::from_secs(5);
/// A key of the conflist.
const OFFERED: &str = r#"cniVersions: ["1.0.0", "1.1.0"]"#;
/// The agent asks the runtime.
const ASK: &str = "runtime: {endpoint: \"unix:///run/containerd/containerd.sock\"}\n";
/// It also leaves damage as it is.
const ASK_ONLY: &str = "runtime: {endpoint: \"unix:///run/containerd/containerd.sock\"}
drift: {policy: report, resync: 4m}
";
const FOREIGN: &str = r#"{"cniVersion": "1.0.0", "name": "foreign", "plugins": [{"type": "bridge",
    "bridge": "cni9", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.99.0.0/16"}]]}}]}"#;

#[test]
fn containerd_1_6() {
    measure(containerd_1_6, "1.6");
}

#[test]
fn containerd_1_7() {
    measure(containerd_1_7, "1.7");
}

#[test]
fn containerd_2_1() {
    measure(containerd_2_1, "2.1");
}

#[test]
fn containerd_2_4() {
    measure(containerd_2_4, "2.4");
}

fn measure<T: Fn()>(test: T, version: &str) {
    let needs = Needs {
        peers: &PEERS,
        first: Some(directory_of(version)),
        is_long: false,
    };
    on_a_node_with(test, &needs, async |node| {
        let mut row = Row {
            agent: begin(node).await,
            node,
        };
        let cells = [
            format!("containerd {version}"),
            row.install().await,
            row.precedence().await,
            row.heal().await,
            row.new_conf_dir().await,
            row.bin_dirs().await,
            row.most_networks().await,
            row.status().await,
            row.removal().await,
        ];
        let line = format!("| {} |", cells.join(" | "));
        hold_against_page(version, &line);
    });
}

/// Where that containerd is.
fn directory_of(version: &str) -> Result<String, String> {
    let all = std::env::var(CONTAINERDS).unwrap_or_default();
    let found = all
        .split(':')
        .filter_map(|item| item.split_once('='))
        .find(|(name, _)| *name == version);
    found.map(|(_, dir)| dir.to_owned()).ok_or(format!(
        "containerd {version} is missing: scripts/e2e brings it along"
    ))
}

/// The table is in the file that the outside sees, so a run inside may write it.
fn hold_against_page(version: &str, line: &str) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/README.md");
    let text = fs::read_to_string(&page).unwrap();
    let begin = format!("| containerd {version} |");
    let Some(before) = text.lines().find(|line| line.starts_with(&begin)) else {
        panic!("the table has no row for containerd {version}; it is:\n{line}");
    };
    if std::env::var_os(RENEW).is_some_and(|value| value == "renew") {
        fs::write(&page, text.replace(before, line)).unwrap();
    } else {
        assert_eq!(line, before, "{RENEW}=renew writes it");
    }
}

/// Starts the agent on a node without a network.
async fn begin(node: &mut Node) -> Agent {
    declare(node, ASK);
    let agent = Agent::start(node);
    agent.until_ready().await;
    agent
}

fn declare(node: &Node, more: &str) {
    node.declare_from(&current_plugins(), OFFERED, "v1", more);
}

/// One row of the table, while it is measured.
struct Row<'a> {
    node: &'a mut Node,
    agent: Agent,
}

impl Row<'_> {
    async fn loaded(&self) -> Option<Loaded> {
        Loaded::ask(&self.node.cri).await.ok()
    }

    /// Whether that is so soon.
    async fn comes(&self, wanted: impl Fn(&Loaded) -> bool) -> bool {
        let ask = async {
            while !self.loaded().await.is_some_and(|loaded| wanted(&loaded)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, ask).await.is_ok()
    }

    /// Whether `/readyz` names it.
    fn is_told(&self, reason: &str) -> &'static str {
        let answer = self.agent.get("/readyz");
        match answer.body.lines().any(|line| line.starts_with(reason)) {
            true => "told",
            false => "not told",
        }
    }

    /// Ends the runtime and starts it again, after which all is well.
    async fn restart(&mut self, cni: &str) {
        if !self.node.containerd.has_ended() {
            self.node.stop_runtime().await;
        }
        self.node.start_runtime_with(cni).await;
        self.agent.until_ready().await;
        assert!(self.comes(Loaded::is_ours).await);
    }

    async fn install(&self) -> String {
        match self.comes(Loaded::is_ours).await {
            true => "yes",
            false => "no",
        }
        .to_owned()
    }

    /// A foreign file that sorts before ours is taken, and one that does not parse stops everything.
    async fn precedence(&self) -> String {
        let mut seen = Vec::new();
        for (content, network) in [(FOREIGN, Some("foreign")), ("{", None)] {
            publish("05-foreign.conflist", content);
            let is_so = self
                .comes(|loaded| {
                    loaded.network.as_deref() == network
                        && loaded.condition.status == network.is_some()
                })
                .await;
            seen.push(format!("{is_so}, {}", self.is_told("precedence: ")));
            fs::remove_file(conf("05-foreign.conflist")).unwrap();
            assert!(self.comes(Loaded::is_ours).await);
            self.agent.until_ready().await;
        }
        match seen.iter().all(|seen| seen == "true, told") {
            true => "yes; told".to_owned(),
            false => seen.join("; "),
        }
    }

    async fn heal(&self) -> String {
        self.agent.signal(Signal::SIGSTOP);
        fs::remove_file(conf(CONFLIST)).unwrap();
        let is_gone = self.comes(|loaded| !loaded.condition.status).await;
        self.agent.signal(Signal::SIGCONT);
        self.agent.until_ready().await;
        match (is_gone, self.comes(Loaded::is_ours).await) {
            (true, true) => "yes",
            (false, true) => "keeps the network meanwhile",
            (_, false) => "no",
        }
        .to_owned()
    }

    /// The agent is held up for so long that the runtime sees the directory go before it is there again.
    async fn new_conf_dir(&mut self) -> String {
        self.agent.signal(Signal::SIGSTOP);
        fs::remove_dir_all(CONF_DIR).unwrap();
        until("the runtime to lose its network", async || {
            let is_lost = self.node.containerd.has_ended()
                || Loaded::ask(&self.node.cri)
                    .await
                    .is_ok_and(|loaded| !loaded.condition.status);
            is_lost.then_some(()).ok_or("it has one".into())
        })
        .await;
        self.agent.signal(Signal::SIGCONT);
        until("the conflist to be back", async || {
            conf(CONFLIST)
                .is_file()
                .then_some(())
                .ok_or("not there".into())
        })
        .await;
        let follows = self.comes(Loaded::is_ours).await;
        let cell = if follows {
            "followed".to_owned()
        } else {
            let reason = self.agent.until_unready("runtime: ").await;
            let what = match self.node.containerd.has_ended() {
                true => "ends",
                false => "blind until restarted",
            };
            assert!(!reason.is_empty());
            format!("{what}; told")
        };
        self.restart(BIN_DIR_SETTING).await;
        cell
    }

    async fn bin_dirs(&mut self) -> String {
        let dirs = [BIN_DIR, "/opt/cni/more"];
        let setting = format!("    bin_dirs = {dirs:?}\n");
        self.node.stop_runtime().await;
        self.node.start_runtime_with(&setting).await;
        let loaded = self.loaded().await.unwrap();
        self.restart(BIN_DIR_SETTING).await;
        match loaded.bin_dirs == dirs {
            true => "yes",
            false => "ignored",
        }
        .to_owned()
    }

    async fn most_networks(&mut self) -> String {
        publish("20-second.conflist", FOREIGN);
        let mut seen = Vec::new();
        for most in 1..=2 {
            let setting = format!("{BIN_DIR_SETTING}    max_conf_num = {most}\n");
            self.restart(&setting).await;
            seen.push(self.loaded().await.unwrap().networks);
        }
        fs::remove_file(conf("20-second.conflist")).unwrap();
        self.restart(BIN_DIR_SETTING).await;
        match seen[..] {
            [1, 2] => "obeyed".to_owned(),
            _ => format!("{seen:?} networks"),
        }
    }

    /// A plugin goes, and nobody puts it back.
    async fn status(&self) -> String {
        declare(self.node, ASK_ONLY);
        until("the configuration to be in force", async || {
            let status = self.agent.get("/status").body;
            let status: Value = serde_json::from_str(&status).unwrap();
            let seconds = &status["declared"]["resyncSeconds"];
            (*seconds == 240).then_some(()).ok_or(seconds.to_string())
        })
        .await;
        let plugin = Path::new(BIN_DIR).join("bridge");
        fs::remove_file(&plugin).unwrap();
        let is_seen = self.comes(|loaded| !loaded.condition.status).await;
        let told = self.is_told("binaries: ");
        declare(self.node, ASK);
        self.agent.until_ready().await;
        assert!(self.comes(Loaded::is_ours).await);
        match is_seen {
            true => format!("asked: a missing plugin makes it false; {told}"),
            false => format!("not asked: true without a plugin; {told}"),
        }
    }

    /// A pod is left, and its network is uninstalled.
    async fn removal(self) -> String {
        let pod = self.node.run_pod("left", 18081).await;
        self.agent.stop().await;
        self.node.run_command("uninstall");
        self.node.until_network_ready(false).await;
        let removed = self.node.try_remove_pod(&pod).await;
        if let Err(reason) = &removed {
            assert!(reason.contains("cni"), "{reason}");
            // What is left to do for whoever removed the network too early.
            self.node.run_command("install");
            self.node.until_network_ready(true).await;
            self.node.remove_pod(pod).await;
            self.node.run_command("uninstall");
        }
        match removed {
            Ok(()) => "done",
            Err(_) => "fails until it is installed again",
        }
        .to_owned()
    }
}

fn conf(name: &str) -> PathBuf {
    Path::new(CONF_DIR).join(name)
}

/// As whoever knows containerd does it: a file under another name first, because it does not see one that is made.
fn publish(name: &str, content: &str) {
    let aside = conf(name).with_extension("new");
    fs::write(&aside, content).unwrap();
    fs::rename(aside, conf(name)).unwrap();
}
