//! A real containerd loads the golden files of the built-in profiles.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::namespace::on_a_private_node;
use crate::node::{CONF_DIR, Node};
use crate::poll::until;

/// The golden files, which the suite holds the profiles against.
fn golden_files() -> Vec<PathBuf> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/profiles");
    let mut files: Vec<PathBuf> = fs::read_dir(fixtures)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "conflist"))
        .collect();
    files.sort();
    files
}

/// containerd loads each, and calls the network by its name. It looks at no plugin for that, so those that are in images
/// only are not missed; from 2.1 on, it asks those of a list that offers CNI 1.1.0 before it says that it is ready.
#[test]
fn containerd_loads_the_conflist_of_every_profile() {
    on_a_private_node(
        containerd_loads_the_conflist_of_every_profile,
        async |node| {
            let files = golden_files();
            assert!(files.len() >= 8, "{files:?}");
            fs::create_dir_all(CONF_DIR).unwrap();
            for file in files {
                loads(node, &file).await;
            }
        },
    );
}

async fn loads(node: &mut Node, golden: &Path) {
    let text = fs::read_to_string(golden).unwrap();
    let conflist: Value = serde_json::from_str(&text).unwrap();
    let network = conflist["name"].as_str().unwrap();
    // As the agent publishes it: what is created under its own name, containerd does not notice.
    let place = Path::new(CONF_DIR).join(golden.file_name().unwrap());
    let aside = place.with_extension("new");
    fs::write(&aside, &text).unwrap();
    fs::rename(&aside, &place).unwrap();
    until(&format!("{} to be loaded", golden.display()), async || {
        let loaded = node.loaded().await;
        let is_it = loaded.network.as_deref() == Some(network);
        let misses_plugin = text.contains("\"1.1.0\"")
            && loaded.condition.message.contains("failed to find plugin");
        if loaded.last == "OK" && is_it && (loaded.condition.status || misses_plugin) {
            Ok(())
        } else {
            Err(format!("{loaded:?}"))
        }
    })
    .await;
    fs::remove_file(&place).unwrap();
    until("it to be let go of", async || {
        let loaded = node.loaded().await;
        if loaded.last == "OK" {
            Err(format!("{loaded:?}"))
        } else {
            Ok(())
        }
    })
    .await;
    node.containerd.assert_running();
}
