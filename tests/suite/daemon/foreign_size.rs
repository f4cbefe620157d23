//! Large and many files of others: what they cost has a limit, and the agent goes on answering.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::agent::Agent;
use crate::support::node::{CONF, CONFLIST, Node};

/// How much more memory foreign files may take than the agent takes without them, in KiB. The largest file that is read
/// has 2 MiB.
const MORE_MEMORY: u64 = 16 << 10;
/// How large an answer or the log may become.
const LARGEST_TEXT: usize = 1 << 20;

/// The most memory that a process had, in KiB.
fn peak_memory(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

fn many(text: &str) -> String {
    text.repeat((1900 << 10) / text.len())
}

/// The contents of files of 1.9 MB, each with something else that is large.
fn large_contents() -> Vec<(&'static str, String)> {
    let long = "n".repeat(1900 << 10);
    let list = |members: &str| format!(r#"{{"cniVersion":"1.0.0",{members}}}"#);
    vec![
        (
            "junk",
            list(&format!(
                r#""name":"n","x":[{}1],"plugins":[{{"type":"bridge"}}]"#,
                many(r#"{"":0},"#)
            )),
        ),
        (
            "name",
            list(&format!(
                r#""name":"{long}","plugins":[{{"type":"bridge"}}]"#
            )),
        ),
        (
            "type",
            list(&format!(r#""name":"n","plugins":[{{"type":"{long}"}}]"#)),
        ),
        (
            "plugins",
            list(&format!(
                r#""name":"n","plugins":[{}{{"type":"bridge"}}]"#,
                many(r#"{"type":"bridge"},"#)
            )),
        ),
        (
            "version",
            format!(r#"{{"cniVersion":"{long}","name":"n","plugins":[{{"type":"bridge"}}]}}"#),
        ),
        (
            "key",
            list(&format!(
                r#""name":"n","plugins":[{{"type":"bridge","capabilities":{{"{long}":1}}}}]"#
            )),
        ),
    ]
}

/// Asks for `/livez` all the time until `done`, and returns the longest time that an answer took.
fn slowest_answer(agent: &Agent, done: &AtomicBool) -> Duration {
    let mut slowest = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let began = Instant::now();
        assert_eq!(agent.get("/livez").status, 200);
        slowest = slowest.max(began.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    slowest
}

/// Forty files of each kind, before and behind ours. They are judged as a runtime judges them, and cost little.
#[test]
fn large_files_of_others_cost_little() {
    let baseline = {
        let node = Node::installed();
        let agent = Agent::ready(&node);
        let peak = peak_memory(&agent);
        agent.stop();
        peak
    };
    for (what, content) in large_contents() {
        for before_ours in [false, true] {
            let node = Node::installed();
            let first = if before_ours { "05" } else { "50" };
            for number in 0..40 {
                node.write(
                    &format!("{CONF}/{first}-{number}.conflist"),
                    content.as_bytes(),
                    0o644,
                );
            }
            let agent = Agent::start(&node);
            let done = AtomicBool::new(false);
            let slowest = thread::scope(|scope| {
                let asking = scope.spawn(|| slowest_answer(&agent, &done));
                for round in 0..3 {
                    // A pass that reads one of them again.
                    node.write(
                        &format!("{CONF}/{first}-{round}.conflist"),
                        format!("{content} ").as_bytes(),
                        0o644,
                    );
                    match before_ours {
                        true => agent.becomes_unready(&format!("{first}-0.conflist sorts before")),
                        false => agent.becomes_ready(),
                    }
                }
                done.store(true, Ordering::Relaxed);
                asking.join().unwrap()
            });
            let peak = peak_memory(&agent);
            println!(
                "{what}, before ours: {before_ours}: {peak} KiB after {baseline}, /livez {slowest:?}"
            );
            assert!(
                peak < baseline + MORE_MEMORY,
                "{what}: {peak} KiB after {baseline}"
            );
            // With other programs on the same processors an answer may wait, but not for seconds.
            assert!(slowest < Duration::from_secs(2), "{what}: {slowest:?}");
            for path in ["/status", "/drift", "/metrics", "/"] {
                let size = agent.get(path).body.len();
                assert!(size < LARGEST_TEXT, "{what}: {path} has {size} bytes");
            }
            let log = agent.stop();
            assert!(
                log.len() < LARGEST_TEXT,
                "{what}: {} bytes of log",
                log.len()
            );
        }
    }
}

/// What exceeds the limits is named, and counts as a file that a runtime loads: it shadows ours if it sorts first.
#[test]
fn more_than_is_examined_counts_as_loaded() {
    let node = Node::installed();
    let content = &large_contents()[0].1;
    for number in 0..12 {
        let name = format!("{CONF}/0{number:02}-x.conflist");
        node.write(&name, content.as_bytes(), 0o644);
    }
    // It does not load, but it is beyond the limit.
    node.write(
        &format!("{CONF}/09-broken.conflist"),
        "{".repeat(1900 << 10).as_bytes(),
        0o644,
    );
    let agent = Agent::start(&node);
    agent.becomes_unready("000-x.conflist sorts before 10-pods.conflist, so containerd");
    let directory = agent.json("/status")["directory"].clone();
    let candidates = directory["candidates"].as_array().unwrap().clone();
    let network = |name: &str| {
        let mut files = candidates.iter();
        let file = files.find(|file| file["name"] == *name).unwrap();
        file["network"].as_str().map(str::to_owned)
    };
    assert_eq!(network("000-x.conflist").as_deref(), Some("n"));
    let beyond = network("09-broken.conflist");
    assert_eq!(beyond.as_deref(), Some("(too large to be examined)"));
    assert_eq!(
        network("10-pods.conflist").as_deref(),
        Some("pod-network"),
        "ours is always examined"
    );
    assert!(node.has(CONFLIST));
    agent.stop();
}

/// Thousands of small files: no view grows with their number.
#[test]
fn thousands_of_files_of_others() {
    let node = Node::installed();
    for number in 0..3000 {
        let name = "n".repeat(200);
        let text = format!(r#"{{"name":".","x":"{name}","plugins":[{{"type":"bridge"}}]}}"#);
        node.write(
            &format!("{CONF}/00-{number:04}.conflist"),
            text.as_bytes(),
            0o644,
        );
    }
    let agent = Agent::start(&node);
    agent.becomes_unready("00-0000.conflist sorts before 10-pods.conflist");
    for path in ["/status", "/drift", "/metrics", "/readyz", "/"] {
        let size = agent.get(path).body.len();
        assert!(size < LARGEST_TEXT, "{path} has {size} bytes");
    }
    let log = agent.stop();
    assert!(log.len() < LARGEST_TEXT, "{} bytes of log", log.len());
}
