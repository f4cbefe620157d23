//! Tests of the simulation with cases whose result is known.
#![allow(clippy::unwrap_used)]

mod node;
mod server;
mod simulation;

use std::time::Duration;

use cni_keeper::retry::Spread;
use node::Settings;
use server::{Kind, Over};
use simulation::{Outcome, Scenario, Simulation};

const MB: f64 = 1e6;
const SECOND: Duration = Duration::from_secs(1);

/// Ten megabytes a second, and room for everybody.
fn mirror() -> Kind {
    Kind {
        bandwidth: 10.0 * MB,
        room: usize::MAX,
        over: Over::Refuse,
        away: Duration::ZERO..Duration::ZERO,
    }
}

fn run(nodes: usize, artifacts: &[f64], servers: &[Kind]) -> Outcome {
    let outcome = Simulation::run(Scenario {
        nodes,
        artifacts: artifacts.to_vec(),
        servers: servers.to_vec(),
        settings: Settings::default(),
        at_once: nodes,
        end: Duration::MAX,
    });
    assert!(outcome.ready(100) < Duration::MAX, "everybody gets there");
    outcome
}

fn close(is: f64, should: f64) {
    assert!((is - should).abs() < should * 1e-3, "{is} is not {should}");
}

#[test]
fn one_node_takes_what_its_bytes_take() {
    let outcome = run(1, &[80.0 * MB, 20.0 * MB], &[mirror()]);
    close(outcome.ready(100).as_secs_f64(), 10.0);
    close(outcome.sent[0], 100.0 * MB);
    assert_eq!((outcome.requests, outcome.failed, outcome.peak), (2, 0, 1));
    assert!(outcome.wasted < 1e-6);
}

#[test]
fn two_nodes_share_and_one_after_the_other_takes_as_long() {
    let outcome = run(2, &[100.0 * MB], &[mirror()]);
    close(outcome.ready(50).as_secs_f64(), 20.0);
    close(outcome.ready(100).as_secs_f64(), 20.0);
    assert_eq!(outcome.peak, 2);
    let narrow = Kind {
        room: 1,
        over: Over::Queue,
        ..mirror()
    };
    let outcome = run(2, &[50.0 * MB], &[narrow]);
    close(outcome.ready(50).as_secs_f64(), 5.0);
    close(outcome.ready(100).as_secs_f64(), 10.0);
    assert_eq!((outcome.peak, outcome.failed), (1, 0));
}

#[test]
fn a_mirror_that_is_away_costs_its_time_limit_or_is_waited_for() {
    let away = Kind {
        away: Duration::ZERO..100 * SECOND,
        ..mirror()
    };
    let outcome = run(1, &[100.0 * MB], &[away.clone(), mirror()]);
    close(outcome.ready(100).as_secs_f64(), 20.0);
    assert_eq!((outcome.requests, outcome.failed), (2, 1));
    assert_eq!(outcome.sent[0], 0.0);
    let outcome = run(1, &[100.0 * MB], &[away]);
    assert!(outcome.ready(100) >= 110 * SECOND);
    assert!(outcome.failed >= 5 && outcome.given_up >= 1);
    close(outcome.sent[0], 100.0 * MB);
}

#[test]
fn what_broke_off_or_took_too_long_is_resumed() {
    let breaks = Kind {
        away: 4 * SECOND..5 * SECOND,
        ..mirror()
    };
    let outcome = run(1, &[100.0 * MB], &[breaks]);
    close(outcome.sent[0], 100.0 * MB);
    assert_eq!((outcome.requests, outcome.failed), (3, 2));
    let slow = Kind {
        bandwidth: 0.1 * MB,
        ..mirror()
    };
    let outcome = run(1, &[100.0 * MB], &[slow]);
    close(outcome.sent[0], 100.0 * MB);
    assert_eq!((outcome.requests, outcome.failed), (2, 1));
}

#[test]
fn a_drip_is_given_up_as_too_slow() {
    let drip = Kind {
        bandwidth: 1000.0,
        ..mirror()
    };
    let outcome = run(1, &[10.0 * MB], &[drip, mirror()]);
    close(outcome.ready(100).as_secs_f64(), 31.0);
    close(outcome.sent[0], 30_000.0);
    assert!(outcome.wasted > 0.002);
}

#[test]
fn a_server_that_is_busy_is_asked_again_when_it_wishes() {
    let busy = Kind {
        room: 1,
        over: Over::Busy(30 * SECOND),
        ..mirror()
    };
    let outcome = run(2, &[50.0 * MB], &[busy]);
    let second = outcome.ready(100).as_secs_f64();
    assert!((35.0..36.0).contains(&second), "{second}");
    assert_eq!(outcome.failed, 1);
}

#[test]
fn nodes_take_turns_and_every_run_is_the_same() {
    let rolling = |spread: Duration| {
        let outcome = Simulation::run(Scenario {
            nodes: 10,
            artifacts: vec![10.0 * MB],
            servers: vec![mirror()],
            settings: Settings {
                spread,
                ..Settings::default()
            },
            at_once: 1,
            end: Duration::MAX,
        });
        (outcome.ready(100), outcome.peak)
    };
    let (took, peak) = rolling(Duration::ZERO);
    close(took.as_secs_f64(), 10.0 + 9.0 * 2.0);
    assert_eq!(peak, 1);
    let minute = 60 * SECOND;
    assert!(rolling(minute).0 > took);
    assert_eq!(rolling(minute), rolling(minute));
}

#[test]
fn who_comes_later_slows_the_other_down() {
    let window = 8 * SECOND;
    let outcome = Simulation::run(Scenario {
        nodes: 2,
        artifacts: vec![100.0 * MB],
        servers: vec![mirror()],
        settings: Settings {
            spread: window,
            ..Settings::default()
        },
        at_once: 2,
        end: Duration::MAX,
    });
    let starts = [0, 1].map(|node| Spread::for_node(&format!("node-{node}")).start_delay(window));
    let (first, second) = (starts[0].min(starts[1]), starts[0].max(starts[1]));
    let last = first + 20 * SECOND;
    close(outcome.ready(100).as_secs_f64(), last.as_secs_f64());
    close(
        outcome.ready(50).as_secs_f64(),
        (last + first - second).as_secs_f64(),
    );
}
