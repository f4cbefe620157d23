//! `fleet [--image] [NODES…]`: how a cluster's nodes get their plugins from one mirror. The retry code is the agent's
//! own; the clock, the network and the mirror are not real. See `scripts/fleet`.

mod node;
mod server;
mod simulation;

use std::env;
use std::io::{self, Write};
use std::time::Duration;

use node::Settings;
use server::{Kind, Over};
use simulation::{Outcome, Scenario, Simulation};

const MB: f64 = 1e6;
/// 1 Gbit/s, in bytes.
const GBIT: f64 = 125.0 * MB;
/// The reference set, and a plugin published by itself.
const ARCHIVES: [f64; 2] = [28.0 * MB, 2.0 * MB];
/// The largest layer of an image, and the same.
const IMAGE: [f64; 2] = [200.0 * MB, 2.0 * MB];
/// The most transfers at a time.
const ROOM: usize = 512;
const OUTAGE: Duration = Duration::from_secs(600);
const WISH: Duration = Duration::from_secs(30);
/// What `fetch.spread` may be.
const WINDOWS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(30),
    Duration::from_secs(120),
];
/// What happens to requests beyond the most transfers. A 503 without `Retry-After` has the effect of a refusal.
const OVERS: [Over; 3] = [Over::Refuse, Over::Queue, Over::Busy(WISH)];
/// What a mirror that takes less, and what a `fetch.minRate` above the default, are tried with: with no more nodes
/// than so many.
const FEW: usize = 1000;
const ROOMS: [usize; 4] = [ROOM, 128, 32, 8];
const RATES: [f64; 3] = [1024.0, 65536.0, 262_144.0];
/// Beyond this many times the ideal, bandwidth is not the only cause.
const NEAR: f64 = 1.5;

/// The simulation stops at this many times the ideal.
const ENOUGH: f64 = 8.0;

/// What happens to a fleet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Story {
    /// All agents start at once.
    Cold,
    /// A tenth of them at a time.
    Rolling,
    /// All start while the mirror is away, and it comes back.
    Outage,
    /// The same with an origin of a fifth of the bandwidth.
    Origin,
}

impl Story {
    const ALL: [Self; 4] = [Self::Cold, Self::Rolling, Self::Outage, Self::Origin];

    const fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold start",
            Self::Rolling => "10 % rolling",
            Self::Outage => "outage of 10 min",
            Self::Origin => "outage, and an origin",
        }
    }
}

fn scenario(story: Story, nodes: usize, artifacts: [f64; 2], over: Over) -> Scenario {
    let mirror = Kind {
        bandwidth: GBIT,
        room: ROOM,
        over,
        away: match story {
            Story::Cold | Story::Rolling => Duration::ZERO..Duration::ZERO,
            Story::Outage | Story::Origin => Duration::ZERO..OUTAGE,
        },
    };
    let origin = Kind {
        bandwidth: GBIT / 5.0,
        away: Duration::ZERO..Duration::ZERO,
        ..mirror.clone()
    };
    let mut scenario = Scenario {
        nodes,
        artifacts: artifacts.to_vec(),
        servers: match story {
            Story::Origin => vec![mirror, origin],
            _ => vec![mirror],
        },
        settings: Settings::default(),
        at_once: match story {
            Story::Rolling => nodes.div_ceil(10),
            _ => nodes,
        },
        end: Duration::MAX,
    };
    scenario.end = Duration::from_secs_f64(ENOUGH * ideal(&scenario));
    scenario
}

/// The time of the bytes alone, one after the other at full bandwidth, from the moment the mirror is there.
fn ideal(scenario: &Scenario) -> f64 {
    let bytes: f64 = scenario.artifacts.iter().sum::<f64>() * scenario.nodes as f64;
    let mirror = &scenario.servers[0];
    let away = mirror.away.end.as_secs_f64();
    let meanwhile: f64 = scenario.servers[1..]
        .iter()
        .map(|other| other.bandwidth)
        .sum();
    let left = bytes - meanwhile * away;
    match left > 0.0 {
        true => away + left / (mirror.bandwidth + meanwhile),
        false => bytes / meanwhile,
    }
}

fn over_name(over: Over) -> &'static str {
    match over {
        Over::Refuse => "refused",
        Over::Queue => "queued",
        Over::Busy(_) => "503, 30 s",
    }
}

/// When 99 % are ready, by the ideal.
fn over_ideal(scenario: &Scenario, outcome: &Outcome) -> f64 {
    outcome.ready(99).as_secs_f64() / ideal(scenario)
}

