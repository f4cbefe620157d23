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
/// A window that is long enough to be seen.
const WINDOW: Duration = Duration::from_secs(120);
/// Beyond this many times the ideal, more is at fault than the bandwidth.
const NEAR: f64 = 1.5;

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

fn scenario(
    story: Story,
    nodes: usize,
    artifacts: [f64; 2],
    over: Over,
    window: Duration,
) -> Scenario {
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
    Scenario {
        nodes,
        artifacts: artifacts.to_vec(),
        servers: match story {
            Story::Origin => vec![mirror, origin],
            _ => vec![mirror],
        },
        settings: Settings {
            spread: window,
            ..Settings::default()
        },
        at_once: match story {
            Story::Rolling => nodes.div_ceil(10),
            _ => nodes,
        },
    }
}

/// What the bytes take, one after the other at full bandwidth, from when the mirror is there.
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
        Over::Busy(_) => "503",
    }
}

fn row(
    out: &mut impl Write,
    scenario: &Scenario,
    story: Story,
    outcome: &Outcome,
) -> io::Result<()> {
    let ideal = ideal(scenario);
    let at = |percent| outcome.ready(percent).as_secs_f64();
    writeln!(
        out,
        "{:<22}{:>6}{:>9}{:>8}{:>7}{:>9}{:>9}{:>8}{:>8.1}{:>7.1}{:>8.0}{:>8.0}{:>8.0}{:>8.0}{:>7.2}",
        story.name(),
        scenario.nodes,
        over_name(scenario.servers[0].over),
        format!("{} s", scenario.settings.spread.as_secs()),
        outcome.peak,
        outcome.requests,
        outcome.failed,
        outcome.given_up,
        outcome.sent.iter().sum::<f64>() / 1e9,
        outcome.wasted * 100.0,
        at(50),
        at(99),
        at(100),
        ideal,
        at(99) / ideal,
    )
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
    writeln!(
        out,
        "{:<22}{:>6}{:>9}{:>8}{:>7}{:>9}{:>9}{:>8}{:>8}{:>7}{:>8}{:>8}{:>8}{:>8}{:>7}",
        "",
        "nodes",
        "beyond",
        "spread",
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
        "99 % ÷"
    )?;
    writeln!(
        out,
        "{:<22}{:>6}{:>9}{:>8}{:>7}{:>9}{:>9}{:>8}{:>8}{:>7}{:>8}{:>8}{:>8}{:>8}{:>7}",
        "", "", ROOM, "", "", "", "", "up", "sent", "%", "s", "s", "s", "s", "ideal"
    )?;
    let mut far = Vec::new();
    for story in Story::ALL {
        for &nodes in &fleets {
            for over in [Over::Refuse, Over::Queue, Over::Busy(WISH)] {
                for window in [Duration::ZERO, WINDOW] {
                    let scenario = scenario(story, nodes, artifacts, over, window);
                    let outcome = Simulation::run(scenario.clone());
                    row(&mut out, &scenario, story, &outcome)?;
                    let took = outcome.ready(99).as_secs_f64();
                    if window.is_zero() && took > NEAR * ideal(&scenario) {
                        far.push(format!(
                            "{}, {nodes} nodes, {}",
                            story.name(),
                            over_name(over)
                        ));
                    }
                }
            }
        }
    }
    let far = match far.as_slice() {
        [] => "nowhere".to_owned(),
        far => far.join("; "),
    };
    writeln!(
        out,
        "\nWithout spread, 99 % take more than {NEAR} times the ideal: {far}"
    )
}
