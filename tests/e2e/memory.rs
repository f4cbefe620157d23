//! The memory limit of the manifests, where `/opt` is kept in memory and every byte that the agent writes counts.

use std::fs;
use std::path::Path;

use crate::agent::Agent;
use crate::archive::{DEBIAN_PLUGINS, plugins_tgz, sha256};
use crate::cgroup::MemoryGroup;
use crate::namespace::on_a_private_node;
use crate::node::{BIN_DIR, Node};
use crate::poll::until;

/// `limits.memory` of `manifests/base/daemonset.yaml`, in bytes.
const LIMIT: u64 = 384 << 20;
/// The size of Calico's plugin in bytes.
const PLUGIN_SIZE: usize = 67_000_000;
/// Its two names.
const NAMES: [&str; 2] = ["calico", "calico-ipam"];

/// A plugin of the size of Calico's under its two names: installed, healed and upgraded, and the agent lives.
#[test]
fn a_big_profile_fits_the_limit_of_the_manifests() {
    on_a_private_node(
        a_big_profile_fits_the_limit_of_the_manifests,
        async |node| {
            let manifest = include_str!("../../manifests/base/daemonset.yaml");
            let limit = format!("limits:\n              memory: {}Mi\n", LIMIT >> 20);
            assert!(
                manifest.contains(&limit),
                "the manifests have another limit"
            );
            declare_big(node, "v1");
            let group = MemoryGroup::below(&node.cgroup_parent, LIMIT);
            let agent = Agent::start_limited(node, &group);
            until_in_place(&agent, "v1").await;
            agent.until_ready().await;
            fs::remove_file(Path::new(BIN_DIR).join(NAMES[1])).unwrap();
            until_in_place(&agent, "v1").await;
            declare_big(node, "v2");
            until_in_place(&agent, "v2").await;
            agent.until_ready().await;
        },
    );
}

/// Declares a release of the plugin, without a network.
fn declare_big(node: &Node, version: &str) {
    let dir = node.dir().join("big");
    fs::create_dir_all(&dir).unwrap();
    let mut program = fs::read(Path::new(DEBIAN_PLUGINS).join("bridge")).unwrap();
    // What follows does not compress, so that the archive is as big as the plugin.
    let mut noise = fastrand::Rng::with_seed(1);
    program.resize_with(PLUGIN_SIZE, || noise.u8(..));
    fs::write(dir.join("calico"), &program).unwrap();
    let bytes = plugins_tgz(&dir, &["calico"], version.as_bytes());
    let archive = node.dir().join(format!("calico-{version}.tgz"));
    fs::write(&archive, &bytes).unwrap();
    let arch = cni_keeper::model::Arch::of_this_program().unwrap();
    let plugins = NAMES.map(|name| format!("{{member: calico, as: {name}}}"));
    let config = format!(
        r#"
apiVersion: cni-keeper/v1alpha1
kind: NodeNetwork
artifacts:
  - name: calico
    version: {version}
    sources: ["file://{archive}"]
    sha256: {{{arch}: "{digest}"}}
    plugins: [{plugins}]
"#,
        archive = archive.display(),
        digest = sha256(&bytes),
        plugins = plugins.join(", "),
    );
    let new = node.config().with_extension("new");
    fs::write(&new, config).unwrap();
    fs::rename(new, node.config()).unwrap();
}

/// Waits until both names are there with the content of this version.
async fn until_in_place(agent: &Agent, version: &str) {
    until("both names in place", async || {
        let are_there = NAMES.map(|name| {
            fs::read(Path::new(BIN_DIR).join(name))
                .is_ok_and(|content| content.ends_with(version.as_bytes()))
        });
        match are_there {
            [true, true] => Ok(()),
            _ => Err(format!("{are_there:?}\n{}", agent.log())),
        }
    })
    .await;
}
