//! Faults 24, 28 to 36, all at once: a storm of damage on the node's disk, and an observer who asks throughout
//! whether the agent says the truth.
//!
//! A storm is a seed: the same one does the same damage in the same order. `CNI_KEEPER_STORM_SEED=7` runs that one
//! storm instead of the usual ones, and `CNI_KEEPER_STORM_BLOWS=5000` makes storms longer.

mod damage;
mod observer;
mod truth;

use fastrand::Rng;

use crate::support::agent::Agent;
use crate::support::namespace::in_private_mounts;
use crate::support::node::{BIN, CONF, Node, STATE};
use crate::support::number;
use damage::Storm;
use observer::{Observer, Seen};
use truth::Truth;

/// How much damage one storm does by default. It is little, because the pauses before repairs of the same file grow.
const BLOWS: u64 = 30;
/// What the names of our own temporary files begin with.
const TEMP: &str = ".cni-keeper-";

/// The memory of the smallest container that the agent runs in, in KiB. The program of the tests is not optimised.
const LARGEST_PEAK: u64 = 64 << 10;
/// How many lines the log may have for each damage: what was wrong and what was done, for all files when a directory goes.
const LINES_A_BLOW: u64 = 12;

/// The storms of a usual run.
const SEEDS: [u64; 6] = [1, 2, 3, 4, 5, 6];

#[test]
fn it_never_says_ready_while_something_is_wrong() {
    in_private_mounts(&it_never_says_ready_while_something_is_wrong, |_| storms());
}

fn storms() {
    let asked = number("CNI_KEEPER_STORM_SEED").map(|seed| vec![seed]);
    let seen: Vec<Seen> = asked
        .unwrap_or(SEEDS.to_vec())
        .into_iter()
        .map(storm)
        .collect();
    let all = |count: fn(&Seen) -> u32| seen.iter().map(count).sum::<u32>();
    assert!(
        all(|seen| seen.wrong) > 0 && all(|seen| seen.right) > 0,
        "nothing was there to be seen: {seen:?}"
    );
}

/// The most memory that the agent used at once, in KiB.
fn peak_memory(agent: &Agent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.unwrap().trim().trim_end_matches(" kB");
    peak.parse().unwrap()
}

fn storm(seed: u64) -> Seen {
    println!("storm {seed}: CNI_KEEPER_STORM_SEED={seed}");
    let node = Node::installed();
    let truth = Truth::of(&node);
    let agent = Agent::ready(&node);
    let observer = Observer::of(agent.address(), truth.clone());
    let mut storm = Storm::new(&node, Rng::with_seed(seed));
    let blows = number("CNI_KEEPER_STORM_BLOWS").unwrap_or(BLOWS);
    for _ in 0..blows {
        storm.blow(&observer);
    }
    storm.abate(&observer);
    // A file that was broken again and again is a conflict for some time, and is repaired nevertheless.
    agent.until("repaired after the storm", |agent| {
        agent.get("/readyz?exclude=conflict").status == 200
    });
    assert_eq!(truth.lies(), Vec::<String>::new());
    let seen = observer.finish();
    println!("storm {seed}: {seen:?}");
    storm.nothing_else_was_touched();
    assert_eq!(agent.downloads(), 0.0);
    let peak = peak_memory(&agent);
    assert!(peak < LARGEST_PEAK, "it used {peak} KiB of memory");
    let log = agent.stop();
    assert!(!log.contains("panicked"), "{log}");
    let (lines, most) = (log.lines().count() as u64, LINES_A_BLOW * (blows + 10));
    assert!(lines < most, "{lines} lines are more than {most}: {log}");

    node.run("verify").exits(0);
    for dir in [BIN, CONF, &format!("{STATE}/tmp")] {
        let names = node.names(dir);
        let temps = names.iter().filter(|name| name.starts_with(TEMP));
        assert_eq!(temps.count(), 0, "left over in {dir}: {names:?}");
    }
    seen
}
