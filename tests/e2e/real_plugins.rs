//! The profile cilium with Cilium's own plugin, as `scripts/peers` builds it.

use std::env;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::archive::{DEBIAN_PLUGINS, plugins_tgz, sha256};
use crate::namespace::{Needs, on_a_node_with};
use crate::node::{CONF_DIR, Node};

/// What cilium-agent listens on, and the conflist waits for.
const SOCKET: &str = "/run/cilium/cilium.sock";

/// Cilium's plugin is placed, asked for its versions and named in the conflist once the socket of its agent is there. The
/// runtime then calls it for each pod. Without a cilium-agent it refuses, in its own words.
#[test]
fn the_cilium_profile_runs_cilium_s_own_plugin() {
    let needs = Needs {
        peers: &[("cilium-cni", "cilium-cni")],
        ..Needs::default()
    };
    on_a_node_with(
        the_cilium_profile_runs_cilium_s_own_plugin,
        &needs,
        async |node| {
            declare_cilium(node);
            let conflist = Path::new(CONF_DIR).join("05-cilium.conflist");
            let waiting = install(node);
            assert!(waiting.contains(SOCKET), "{waiting}");
            assert!(!conflist.exists());

            fs::create_dir_all(Path::new(SOCKET).parent().unwrap()).unwrap();
            let agent = UnixListener::bind(SOCKET).unwrap();
            node.run_command("install");
            node.run_command("verify");
            let text: Value = serde_json::from_slice(&fs::read(&conflist).unwrap()).unwrap();
            assert_eq!(text["plugins"][0]["type"], "cilium-cni");
            node.until_network_ready(true).await;
            // The plugin would wait long for an answer.
            drop(agent);
            let refused = node.try_pod("refused", 18083).await;
            let words = refused.err().expect("no cilium-agent is there");
            assert!(words.contains(r#"type="cilium-cni""#), "{words}");
            node.remove_failed_pods(&[]).await;
        },
    );
}

/// Declares the profile with what is here: Debian's `loopback`, and the plugin that was built.
fn declare_cilium(node: &Node) {
    let arch = cni_keeper::model::Arch::of_this_program().unwrap();
    let archive = node.dir().join("loopback.tgz");
    let packed = plugins_tgz(Path::new(DEBIAN_PLUGINS), &["loopback"], b"");
    fs::write(&archive, &packed).unwrap();
    let plugin = find_program("cilium-cni");
    let config = format!(
        r#"
apiVersion: cni-keeper/v1alpha1
kind: NodeNetwork
profile: cilium
artifacts:
  - name: cni-plugins
    version: v1
    sources: ["file://{archive}"]
    sha256: {{{arch}: "{packed}"}}
  - name: cilium
    version: v1.20.2
    sources: ["file://{plugin}"]
    format: raw
    sha256: {{{arch}: "{digest}"}}
    plugins: [cilium-cni]
"#,
        archive = archive.display(),
        packed = sha256(&packed),
        plugin = plugin.display(),
        digest = sha256(&fs::read(&plugin).unwrap()),
    );
    fs::write(node.config(), config).unwrap();
}

/// Where on the path a program is.
fn find_program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap();
    let mut dirs = env::split_paths(&path).map(|dir| dir.join(name));
    dirs.find(|file| file.exists()).unwrap()
}

/// Runs `install`, which must find something missing, and returns what it says.
fn install(node: &Node) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cni-keeper"))
        .arg("--config")
        .arg(node.config())
        .arg("install")
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}
