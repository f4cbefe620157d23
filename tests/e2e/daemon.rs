//! The running agent, on a node that is damaged while pods talk.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::agent::Agent;
use crate::containerd::SOCKET;
use crate::namespace::on_a_private_node;
use crate::node::{BIN_DIR, CONF_DIR, CONFLIST, Node, names_in};
use crate::observer::{Observer, Seen};
use crate::poll::until;
use crate::traffic::Traffic;

/// Makes the agent ask containerd what it has loaded.
const ASK: &str = "runtime: {endpoint: \"unix:///run/containerd/containerd.sock\"}\n";
/// How long the agent may call the node ready while containerd says otherwise. The agent asks 100 ms after a change;
/// the rest is for a machine that is busy with other tests.
const LONGEST_DISAGREEMENT: Duration = Duration::from_secs(1);
/// How often the node is damaged.
const DAMAGES: usize = 8;

/// A conflist that a runtime loads, and prefers to ours by its name.
const FOREIGN: &str = r#"{"cniVersion": "1.0.0", "name": "foreign", "plugins": [{"type": "bridge",
    "bridge": "cni9", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.99.0.0/16"}]]}}]}"#;

/// Faults 24, 30, 32 and 34 with a real runtime, which the agent asks: whatever is damaged, node and runtime are right
/// again without help, and running pods do not notice.
#[test]
fn a_damaged_node_comes_back_and_the_runtime_agrees() {
    on_a_private_node(
        a_damaged_node_comes_back_and_the_runtime_agrees,
        async |node| {
            let (agent, seen) = survive_all_damage(node, ASK).await;
            assert!(seen.longest_disagreement < LONGEST_DISAGREEMENT, "{seen:?}");
            let checks = agent.get("/readyz?verbose").body;
            assert!(checks.contains("[+]runtime ok\n"), "{checks}");
            // One that hangs is a reason like any other, and holds nothing up.
            node.containerd.signal(Signal::SIGSTOP);
            let silent = format!("runtime: {SOCKET} did not answer");
            agent.until_unready(&silent).await;
            node.containerd.signal(Signal::SIGCONT);
            agent.until_ready().await;
            stop_and_uninstall(node, agent).await;
        },
    );
}

/// The same, but the agent does not ask the runtime, which loads repaired files by itself. Once nothing happens, the
/// agent does nothing either.
#[test]
fn a_damaged_node_comes_back_without_a_word_to_the_runtime() {
    on_a_private_node(
        a_damaged_node_comes_back_without_a_word_to_the_runtime,
        async |node| {
            let (agent, seen) = survive_all_damage(node, "").await;
            assert!(seen.longest_disagreement < LONGEST_DISAGREEMENT, "{seen:?}");
            assert!(!agent.get("/readyz?verbose").body.contains("runtime"));
            let before = agent.ticks();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let ticks = agent.ticks() - before;
            assert!(ticks <= 5, "{ticks} hundredths of an idle second");
            stop_and_uninstall(node, agent).await;
        },
    );
}

/// containerd up to 1.7 loses its watch with net.d. Without the `runtime` check the agent tells of the disk, which is
/// right; with it, what is to be done, until that is done.
#[test]
fn a_runtime_that_went_blind_is_reported_where_it_is_asked() {
    on_a_private_node(
        a_runtime_that_went_blind_is_reported_where_it_is_asked,
        async |node| {
            node.declare("v1");
            let agent = Agent::start(node);
            agent.until_ready().await;
            node.until_network_ready(true).await;
            let traffic = Traffic::start(node).await;

            // Held up for so long that containerd sees the directory go before it is there again.
            agent.signal(Signal::SIGSTOP);
            remove_dir(CONF_DIR);
            node.until_network_ready(false).await;
            agent.signal(Signal::SIGCONT);
            agent.until_ready().await;
            node.run_command("verify");
            let loaded = node.loaded().await;
            assert!(!loaded.is_ours(), "{loaded:?}");
            let error = node.try_pod("hopeless", 18083).await.err().unwrap();
            assert!(error.contains("cni plugin not initialized"), "{error}");
            let answer = agent.get("/readyz?verbose");
            assert_eq!(answer.status, 200);
            assert!(!answer.body.contains("runtime"), "{}", answer.body);

            node.declare_with("v1", ASK);
            let reason = agent
                .until_unready("runtime: containerd has not loaded")
                .await;
            for part in [CONFLIST, "although it is on disk", "restart containerd"] {
                assert!(reason.contains(part), "{part}: {reason}");
            }
            assert_eq!(agent.get("/readyz?exclude=runtime").status, 200);

            node.stop_runtime().await;
            agent.until_unready(&format!("runtime: {SOCKET} ")).await;
            node.start_runtime().await;
            agent.until_ready().await;
            assert_recovers(node, &agent, &traffic, "containerd was restarted").await;
            node.remove_failed_pods(&traffic.pods()).await;

            // With the agent awake it is a race whether containerd loads the new conflist before it loses its watch.
            // Ready or not, both agree.
            remove_dir(CONF_DIR);
            let agree = async || {
                let ready = agent.get("/readyz").status == 200;
                let loaded = node.loaded().await;
                match ready == loaded.is_ours() && conf(CONFLIST).exists() {
                    true => Ok(()),
                    false => Err(format!("ready: {ready}; {loaded:?}")),
                }
            };
            until("agent and runtime to agree", agree).await;
            node.restart_runtime().await;
            agent.until_ready().await;
            assert_recovers(node, &agent, &traffic, "containerd was restarted again").await;

            traffic.finish(node).await;
            stop_and_uninstall(node, agent).await;
        },
    );
}

