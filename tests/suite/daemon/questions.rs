//! What a plugin answers to `VERSION` is asked inside the agent's own limits: once for each content, one plugin at a time,
//! and an answer that cannot be had is nobody's failure.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::agent::Agent;
use crate::support::memory_cgroup::MemoryCgroup;
use crate::support::node::{BIN, CONFLIST, Node};
use crate::support::release::{NETWORK, PLUGINS, Release};
use crate::support::without_asking::IntactNode;

const UNKNOWN: &str = "bridge: which CNI versions it supports is unknown";
const ANSWER: &str = r#"echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}'"#;

/// Plugins that keep a record of every question.
struct Questions {
    node: Node,
    record: PathBuf,
}

impl Questions {
    /// A node with plugins that are scripts. `bridge` does this before it answers.
    fn of(bridge: &str) -> Self {
        let node = Node::empty();
        let record = node.path("record");
        fs::create_dir(&record).unwrap();
        let release = Release::new(&PLUGINS, |name| {
            let more = if name == "bridge" { bridge } else { "" };
            script(&record, name, more)
        });
        let source = node.mirror("p.tgz", &release.bytes);
        node.declare(&release.artifact(&source), NETWORK);
        Self { node, record }
    }

    /// How often a plugin was asked.
    fn count(&self, name: &str) -> usize {
        let asked = fs::read_to_string(self.record.join(name)).unwrap_or_default();
        asked.lines().count()
    }

    fn overlaps(&self) -> bool {
        self.record.join("overlap").exists()
    }
}

/// A plugin that records that it is asked, and whether another one is being asked meanwhile.
fn script(record: &Path, name: &str, more: &str) -> Vec<u8> {
    let record = record.display();
    let text = format!(
        "#!/bin/sh\n# {name}\nRECORD={record}\necho asked >>$RECORD/{name}\n\
         mkdir $RECORD/busy || touch $RECORD/overlap\ntrap 'rmdir $RECORD/busy' EXIT\n{more}\n{ANSWER}\n"
    );
    text.into_bytes()
}

/// Fault 108: whatever keeps a plugin from answering, the conflist is written, and what is not known is told.
#[test]
fn fault_108_an_answer_that_cannot_be_had() {
    let causes = [
        ("kill -KILL $$", "it was killed by SIGKILL"),
        ("kill -TERM $$", "it was killed by SIGTERM"),
        (
            "echo 'fatal error: runtime: cannot allocate memory' >&2; exit 2",
            "it got too little memory",
        ),
        ("sleep 600", "it did not answer VERSION within 5 s"),
    ];
    for (deed, reason) in causes {
        // Another one cleans up: a shell that is killed does not.
        let questions = Questions::of(&format!("rmdir $RECORD/busy\n{deed}"));
        let agent = Agent::start(&questions.node);
        agent.becomes_ready();
        assert!(questions.node.has(CONFLIST), "{deed}");
        let verbose = agent.get("/readyz?verbose").body;
        assert!(verbose.contains(UNKNOWN), "{verbose}");
        assert!(verbose.contains(reason), "{reason}: {verbose}");
        // It is asked again after a pause, whoever asks the agent meanwhile.
        agent.until("asked again", |_| questions.count("bridge") > 1);
        assert_eq!(questions.count("bridge"), 2, "{deed}");
        assert!(questions.node.has(CONFLIST), "{deed}");
        agent.stop();
        assert!(!questions.overlaps());
    }
}

/// The same for `install`, which says what it does not know and does not fail.
#[test]
fn install_does_not_fail_for_an_answer_that_cannot_be_had() {
    let questions = Questions::of("kill -KILL $$");
    questions.node.run("install").exits(0).says(UNKNOWN);
    assert!(questions.node.has(CONFLIST));
    questions.node.run("verify").exits(0).says(UNKNOWN);
}

