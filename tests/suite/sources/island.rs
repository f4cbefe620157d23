//! Bundles and seeds: everything that a configuration needs in a directory, and a node that has nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use sha2::{Digest as _, Sha512};

use cni_keeper::model::{Arch, Sha256};

use crate::support::agent::Agent;
use crate::support::archive::{Tar, binary};
use crate::support::image_parts::{ImageParts, digest, layer_of};
use crate::support::images::{Images, manifest};
use crate::support::namespace::{in_private_mounts, mount_tmpfs, unmount};
use crate::support::node::{BIN, CONFLIST, Node, Outcome, behind, start};
use crate::support::registry::REPOSITORY;
use crate::support::release::{NETWORK, PLUGINS, arch, plugin};
use crate::support::server::{Reply, Server};

/// Another architecture than this machine's.
fn other() -> Arch {
    match arch() {
        Arch::Arm64 => Arch::Amd64,
        _ => Arch::Arm64,
    }
}

fn build(of: Arch) -> impl Fn(&str) -> Vec<u8> {
    move |name| match of == arch() {
        true => plugin(name),
        false => binary(of, 4096 + name.len()),
    }
}

/// An archive, a plugin of its own and an image, each for two architectures, and a node for which they are declared.
struct Site {
    server: Server,
    node: Node,
    archives: Vec<(String, Vec<u8>)>,
}

