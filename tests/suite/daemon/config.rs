//! The configuration changes while the agent runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::support::agent::Agent;
use crate::support::node::{BIN, CONFLIST, Node, start};
use crate::support::release::{NETWORK, NEXT_RELEASE, PLUGINS, RELEASE, other_build, plugin};
use crate::support::server::{Reply, Server};
use crate::support::without_asking::IntactNode;

const BRIDGE: &str = "opt/cni/bin/bridge";
const LISTEN: &str = "http: {listen: \"127.0.0.1:0\"}\n";

/// Fault 55: a configuration with a mistake changes nothing but the `config` check, which names file, line, key and
/// reason; the last good one stays in force, drift is repaired by it, and the mistake repaired, all is well.
#[test]
fn fault_55_a_mistake() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    let good = fs::read_to_string(node.config()).unwrap();
    let config = node.config().display().to_string();
    let line =
        |text: &str, key: &str| 1 + text.lines().position(|line| line.contains(key)).unwrap();
    let wrong = [
        // An unknown key.
        (format!("{good}drfit: {{}}\n"), "drfit"),
        // A value that does not exist.
        (format!("{good}drift: {{resync: soon}}\n"), "resync"),
        // A conflist that no runtime would take.
        (
            good.replace("name: pod-network", "name: -pods-"),
            "name: -pods-",
        ),
    ];
    for (text, key) in wrong {
        node.redeclare(&text);
        agent.becomes_unready("config: ");
        let reported = agent.get("/readyz").body;
        assert!(
            reported.contains(key.split(':').next().unwrap()),
            "{reported}"
        );
        let is_of_network = key.starts_with("name");
        let place = format!("config: {config}:{}", line(&text, key));
        assert!(
            is_of_network || reported.starts_with(&place),
            "{place}\n{reported}"
        );
        assert_eq!(
            reported.lines().count(),
            1,
            "nothing else is wrong: {reported}"
        );
        // The last good configuration is in force.
        for file in [CONFLIST, BRIDGE] {
            fs::remove_file(node.path(file)).unwrap();
            agent.until_without_asking("repaired", || right.is_intact());
        }
        assert!(!agent.is_ready());
        assert_eq!(agent.get("/livez").status, 200);
        node.redeclare(&good);
        agent.becomes_ready();
    }
    agent.stop();
}

/// Fault 55: a file that is not text, no file, a directory in its place.
#[test]
fn fault_55_no_configuration() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    let good = fs::read_to_string(node.config()).unwrap();
    let config = node.config();
    let ways: [(&dyn Fn(), &str); 3] = [
        (&|| fs::remove_file(&config).unwrap(), "No such file"),
        (&|| fs::write(&config, [0xff, 0xfe]).unwrap(), "UTF-8"),
        (
            &|| {
                fs::remove_file(&config).unwrap();
                fs::create_dir(&config).unwrap();
            },
            "a directory",
        ),
    ];
    for (damage, reason) in ways {
        damage();
        agent.becomes_unready("config: ");
        agent.until(reason, |agent| {
            let reported = agent.get("/readyz").body;
            reported.contains(&config.display().to_string()) && reported.contains(reason)
        });
        fs::remove_file(node.path(CONFLIST)).unwrap();
        agent.until_without_asking("repaired", || right.is_intact());
        let _ = fs::remove_dir(&config);
        fs::write(&config, &good).unwrap();
        agent.becomes_ready();
    }
    agent.stop();
}

/// Fault 55: the file cannot be read for a while. The agent notices by itself when it can be read again.
#[test]
fn fault_55_a_configuration_that_cannot_be_read_for_a_while() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let hidden = node.config().with_extension("away");
    let dir = node.config();
    // The directory that the link leads to is not watched, so no event comes when the file is back.
    let elsewhere = node.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::rename(&dir, &hidden).unwrap();
    symlink(elsewhere.join("config.yaml"), &dir).unwrap();
    agent.becomes_unready("config: ");
    fs::copy(&hidden, elsewhere.join("config.yaml")).unwrap();
    agent.until_without_asking("read again", || {
        agent.log().contains("is valid again and has not changed")
    });
    agent.becomes_ready();
    agent.stop();
}

/// A ConfigMap as the kubelet mounts it: `config.yaml` leads through `..data`, which is replaced as a whole.
struct ConfigMap {
    dir: PathBuf,
    versions: u32,
}

impl ConfigMap {
    fn at(dir: &Path, text: &str) -> Self {
        fs::create_dir(dir).unwrap();
        let mut map = Self {
            dir: dir.to_owned(),
            versions: 0,
        };
        map.set(text);
        symlink("..data/config.yaml", map.file()).unwrap();
        map
    }

    fn file(&self) -> PathBuf {
        self.dir.join("config.yaml")
    }

    fn set(&mut self, text: &str) {
        let former = self.dir.join(format!("..version-{}", self.versions));
        self.versions += 1;
        let name = format!("..version-{}", self.versions);
        fs::create_dir(self.dir.join(&name)).unwrap();
        fs::write(self.dir.join(&name).join("config.yaml"), text).unwrap();
        symlink(&name, self.dir.join("..data_tmp")).unwrap();
        fs::rename(self.dir.join("..data_tmp"), self.dir.join("..data")).unwrap();
        let _ = fs::remove_dir_all(former);
    }
}