/// As soon as the cause is gone, the answer is known, and then it stays.
#[test]
fn an_answer_that_can_be_had_after_all() {
    let questions =
        Questions::of("[ -e $RECORD/enough ] || { rmdir $RECORD/busy; kill -KILL $$; }");
    let agent = Agent::ready(&questions.node);
    fs::write(questions.record.join("enough"), "").unwrap();
    agent.until("known", |agent| {
        !agent.get("/readyz?verbose").body.contains(UNKNOWN)
    });
    let asked = questions.count("bridge");
    for _ in 0..50 {
        assert!(agent.is_ready());
    }
    assert_eq!(questions.count("bridge"), asked);
    agent.stop();
}

/// Each content is asked once and one at a time, whatever happens to the files: repairs, other modes and times, links, the
/// same content again, full readings, another configuration.
#[test]
fn each_content_is_asked_once_and_one_at_a_time() {
    let questions = Questions::of("");
    let node = &questions.node;
    node.declare_more("drift: {resync: 1s}\n");
    // A plugin that is not ours, which a link leads to, in a file that CRI-O reads before ours.
    node.write(
        "usr/lib/other",
        &script(&questions.record, "other", ""),
        0o755,
    );
    fs::create_dir_all(node.path(BIN)).unwrap();
    std::os::unix::fs::symlink("/usr/lib/other", node.path("opt/cni/bin/other")).unwrap();
    node.write(
        "opt/cni/bin/more",
        &script(&questions.record, "more", ""),
        0o755,
    );
    let foreign =
        r#"{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"other"},{"type":"more"}]}"#;
    node.write("etc/cni/net.d/05-other.conflist", foreign.as_bytes(), 0o644);
    let agent = Agent::start(node);
    agent.becomes_unready("precedence");
    fs::remove_file(node.path("etc/cni/net.d/05-other.conflist")).unwrap();
    agent.becomes_ready();
    node.write("etc/cni/net.d/05-other.conflist", foreign.as_bytes(), 0o644);
    agent.becomes_unready("precedence");
    let right = IntactNode::of(node);
    for _ in 0..3 {
        for name in PLUGINS {
            fs::remove_file(node.path(&format!("{BIN}/{name}"))).unwrap();
            agent.until_without_asking("repaired", || right.is_intact());
        }
        // The same content in another file.
        let more = node.read("opt/cni/bin/more");
        fs::remove_file(node.path("opt/cni/bin/more")).unwrap();
        node.write("opt/cni/bin/more", &more, 0o700);
        let before = agent.json("/status")["passes"].as_u64().unwrap();
        agent.until("two passes", |agent| agent.passes() > before + 2);
    }
    let text = fs::read_to_string(node.config()).unwrap();
    node.redeclare(&text.replace("resync: 1s", "resync: 2s"));
    agent.until("the new configuration", |agent| {
        agent.log().contains("the configuration has changed")
    });
    let full = |agent: &Agent| agent.json("/status")["verified"].clone();
    let before = full(&agent);
    assert!(before.is_string(), "{before}");
    agent.until("a full reading", |agent| full(agent) != before);
    agent.becomes_unready("precedence");
    for name in ["bridge", "host-local", "loopback", "other", "more"] {
        assert_eq!(questions.count(name), 1, "{name}\n{}", agent.log());
    }
    assert!(!questions.overlaps());
    agent.stop();
}

/// Fault 108: a plugin that takes all the memory that there is takes nobody with it.
#[test]
fn fault_108_a_plugin_that_eats_the_memory() {
    let Some(group) = MemoryCgroup::new(96 << 20) else {
        return;
    };
    let questions = Questions::of("rmdir $RECORD/busy; exec tail /dev/zero");
    let node = &questions.node;
    node.listen_anywhere();
    let agent = Agent::spawn(&mut group.contain(&node.command("run")));
    agent.becomes_ready();
    assert!(node.has(CONFLIST));
    let verbose = agent.get("/readyz?verbose").body;
    assert!(verbose.contains(UNKNOWN), "{verbose}");
    assert!(verbose.contains("raise the limit"), "{verbose}");
    agent.until("asked again", |_| questions.count("bridge") > 1);
    agent.becomes_ready();
    agent.stop();
}