/// Runs one scenario for one fleet, without spread and with each spread.
fn row(scenario: &Scenario) -> (String, f64) {
    let outcomes = WINDOWS.map(|spread| {
        let mut scenario = scenario.clone();
        scenario.settings.spread = spread;
        Simulation::run(scenario)
    });
    let outcome = &outcomes[0];
    let at = |percent| outcome.ready(percent).as_secs_f64();
    let [near, half, whole] = outcomes.each_ref().map(|it| over_ideal(scenario, it));
    let row = format!(
        "{:>6}{:>9}{:>9}{:>8}{:>8.1}{:>8.1}{:>8.0}{:>8.0}{:>8.0}{:>8.0}{near:>9.2}{half:>7.2}{whole:>7.2}",
        outcome.peak,
        outcome.requests,
        outcome.failed,
        outcome.given_up,
        outcome.sent.iter().sum::<f64>() / 1e9,
        outcome.wasted * 100.0,
        at(50),
        at(99),
        at(100),
        ideal(scenario),
    );
    (row, near)
}

/// What happens to fleets of all sizes; returns where it takes much longer than the ideal.
fn stories(out: &mut impl Write, artifacts: [f64; 2], fleets: &[usize]) -> io::Result<Vec<String>> {
    writeln!(
        out,
        "{:<22}{:>6}{:>11}{:>6}{:>9}{:>9}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>9}{:>7}{:>7}",
        "",
        "nodes",
        "beyond",
        "peak",
        "requests",
        "failed",
        "given",
        "GB",
        "wasted",
        "50 %",
        "99 %",
        "100 %",
        "ideal",
        "99 % ÷",
        "spread",
        "spread"
    )?;
    writeln!(
        out,
        "{:<22}{:>6}{:>11}{:>6}{:>9}{:>9}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>9}{:>7}{:>7}",
        "", "", ROOM, "", "", "", "up", "sent", "%", "s", "s", "s", "s", "ideal", "30 s", "2 min"
    )?;
    let mut far = Vec::new();
    for story in Story::ALL {
        writeln!(out)?;
        for &nodes in fleets {
            let rows = OVERS.map(|over| row(&scenario(story, nodes, artifacts, over)));
            // Where nobody is beyond the room, it does not matter what would happen there.
            let [(refused, near), others @ ..] = &rows;
            let same = others.iter().all(|(other, _)| other == refused);
            for (over, (row, near)) in OVERS.iter().zip(&rows) {
                let is_new = !same && (*over == Over::Refuse || row != refused);
                if is_new {
                    let over = over_name(*over);
                    writeln!(out, "{:<22}{nodes:>6}{over:>11}{row}", story.name())?;
                    if *near > NEAR {
                        far.push(format!(
                            "{}, {nodes} nodes, {over}: {near:.2}",
                            story.name()
                        ));
                    }
                }
            }
            if same {
                writeln!(out, "{:<22}{nodes:>6}{:>11}{refused}", story.name(), "-")?;
                if *near > NEAR {
                    far.push(format!("{}, {nodes} nodes: {near:.2}", story.name()));
                }
            }
        }
    }
    Ok(far)
}

/// What breaks first in a cold start.
fn limits(out: &mut impl Write, artifacts: [f64; 2], nodes: usize) -> io::Result<()> {
    writeln!(out, "\nCold start of {nodes} nodes, 99 % ÷ ideal:\n")?;
    write!(out, "{:<22}", "most transfers")?;
    for over in OVERS {
        write!(out, "{:>11}", over_name(over))?;
    }
    writeln!(out)?;
    for room in ROOMS {
        write!(out, "{room:<22}")?;
        for over in OVERS {
            let mut scenario = scenario(Story::Cold, nodes, artifacts, over);
            scenario.servers[0].room = room;
            let outcome = Simulation::run(scenario.clone());
            write!(out, "{:>11.2}", over_ideal(&scenario, &outcome))?;
        }
        writeln!(out)?;
    }
    writeln!(
        out,
        "\n{:<22}{:>11}{:>11}",
        "minRate, KiB/s", "99 % ÷", "wasted, %"
    )?;
    for rate in RATES {
        let mut scenario = scenario(Story::Cold, nodes, artifacts, Over::Refuse);
        scenario.settings.min_rate = rate;
        let outcome = Simulation::run(scenario.clone());
        let (took, wasted) = (over_ideal(&scenario, &outcome), outcome.wasted * 100.0);
        writeln!(out, "{:<22}{took:>11.2}{wasted:>11.1}", rate / 1024.0)?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let mut artifacts = ARCHIVES;
    let mut fleets = Vec::new();
    // Cargo itself passes `--bench`.
    for arg in env::args().skip(1).filter(|arg| arg != "--bench") {
        match arg.as_str() {
            "--image" => artifacts = IMAGE,
            nodes => fleets.push(nodes.parse().map_err(io::Error::other)?),
        }
    }
    if fleets.is_empty() {
        fleets = vec![100, 500, 1000, 5000];
    }
    let mut out = io::stdout().lock();
    let far = stories(&mut out, artifacts, &fleets)?;
    let most = fleets.iter().copied().max().unwrap_or(FEW);
    limits(&mut out, artifacts, most.min(FEW))?;
    let far = match far.as_slice() {
        [] => "nowhere".to_owned(),
        far => far.join("; "),
    };
    writeln!(
        out,
        "\nWithout spread, 99 % take more than {NEAR} times the ideal: {far}"
    )
}