/// containerd up to 1.7 never looks at plugins: it calls itself ready while no pod can be run.
#[test]
fn a_missing_plugin_is_reported_while_the_runtime_is_content() {
    on_a_private_node(
        a_missing_plugin_is_reported_while_the_runtime_is_content,
        async |node| {
            node.declare("v1");
            node.run_command("install");
            node.until_network_ready(true).await;
            node.declare_with("v1", &format!("{ASK}drift: {{policy: report}}\n"));
            let agent = Agent::start(node);
            agent.until_ready().await;

            fs::remove_file(bin("bridge")).unwrap();
            let answer = agent.get("/readyz?verbose");
            assert_eq!(answer.status, 503);
            for line in [
                "[-]binaries failed: /opt/cni/bin/bridge is missing",
                "[+]runtime ok\n",
            ] {
                assert!(answer.body.contains(line), "{line}: {}", answer.body);
            }
            let loaded = node.loaded().await;
            assert!(loaded.is_ours(), "{loaded:?}");
            let error = node.try_pod("hopeless", 18083).await.err().unwrap();
            assert!(error.contains("failed to find plugin"), "{error}");
            assert!(!bin("bridge").exists(), "nothing is to be written");

            node.declare_with("v1", ASK);
            agent.until_ready().await;
            node.remove_failed_pods(&[]).await;
            let pod = node.run_pod("hopeful", 18083).await;
            node.remove_pod(pod).await;
            stop_and_uninstall(node, agent).await;
        },
    );
}

/// Damages the node in every way, and checks after each that the node is as declared and gives new pods a network.
async fn survive_all_damage(node: &mut Node, more: &str) -> (Agent, Seen) {
    node.declare_with("v1", more);
    let agent = Agent::start(node);
    agent.until_ready().await;
    node.until_network_ready(true).await;
    let traffic = Traffic::start(node).await;
    let observer = Observer::start();

    fs::remove_file(bin("bridge")).unwrap();
    assert_recovers(node, &agent, &traffic, "bridge was deleted").await;
    corrupt(&bin("host-local"));
    assert_recovers(node, &agent, &traffic, "host-local was corrupted").await;
    fs::remove_file(conf(CONFLIST)).unwrap();
    assert_recovers(node, &agent, &traffic, "the conflist was deleted").await;
    fs::write(conf(CONFLIST), "{").unwrap();
    assert_recovers(node, &agent, &traffic, "the conflist was corrupted").await;
    empty(BIN_DIR);
    empty(CONF_DIR);
    assert_recovers(node, &agent, &traffic, "both directories were emptied").await;
    remove_dir(BIN_DIR);
    create_dir(BIN_DIR);
    assert_recovers(node, &agent, &traffic, "the bin directory was made anew").await;

    // A foreign file that sorts before ours is reported, and left to its owner.
    let foreign = conf("05-foreign.conflist");
    fs::write(&foreign, "{").unwrap();
    assert_blocked(node, &agent, None).await;
    fs::remove_file(&foreign).unwrap();
    assert_recovers(node, &agent, &traffic, "an invalid conflist was there").await;
    fs::write(&foreign, FOREIGN).unwrap();
    assert_blocked(node, &agent, Some("foreign")).await;
    fs::remove_file(&foreign).unwrap();
    assert_recovers(node, &agent, &traffic, "another network was there").await;

    let seen = observer.finish();
    assert!(seen.samples > 10, "{seen:?}");
    // A node that is right does not become unready again by itself.
    assert!(seen.outages <= DAMAGES, "{seen:?}");
    traffic.finish(node).await;
    assert_drift_is_logged(&agent);
    (agent, seen)
}

