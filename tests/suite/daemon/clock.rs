//! A clock that jumps.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::agent::Agent;
use crate::support::node::{CONFLIST, Node};
use crate::support::rerun::has_program;
use crate::support::skipped;
use crate::support::without_asking::IntactNode;

const BRIDGE: &str = "opt/cni/bin/bridge";

/// Gives a program another time of day, as long as the file named by `CLOCK` has the seconds to add. Nothing else is
/// changed: the kernel's monotonic clock does not jump on a real machine either.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int outcome = (int)syscall(SYS_clock_gettime, clock, time);
    if (outcome || clock != CLOCK_REALTIME)
        return outcome;
    char text[32] = "";
    int file = open(getenv("CLOCK"), O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        if (read(file, text, sizeof text - 1) > 0)
            time->tv_sec += atol(text);
        close(file);
    }
    return 0;
}
"#;

/// Compiles it; `None` without a compiler.
fn shim(dir: &Path) -> Option<PathBuf> {
    if !has_program("cc") {
        skipped("a clock is shifted by a library, which a compiler has to make");
        return None;
    }
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    fs::write(&source, SHIM).unwrap();
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source);
    assert!(compiler.status().unwrap().success());
    Some(library)
}

/// Fault 57: the clock jumps a year forth and two back, under a running agent and before one starts: drift is seen and
/// repaired by itself as ever, the node stays ready, and a file that nobody touched is not read again and again.
#[test]
fn fault_57_the_clock_jumps_a_year() {
    const YEAR: i64 = 365 * 24 * 3600;
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = shim(dir.path()) else {
        return;
    };
    let clock = dir.path().join("clock");
    let node = Node::installed();
    node.listen_anywhere();
    let right = IntactNode::of(&node);
    let start = || {
        let mut run = node.command("run");
        Agent::spawn(run.env("LD_PRELOAD", &library).env("CLOCK", &clock))
    };
    let year = |agent: &Agent| {
        let status = agent.json("/status");
        status["looked"].as_str().unwrap()[..4]
            .parse::<i32>()
            .unwrap()
    };
    let agent = start();
    agent.becomes_ready();
    let now = year(&agent);
    for (jump, by) in [(YEAR, 1), (-YEAR, -1), (0, 0)] {
        fs::write(&clock, jump.to_string()).unwrap();
        assert_eq!(year(&agent), now + by, "the shim works");
        assert!(agent.is_ready());
        for file in [BRIDGE, CONFLIST] {
            fs::remove_file(node.path(file)).unwrap();
            agent.repairs_by_itself(&right, &node);
        }
        let drift = &agent.drift()[0];
        let seconds = drift["outcome"]["seconds"].as_f64().unwrap();
        assert!((0.0..60.0).contains(&seconds), "{drift:#}");
        // Same size, and the times put back as far as that is possible.
        let before = fs::metadata(node.path(BRIDGE)).unwrap().modified().unwrap();
        let mut bytes = node.read(BRIDGE);
        bytes[100] ^= 1;
        fs::write(node.path(BRIDGE), &bytes).unwrap();
        fs::File::open(node.path(BRIDGE))
            .unwrap()
            .set_modified(before)
            .unwrap();
        agent.repairs_by_itself(&right, &node);
        let second = start();
        second.becomes_unready("conflict: ");
        second.stop();
        reads_nothing_again(&agent, &node);
    }
    agent.stop();
}

/// Fails unless the plugins are not read again by observations once they have been read. The agent counts what it
/// reads, and so does the kernel.
fn reads_nothing_again(agent: &Agent, node: &Node) {
    let size = node.read(BRIDGE).len() as u64;
    let read = || {
        let io = fs::read_to_string(format!("/proc/{}/io", agent.id())).unwrap();
        let count = io.lines().find_map(|line| line.strip_prefix("rchar: "));
        count.unwrap().parse::<u64>().unwrap()
    };
    let looks = 10;
    agent.until("nothing is read", |agent| {
        let before = read();
        for _ in 0..looks {
            agent.passes();
        }
        read() - before < looks * size / 4
    });
}