/// Fault 56: each swap of a ConfigMap's `..data` is seen by itself: another release, another file name, another policy,
/// another resync, a mistake, and the way back.
#[test]
fn fault_56_a_config_map() {
    let node = Node::empty();
    let head = "apiVersion: cni-keeper/v1alpha1\nkind: NodeNetwork\n";
    let first = RELEASE.artifact(&node.mirror("plugins.tgz", &RELEASE.bytes));
    let next = NEXT_RELEASE.artifact(&node.mirror("next.tgz", &NEXT_RELEASE.bytes));
    let text = |artifact: &dyn std::fmt::Display, network: &str, more: &str| {
        format!("{head}{artifact}{network}{LISTEN}{more}")
    };
    let mut map = ConfigMap::at(&node.path("config"), &text(&first, NETWORK, ""));
    let agent = Agent::spawn(node.command("run").env("CNI_KEEPER_CONFIG", map.file()));
    agent.becomes_ready();
    assert_eq!(node.read(BRIDGE), plugin("bridge"));

    // The next release is placed without a request, and none of it is drift.
    map.set(&text(&next, NETWORK, ""));
    let is_next = |name: &str| {
        let placed = fs::read(node.path(&format!("{BIN}/{name}")));
        placed.is_ok_and(|placed| placed == other_build(name))
    };
    agent.until_without_asking("upgraded", || PLUGINS.iter().all(|name| is_next(name)));
    agent.becomes_ready();
    assert_eq!(agent.drift().len(), 0, "{:?}", agent.drift());

    // Another file name: the new file is written, the former one is removed.
    let renamed = NETWORK.replace("10-pods", "20-pods");
    map.set(&text(&next, &renamed, ""));
    agent.until_without_asking("renamed", || {
        node.has("etc/cni/net.d/20-pods.conflist") && !node.has(CONFLIST)
    });
    agent.becomes_ready();
    map.set(&text(&next, NETWORK, ""));
    agent.until_without_asking("named back", || node.has(CONFLIST));
    agent.becomes_ready();

    // Policy and resync.
    map.set(&text(
        &next,
        NETWORK,
        "drift: {policy: report, resync: 7m}\n",
    ));
    agent.until("in force", |agent| {
        let declared = &agent.json("/status")["declared"];
        declared["policy"] == "report" && declared["resyncSeconds"] == 420
    });
    fs::remove_file(node.path(BRIDGE)).unwrap();
    agent.becomes_unready("bridge is missing");
    assert!(!node.has(BRIDGE));
    // It does not even hold the lock.
    let mut verify = node.command("verify");
    start(verify.env("CNI_KEEPER_CONFIG", map.file()))
        .end()
        .exits(1);

    // A mistake: the policy stays.
    map.set(&text(&next, NETWORK, "drift: {policy: fix}\n"));
    agent.becomes_unready("config: ");
    assert!(!agent.is_ready() && !node.has(BRIDGE));

    map.set(&text(&next, NETWORK, ""));
    agent.until_without_asking("repaired", || is_next("bridge"));
    agent.becomes_ready();
    agent.stop();
}

/// The configuration changes in the middle of a download: the download is dropped, and what is declared now is fetched.
#[test]
fn a_change_in_the_middle_of_a_download() {
    let server = Server::http();
    server.on(
        "/slow.tgz",
        [Reply::silent_after(&RELEASE.bytes, RELEASE.bytes.len() / 2)],
    );
    server.on("/next.tgz", [Reply::ok(&NEXT_RELEASE.bytes)]);
    let node = Node::empty();
    node.declare(
        &RELEASE.artifact(&server.url("/slow.tgz")),
        &format!("{NETWORK}{LISTEN}"),
    );
    let agent = Agent::start(&node);
    server.wait_for("/slow.tgz");
    agent.becomes_unready("binaries: ");
    node.declare(
        &NEXT_RELEASE.artifact(&server.url("/next.tgz")),
        &format!("{NETWORK}{LISTEN}"),
    );
    agent.until_without_asking("placed", || node.has(CONFLIST));
    agent.becomes_ready();
    assert_eq!(node.read(BRIDGE), other_build("bridge"));
    agent.stop();
}

/// A change that takes effect only at the next start is reported, and the node stays ready.
#[test]
fn another_address_waits_for_the_next_start() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let text = fs::read_to_string(node.config()).unwrap();
    node.redeclare(&text.replace("127.0.0.1:0", "127.0.0.1:9"));
    agent.until("reported", |agent| {
        let verbose = agent.get("/readyz?verbose").body;
        verbose.contains(
            "[+]config ok: http has changed, which takes effect when the agent is started again",
        )
    });
    assert!(agent.is_ready());
    node.redeclare(&text);
    agent.until("over", |agent| {
        agent.get("/readyz?verbose").body.contains("[+]config ok\n")
    });
    agent.stop();
}
