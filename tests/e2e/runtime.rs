//! What the container runtime says of itself, asked as the agent asks it.

use std::fs;
use std::path::Path;

use cni_keeper::host::Host;
use cni_keeper::runtime::{
    CriStatus, ExpectedNetwork, compare_loaded_network, query_runtime_status,
};

use crate::containerd::SOCKET;
use crate::namespace::on_a_private_node;
use crate::node::{BIN_DIR, CONF_DIR, CONFLIST, NETWORK};
use crate::poll::until;

async fn ask() -> CriStatus {
    let host = Host::open(Path::new("/")).unwrap();
    match query_runtime_status(&host, Path::new(SOCKET)).await {
        Ok(answer) => answer,
        Err(error) => panic!("{error}"),
    }
}

/// What speaks against the runtime, if what it must have loaded is what is on disk now.
async fn reasons() -> Vec<String> {
    let expected = ExpectedNetwork {
        file: CONFLIST.to_owned(),
        network: NETWORK.to_owned(),
        chain: vec!["bridge".to_owned(), "portmap".to_owned()],
        text: fs::read_to_string(conflist()).unwrap(),
        rival: None,
        conf_dir: CONF_DIR.into(),
        bin_dir: BIN_DIR.into(),
    };
    compare_loaded_network(&ask().await, &expected)
}

fn conflist() -> std::path::PathBuf {
    Path::new(CONF_DIR).join(CONFLIST)
}

/// Waits until one thing speaks against it, in words that hold all `parts`. A moment before containerd tells why it
/// let go of a network, there is none and no reason.
async fn until_only(parts: &[&str]) {
    until("the runtime's own reason", async || {
        let reasons = reasons().await;
        match &reasons[..] {
            [reason] if parts.iter().all(|part| reason.contains(part)) => Ok(()),
            _ => Err(format!("{reasons:#?}")),
        }
    })
    .await;
}

/// The answer is the runtime's own: what it says without a network, with one, and when a foreign file stops it.
#[test]
fn the_runtime_says_what_it_has_loaded() {
    on_a_private_node(the_runtime_says_what_it_has_loaded, async |node| {
        let answer = ask().await;
        assert!(answer.runtime.ready);
        assert!(!answer.network.ready);
        assert!(answer.network.why.contains("cni plugin not initialized"));
        let cni = answer.cni.unwrap();
        assert_eq!(cni.networks, []);
        assert!(cni.failure.unwrap().contains("no network config found"));

        node.declare("v1");
        node.run_command("install");
        node.until_network_ready(true).await;
        assert_eq!(reasons().await, Vec::<String>::new());

        let broken = Path::new(CONF_DIR).join("05-broken.conflist");
        fs::write(&broken, "{").unwrap();
        node.until_network_ready(false).await;
        until_only(&["could not load", "05-broken.conflist", "remove the file"]).await;
        fs::remove_file(&broken).unwrap();
        node.until_network_ready(true).await;
        assert_eq!(reasons().await, Vec::<String>::new());
        node.run_command("uninstall");
    });
}

/// containerd ignores what is moved in from another directory, and goes on with the network that it has; its own
/// NetworkReady does not tell.
#[test]
fn a_runtime_that_missed_a_change_is_reported() {
    on_a_private_node(a_runtime_that_missed_a_change_is_reported, async |node| {
        node.declare("v1");
        node.run_command("install");
        node.until_network_ready(true).await;
        let edited = fs::read_to_string(conflist())
            .unwrap()
            .replace("10.88.", "10.99.");
        fs::write("/etc/cni/edited", edited).unwrap();
        fs::rename("/etc/cni/edited", conflist()).unwrap();
        until_only(&["uses another version of", CONFLIST]).await;
        assert!(node.network().await.status);
        node.run_command("uninstall");
    });
}

/// containerd 1.6 and 1.7 lose their watch with the directory. The disk is right again and nothing happens, until
/// the restart that the reason asks for. From 2.1 on containerd ends instead, and is restarted by its service.
#[test]
fn a_runtime_made_blind_is_reported_until_it_is_restarted() {
    on_a_private_node(
        a_runtime_made_blind_is_reported_until_it_is_restarted,
        async |node| {
            node.declare("v1");
            node.run_command("install");
            node.until_network_ready(true).await;
            fs::remove_dir_all(CONF_DIR).unwrap();
            node.until_network_ready(false).await;
            node.run_command("install");
            node.run_command("verify");
            let blind = [
                "containerd has not loaded",
                CONFLIST,
                "although it is on disk",
                "cni plugin not initialized",
                "restart containerd",
            ];
            until_only(&blind).await;
            // A change that it would see if it saw any.
            fs::write(Path::new(CONF_DIR).join("flag"), []).unwrap();
            node.run_command("verify");
            until_only(&blind).await;

            node.restart_runtime().await;
            node.until_network_ready(true).await;
            assert_eq!(reasons().await, Vec::<String>::new());
            node.run_command("uninstall");
        },
    );
}