/// Waits until the agent is ready and containerd has our network, and checks that both stay so while a new pod starts,
/// talks to the old ones and is removed.
async fn assert_recovers(node: &mut Node, agent: &Agent, traffic: &Traffic, damage: &str) {
    agent.until_ready().await;
    // What it has not seen yet could take the network away once more.
    node.reloads().await;
    until(damage, async || {
        let loaded = node.loaded().await;
        loaded.is_ours().then_some(()).ok_or(format!("{loaded:?}"))
    })
    .await;
    let new = node.run_pod("new", 18083).await;
    for old in traffic.pods() {
        assert_eq!(node.page_between(old, &new).await, "new\n", "{damage}");
    }
    node.remove_pod(new).await;
    let answer = agent.get("/readyz");
    assert_eq!(answer.body, "ok\n", "{damage}");
    let loaded = node.loaded().await;
    assert!(loaded.is_ours(), "{damage}: {loaded:?}");
}

/// Waits until containerd has `network` in place of ours, or none; the agent is not ready meanwhile and names the file.
async fn assert_blocked(node: &Node, agent: &Agent, network: Option<&str>) {
    until("containerd to load the foreign file", async || {
        let loaded = node.loaded().await;
        // It lets go of a network a moment before it says why.
        let is_reported = (loaded.last == "OK") == network.is_some();
        let is_there = loaded.network.as_deref() == network && is_reported;
        is_there.then_some(()).ok_or(format!("{loaded:?}"))
    })
    .await;
    let answer = agent.get("/readyz");
    assert_eq!(answer.status, 503);
    let names_it = |line: &str| line.starts_with("precedence: ") && line.contains("05-foreign");
    assert!(answer.body.lines().any(names_it), "{}", answer.body);
}

/// Checks that every damage is in the drift log, and is over.
fn assert_drift_is_logged(agent: &Agent) {
    let entries = agent.drift();
    for (kind, file) in [
        ("missing", bin("bridge")),
        ("content", bin("host-local")),
        ("missing", conf(CONFLIST)),
        ("content", conf(CONFLIST)),
        ("missing", bin("loopback")),
        ("runtime-blocked", conf("05-foreign.conflist")),
        ("shadowed", conf("05-foreign.conflist")),
    ] {
        let path = file.to_str().unwrap();
        assert!(
            entries
                .iter()
                .any(|entry| entry["kind"] == kind && entry["path"] == path),
            "{kind} {path}: {entries:#?}"
        );
    }
}

/// Stops the agent, checks that its files stay, and uninstalls them.
async fn stop_and_uninstall(node: &mut Node, agent: Agent) {
    agent.stop().await;
    node.run_command("verify");
    assert!(node.loaded().await.is_ours());
    node.run_command("uninstall");
    node.until_network_ready(false).await;
}

fn bin(name: &str) -> PathBuf {
    Path::new(BIN_DIR).join(name)
}

fn conf(name: &str) -> PathBuf {
    Path::new(CONF_DIR).join(name)
}

/// Zeroes over the middle of a file, in place and without a change of its size.
fn corrupt(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0);
    fs::write(file, bytes).unwrap();
}

fn empty(dir: &str) {
    for name in names_in(Path::new(dir)) {
        fs::remove_file(Path::new(dir).join(name)).unwrap();
    }
}

/// Removes a directory again and again, because the agent puts files back meanwhile.
fn remove_dir(dir: &str) {
    let inode = || fs::metadata(dir).map(|seen| seen.ino()).ok();
    let old = inode();
    while inode() == old {
        let _ = fs::remove_dir_all(dir);
    }
}

/// The agent may have been faster.
fn create_dir(dir: &str) {
    if let Err(error) = fs::create_dir(dir) {
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{dir}: {error}");
    }
}