impl Site {
    fn new() -> Self {
        let server = Server::http();
        let node = Node::empty();
        let mut parts = ImageParts::default();
        let mut archives = Vec::new();
        let (mut archive_pins, mut raw_pins) = (String::new(), String::new());
        let mut manifests = Vec::new();
        for of in [arch(), other()] {
            let content = build(of);
            let archive = Tar::like_upstream().file("./loopback", &content("loopback"));
            let (archive, raw) = (archive.gz(), content("bridge"));
            archive_pins += &format!("{of}: {}, ", Sha256::of(&archive));
            raw_pins += &format!("{of}: {}, ", hex(&Sha512::digest(&raw)));
            archives.push((format!("/loopback-{of}.tgz"), archive));
            archives.push((format!("/bridge-{of}"), raw));
            let layer = parts.layer("+gzip", layer_of(&["host-local"], content).gz());
            manifests.push((of, parts.manifest(&[layer])));
        }
        let listed: Vec<_> = manifests.iter().map(|(of, it)| (*of, it)).collect();
        let index = parts.index(&listed);
        parts.serve(&server);
        for (path, bytes) in &archives {
            server.on(path, [Reply::ok(bytes)]);
        }
        let address = server.address();
        node.declare_text(&format!(
            "artifacts:
  - name: loopback
    version: v1
    sources: [\"{}\"]
    sha256: {{{archive_pins}}}
    plugins: [loopback]
  - name: bridge
    version: v1
    sources: [\"{}\"]
    sha512: {{{raw_pins}}}
    format: raw
    plugins: [{{as: bridge}}]
  - name: host-local
    version: v1
    sources: [\"oci://{address}/{REPOSITORY}@{}\"]
    plugins: [{{member: /opt/cni/bin/host-local, as: host-local}}]
fetch:
  attempts: 1
  access: [{{prefix: \"oci://{address}\", plainHttp: true}}]
{NETWORK}",
            server.url("/loopback-{arch}.tgz"),
            server.url("/bridge-{arch}"),
            digest(&index),
        ));
        Self {
            server,
            node,
            archives,
        }
    }

    fn bundle(&self) -> PathBuf {
        self.node.config().with_file_name("bundle")
    }

    fn command(&self) -> Command {
        let arguments = format!(
            "bundle -o {} --arch {},{}",
            self.bundle().display(),
            arch(),
            other()
        );
        self.node.command(&arguments)
    }

    fn gather(&self) -> Outcome {
        start(&mut self.command()).end()
    }

    /// `install --offline` with the bundle as its seed, where there is no network interface at all.
    fn install_on_an_island(&self) -> Outcome {
        let seed = self.bundle();
        let command = self
            .node
            .command(&format!("install --offline --seed {}", seed.display()));
        let mut wrapper = Command::new("unshare");
        wrapper.args(["--net", "--"]);
        start(&mut behind(wrapper, &command)).end()
    }

    /// Where the bundle has the archive for this machine.
    fn archive(&self) -> PathBuf {
        let digest = Sha256::of(&self.archives[0].1);
        self.bundle().join(format!("blobs/sha256/{digest}"))
    }

    fn has_plugins(&self) {
        for name in PLUGINS {
            assert!(self.node.read(&format!("{BIN}/{name}")) == plugin(name));
        }
        assert!(self.node.has(CONFLIST));
    }
}

fn hex(bytes: &[u8]) -> String {
    format!("{:x}", base16ct::HexDisplay(bytes))
}

/// Every file below a directory, relative to it.
fn files(directory: &Path) -> BTreeSet<String> {
    fn walk(at: &Path, root: &Path, into: &mut BTreeSet<String>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, root, into),
                false => {
                    into.insert(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
    }
    let mut all = BTreeSet::new();
    walk(directory, directory, &mut all);
    all
}

/// Fails unless every blob has the digest that is its name, and nothing else is there but the manifest.
#[track_caller]
fn is_whole(bundle: &Path) {
    for file in files(bundle) {
        let bytes = fs::read(bundle.join(&file)).unwrap();
        let actual = match file.split('/').collect::<Vec<_>>()[..] {
            ["blobs", "sha256", _] => Sha256::of(&bytes).to_string(),
            ["blobs", "sha512", _] => hex(&Sha512::digest(&bytes)),
            _ => {
                assert!(["bundle.json", ".lock"].contains(&&*file), "{file}");
                continue;
            }
        };
        assert!(file.ends_with(&actual), "{file} is {actual}");
    }
}

fn can_unshare() -> bool {
    let output = Command::new("unshare")
        .args(["--net", "--", "true"])
        .output();
    let can = output.is_ok_and(|output| output.status.success());
    if !can {
        crate::support::skipped("a network namespace needs root and unshare(1)");
    }
    can
}

/// A bundle for two architectures installs without a network interface, and a second run asks nobody. A file that was
/// damaged on the way is never used, and the next run repairs it.
#[test]
fn a_bundle_is_all_that_an_island_needs() {
    if !can_unshare() {
        return;
    }
    let site = Site::new();
    site.gather()
        .exits(0)
        .says("install --offline --seed")
        .says("loopback v1")
        .does_not_say("does not hold this one");
    let bundle = site.bundle();
    is_whole(&bundle);
    let text = fs::read_to_string(bundle.join("bundle.json")).unwrap();
    let reported: serde_json::Value = serde_json::from_str(&text).unwrap();
    let artifacts = reported["artifacts"].as_array().unwrap();
    let what: Vec<(&str, &str)> = artifacts
        .iter()
        .map(|it| {
            (
                it["artifact"].as_str().unwrap(),
                it["arch"].as_str().unwrap(),
            )
        })
        .collect();
    let names = ["loopback", "bridge", "host-local"];
    let expected: Vec<(&str, &str)> = [arch(), other()]
        .iter()
        .flat_map(|of| names.map(|name| (name, of.as_str())))
        .collect();
    assert_eq!(what, expected);
    let listed: BTreeSet<String> = artifacts
        .iter()
        .flat_map(|it| it["files"].as_array().unwrap())
        .map(|file| file.as_str().unwrap().to_owned())
        .chain(["bundle.json", ".lock"].map(str::to_owned))
        .collect();
    assert_eq!(
        listed,
        files(&bundle),
        "it lists what is there, and all of it"
    );
    assert_eq!(artifacts[1]["plugins"][0], "bridge");

    let asked = site.server.requests().len();
    let mut command = site.command();
    let again = start(command.args(["--output", "json"])).end();
    assert_eq!(
        again.exits(0).json()["artifacts"][5]["artifact"],
        "host-local"
    );
    assert_eq!(site.server.requests().len(), asked, "all is there already");
    let again = fs::read_to_string(bundle.join("bundle.json")).unwrap();
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!(
        again["artifacts"][0]["files"],
        reported["artifacts"][0]["files"]
    );

    let archive = site.archive();
    let mut bytes = fs::read(&archive).unwrap();
    bytes[20] ^= 1;
    fs::write(&archive, bytes).unwrap();
    site.install_on_an_island()
        .exits(2)
        .says(&format!("seed {}: its", bundle.display()))
        .says("bytes are not the pinned ones");
    assert!(!site.node.has(CONFLIST));
    site.gather().exits(0);
    assert_eq!(site.server.requests().len(), asked + 1, "only that one");
    is_whole(&bundle);

    site.install_on_an_island().exits(0).says("done: 4 files");
    site.has_plugins();
}

/// With a seed, even a fresh node needs no network. A damaged file of a seed is reported, and the source is asked
/// instead.
#[test]
fn an_agent_with_a_seed_becomes_ready_without_its_sources() {
    let site = Site::new();
    site.gather().exits(0);
    fs::write(site.archive(), b"damaged").unwrap();
    let asked = site.server.requests().len();
    site.node
        .declare_more(&format!("seeds: [{:?}]\n", site.bundle()));
    let agent = Agent::ready(&site.node);
    site.has_plugins();
    let requests = site.server.requests();
    let paths: Vec<&str> = requests[asked..].iter().map(|r| r.path.as_str()).collect();
    assert_eq!(paths, [format!("/loopback-{}.tgz", arch())]);
    let status = agent.json("/status");
    let download = |name: &str| {
        let all = status["downloads"].as_array().unwrap();
        all.iter()
            .find(|it| it["artifact"] == name)
            .unwrap()
            .clone()
    };
    let seed = format!("seed {}", site.bundle().display());
    assert_eq!(download("loopback")["failures"][0]["source"], seed);
    assert_eq!(download("loopback")["failures"][0]["reason"], "digest");
    assert_eq!(download("bridge")["from"], seed);
    assert_eq!(download("host-local")["from"], seed);
    agent.stop();

    site.gather().exits(0);
    let Site { server, node, .. } = site;
    drop(server);
    let fresh = Node::empty();
    fs::copy(node.config(), fresh.config()).unwrap();
    let agent = Agent::ready(&fresh);
    let status = agent.json("/status");
    for download in status["downloads"].as_array().unwrap() {
        assert_eq!(download["from"], seed);
    }
}

/// Killed while it writes, a bundle has whole files only, and the next run goes on from there.
#[test]
fn a_killed_bundle_holds_nothing_half_and_is_completed() {
    let site = Site::new();
    let (path, bytes) = &site.archives[1];
    let half = Reply::silent_after(bytes, bytes.len() / 2);
    site.server.on(path, [half, Reply::ok(bytes)]);
    let running = start(&mut site.command());
    site.server.wait_for(path);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.end().code, None);
    is_whole(&site.bundle());
    let first = site.archives[0].0.clone();
    site.gather().exits(0);
    is_whole(&site.bundle());
    assert_eq!(site.server.count(&first), 1, "the first was there already");
}

/// Fault 9: no room for a download or its copy is reported in one line. The files in the bundle are complete, and with
/// more room the next run completes the bundle.
#[test]
fn fault_09_a_bundle_on_a_full_disk() {
    in_private_mounts(&fault_09_a_bundle_on_a_full_disk, |_| {
        let site = Site::new();
        fs::create_dir(site.bundle()).unwrap();
        let shown = site.bundle().display().to_string();
        for size in ["size=1m", "size=2m"] {
            mount_tmpfs(&site.bundle(), size);
            let outcome = site.gather();
            outcome.exits(2).says("No space left on device");
            assert_eq!(outcome.errors().len(), 1, "{outcome}");
            assert!(outcome.errors()[0].contains(&shown), "{outcome}");
            is_whole(&site.bundle());
            unmount(&site.bundle());
        }
        mount_tmpfs(&site.bundle(), "size=2m");
        site.gather().exits(2);
        let more = ["-o", "remount,size=64m", &shown];
        let remounted = Command::new("mount").args(more).status().unwrap();
        assert!(remounted.success());
        site.gather().exits(0);
        is_whole(&site.bundle());
    });
}

/// Useless seeds are skipped and reported: one that is absent, one that is a file, and one in which another file has
/// the blob's name.
#[test]
fn useless_seeds_are_passed_over() {
    let site = Site::new();
    let base = site.bundle();
    let (absent, file, odd) = (
        base.with_extension("absent"),
        base.with_extension("file"),
        base.with_extension("odd"),
    );
    fs::write(&file, "no directory").unwrap();
    let digest = Sha256::of(&site.archives[0].1);
    fs::create_dir_all(odd.join(format!("blobs/sha256/{digest}"))).unwrap();
    let seeds = format!("seeds: [{absent:?}, {file:?}, {odd:?}]\n");
    site.node.declare_more(&seeds);
    let alone = site.node.run("install --offline");
    alone.exits(2);
    for seed in [&absent, &file, &odd] {
        alone.says(&format!("seed {}: it ", seed.display()));
    }
    let outcome = site.node.run("install");
    // A seed without the file is no mistake: only the others are reported.
    outcome.exits(0).does_not_say(&absent.display().to_string());
    for seed in [&file, &odd] {
        outcome.says(&format!("seed {}", seed.display()));
    }
    site.has_plugins();
}

/// What `skopeo copy … oci:DIR` leaves is a seed as it is. Its plugins are one file under several names, as Calico's
/// are, and reached by links: each name is known afterwards, without the seed.
#[test]
fn an_image_layout_is_a_seed() {
    let Some(mut images) = Images::new() else {
        return;
    };
    images.layer(|root| {
        let bin = root.join("opt/cni/bin");
        fs::create_dir_all(&bin).unwrap();
        for name in PLUGINS {
            fs::write(bin.join(name), plugin(name)).unwrap();
        }
        fs::hard_link(bin.join("bridge"), bin.join("calico")).unwrap();
        symlink("calico", bin.join("calico-ipam")).unwrap();
        symlink("/opt/cni/bin", root.join("plugins")).unwrap();
    });
    let node = Node::empty();
    let layout = images.repacked("gzip");
    node.declare_text(&format!(
        "artifacts:
  - name: cni
    version: v1
    sources: [\"oci://registry.example/cni@sha256:{}\"]
    plugins:
      - {{member: /opt/cni/bin/calico-ipam, as: calico-ipam}}
      - {{member: /opt/cni/bin/bridge, as: bridge}}
      - {{member: /plugins/calico, as: calico}}
      - {{member: plugins/host-local, as: host-local}}
      - {{member: plugins/loopback, as: loopback}}
{NETWORK}",
        manifest(&layout),
    ));
    let seed = format!("install --offline --seed {}", layout.display());
    let from = format!("from seed {}", layout.display());
    node.run(&seed).exits(0).says(&from);
    let place = |name: &str| node.path(&format!("{BIN}/{name}"));
    node.run("install --offline").exits(0).says("nothing to do");
    for name in ["calico", "calico-ipam", "host-local"] {
        fs::remove_file(place(name)).unwrap();
    }
    node.run("install --offline").exits(0);
    for (name, content) in [("calico", "bridge"), ("calico-ipam", "bridge")]
        .into_iter()
        .chain(PLUGINS.map(|name| (name, name)))
    {
        assert!(fs::read(place(name)).unwrap() == plugin(content), "{name}");
    }
}

/// Of two runs in one directory the second ends: it would remove what the first is writing.
#[test]
fn two_bundles_are_not_gathered_in_one_directory_at_once() {
    let site = Site::new();
    let path = &site.archives[0].0;
    let (held, then) = (Reply::silent(), Reply::ok(&site.archives[0].1));
    site.server.on(path, [held, then]);
    let first = start(&mut site.command());
    site.server.wait_for(path);
    let second = site.gather();
    second.exits(2).says("holds it");
    assert_eq!(site.server.count(path), 1);
    first.signal(Signal::SIGTERM);
    first.end().exits(2);
    site.gather().exits(0);
}

/// If no source has an artifact, only the sources are reported: the bundle is gathered because it does not have it yet.
#[test]
fn a_source_that_fails_is_reported_with_the_architecture() {
    let site = Site::new();
    let path = format!("/bridge-{}", other());
    site.server.on(&path, [Reply::status(404)]);
    let outcome = site.gather();
    outcome.exits(2).does_not_say("does not hold this one");
    let error = format!(
        "{}: cannot fetch bridge: {}",
        other(),
        site.server.url(&path)
    );
    assert!(outcome.errors()[0].starts_with(&error), "{outcome}");
    assert_eq!(outcome.errors().len(), 1, "{outcome}");
    is_whole(&site.bundle());
}

/// Nothing is downloaded for a configuration with a FILL-IN.
#[test]
fn a_bundle_of_a_configuration_with_gaps_is_refused() {
    let site = Site::new();
    site.node
        .declare_more("paths: {binDir: \"FILL-IN: where\"}\n");
    site.gather().exits(64).says("FILL-IN");
    assert!(site.server.requests().is_empty());
    assert!(!site.bundle().exists());
}
