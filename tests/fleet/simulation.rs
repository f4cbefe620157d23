//! Nodes and servers under a simulated clock, which jumps to the next event.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use cni_keeper::model::FailureKind;
use cni_keeper::retry::Next;

use crate::node::{Attempt, Node, Settings, Transfer};
use crate::server::{Kind, Over, Server};

/// What it takes to refuse a connection, or to answer without a body.
const ROUND_TRIP: Duration = Duration::from_millis(1);
/// From a node that is ready to the next one's agent, where they take turns.
const TURN: Duration = Duration::from_secs(2);
/// How often a body that breaks off, or runs out of its time, is resumed at once, as in `fetch`.
const RESUMES: u32 = 3;

/// A fleet, and what happens to it.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) nodes: usize,
    /// The artifacts of each node, in bytes.
    pub(crate) artifacts: Vec<f64>,
    /// In the order in which the configuration names them.
    pub(crate) servers: Vec<Kind>,
    pub(crate) settings: Settings,
    /// How many nodes are at it at a time; all of them in a cold start.
    pub(crate) at_once: usize,
    /// When it ends even where nodes still try: they count as ready then.
    pub(crate) end: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) peak: usize,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// Downloads that failed in all their rounds.
    pub(crate) given_up: u64,
    /// Bytes that each server sent.
    pub(crate) sent: Vec<f64>,
    /// The part of them that had to be sent again.
    pub(crate) wasted: f64,
    /// When each node was ready, in that order.
    pub(crate) ready: Vec<Duration>,
}

impl Outcome {
    /// When so many of a hundred nodes were ready.
    pub(crate) fn ready(&self, percent: usize) -> Duration {
        let index = (self.ready.len() * percent).div_ceil(100).max(1) - 1;
        self.ready[index]
    }
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A node's agent starts.
    Start(usize),
    /// A node does what is next, unless it has done something else meanwhile.
    Wake(usize, u64),
    /// A request of a node fails, unless it is over.
    Fails(usize, u64),
    /// A look at the throughput of a node's transfer, and at how long it takes.
    Look(usize, u64),
    /// A server's first transfer is over, unless others came or went meanwhile.
    Over(usize, u64),
    /// A server goes away or comes back.
    Turns(usize),
}

pub(crate) struct Simulation {
    scenario: Scenario,
    names: Vec<String>,
    nodes: Vec<Node>,
    servers: Vec<Server>,
    changes: Vec<u64>,
    /// The order of things that are due at one moment is that in which they were planned.
    due: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    planned: u64,
    /// The policy counts in moments of the machine's clock; only their differences matter.
    epoch: Instant,
    now: Duration,
    started: usize,
    requests: u64,
    failed: u64,
    given_up: u64,
    useful: f64,
}

impl Simulation {
    pub(crate) fn run(scenario: Scenario) -> Outcome {
        let nodes = 0..scenario.nodes;
        let count = scenario.servers.len();
        let mut run = Self {
            names: (0..count)
                .map(|number| format!("server-{number}"))
                .collect(),
            nodes: nodes
                .map(|number| Node::new(number, scenario.artifacts.len()))
                .collect(),
            servers: scenario.servers.iter().cloned().map(Server::new).collect(),
            changes: vec![0; count],
            due: BinaryHeap::new(),
            planned: 0,
            epoch: Instant::now(),
            now: Duration::ZERO,
            started: 0,
            requests: 0,
            failed: 0,
            given_up: 0,
            useful: 0.0,
            scenario,
        };
        for server in 0..count {
            let away = run.servers[server].kind.away.clone();
            if !away.is_empty() {
                run.plan(away.start, Event::Turns(server));
                run.plan(away.end, Event::Turns(server));
            }
        }
        for _ in 0..run.scenario.at_once.min(run.scenario.nodes) {
            run.start_another(Duration::ZERO);
        }
        while let Some(Reverse((at, _, event))) = run.due.pop()
            && at < run.scenario.end
        {
            run.now = at;
            run.happens(event);
        }
        run.outcome()
    }

    fn outcome(self) -> Outcome {
        let sent: Vec<f64> = self.servers.iter().map(|server| server.sent).collect();
        let all: f64 = sent.iter().sum();
        let end = self.scenario.end;
        let nodes = self.nodes.iter();
        let mut ready: Vec<Duration> = nodes.map(|node| node.ready.unwrap_or(end)).collect();
        ready.sort_unstable();
        Outcome {
            peak: self.servers.iter().map(|server| server.peak).sum(),
            requests: self.requests,
            failed: self.failed,
            given_up: self.given_up,
            wasted: ((all - self.useful) / all).max(0.0),
            sent,
            ready,
        }
    }

    fn plan(&mut self, at: Duration, event: Event) {
        self.planned += 1;
        self.due.push(Reverse((at, self.planned, event)));
    }

    fn moment(&self) -> Instant {
        self.epoch + self.now
    }

    fn start_another(&mut self, after: Duration) {
        if self.started < self.scenario.nodes {
            self.plan(self.now + after, Event::Start(self.started));
            self.started += 1;
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Start(node) => {
                let moment = self.moment();
                self.nodes[node].start(moment, self.scenario.settings.spread);
                self.act(node);
            }
            Event::Wake(node, step) if self.nodes[node].step == step => self.act(node),
            Event::Fails(node, step) if self.nodes[node].step == step => self.not_served(node),
            Event::Look(node, step) if self.nodes[node].step == step => self.look(node),
            Event::Over(server, change) if self.changes[server] == change => {
                self.servers[server].advance(self.now);
                while let Some(node) = self.servers[server].over() {
                    self.got(node);
                }
                self.changed(server);
            }
            Event::Turns(server) => self.turns(server),
            Event::Wake(..) | Event::Fails(..) | Event::Look(..) | Event::Over(..) => {}
        }
    }

    /// A server's transfers have changed: whoever waits has room now, and another one may be over first.
    fn changed(&mut self, server: usize) {
        while !self.servers[server].is_away()
            && self.servers[server].has_room()
            && let Some(node) = self.servers[server].queue.pop_front()
        {
            self.serve(node, server);
        }
        self.changes[server] += 1;
        if let Some(at) = self.servers[server].next() {
            // Rounded up, or nothing might be over by then.
            let at = at + Duration::from_nanos(1);
            self.plan(at, Event::Over(server, self.changes[server]));
        }
    }

    fn turns(&mut self, server: usize) {
        self.servers[server].advance(self.now);
        if self.servers[server].is_away() {
            for node in self.servers[server].nodes() {
                self.breaks(node, FailureKind::Reset);
            }
        }
        self.changed(server);
    }

    /// What a node does when nothing is under way: as the agent's loop and `fetch`'s rounds do.
    fn act(&mut self, node: usize) {
        let moment = self.moment();
        loop {
            let it = &mut self.nodes[node];
            it.step += 1;
            let Some(download) = &mut it.download else {
                match it.next(moment) {
                    Some(artifact) => {
                        it.begin(artifact, &self.names, &self.scenario.settings, moment);
                        continue;
                    }
                    None => {
                        if let Some(due) = it.refetch.due(moment) {
                            let step = it.step;
                            self.plan(due - self.epoch, Event::Wake(node, step));
                        }
                        return;
                    }
                }
            };
            match download.rounds.next_step(moment, it.spread.next_number()) {
                Next::Ask(place) => {
                    download.attempt = Some(Attempt {
                        place,
                        began: self.now,
                        resumes: 0,
                        transfer: None,
                    });
                    return self.ask(node);
                }
                Next::Wait(pause) => {
                    let step = it.step;
                    return self.plan(self.now + pause, Event::Wake(node, step));
                }
                Next::Over => {
                    it.download = None;
                    it.refetch.record_failure(moment, it.spread.next_number());
                    self.given_up += 1;
                }
            }
        }
    }

    /// The server and place that a node is at.
    fn at(&self, node: usize) -> Option<(usize, usize)> {
        let download = self.nodes[node].download.as_ref()?;
        let place = download.attempt.as_ref()?.place;
        Some((download.order[place], place))
    }

    /// A node sends its request.
    fn ask(&mut self, node: usize) {
        let Some((server, _)) = self.at(node) else {
            return;
        };
        self.requests += 1;
        self.nodes[node].step += 1;
        let step = self.nodes[node].step;
        let patience = self.scenario.settings.connect_timeout;
        let it = &mut self.servers[server];
        it.advance(self.now);
        if it.is_away() {
            self.plan(self.now + patience, Event::Fails(node, step));
        } else if it.has_room() {
            self.serve(node, server);
            self.changed(server);
        } else if it.kind.over == Over::Queue {
            it.queue.push_back(node);
            self.plan(self.now + patience, Event::Fails(node, step));
        } else {
            self.plan(self.now + ROUND_TRIP, Event::Fails(node, step));
        }
    }

    /// A server begins to send a node what it asked for, or the rest of it.
    fn serve(&mut self, node: usize, server: usize) {
        let it = &mut self.nodes[node];
        it.step += 1;
        let step = it.step;
        let Some(download) = &mut it.download else {
            return;
        };
        let Some(attempt) = &mut download.attempt else {
            return;
        };
        let held = download.held.take_if(|(place, _)| *place == attempt.place);
        let held = held.map_or(0.0, |(_, held)| held);
        // What another place gave is let go of.
        download.held = Some((attempt.place, held));
        let left = self.scenario.artifacts[download.artifact] - held;
        let (from, to) = self.servers[server].begin(node, left);
        attempt.transfer = Some(Transfer {
            from,
            to,
            window: from,
        });
        self.look_later(node, step);
    }

    fn look_later(&mut self, node: usize, step: u64) {
        let settings = &self.scenario.settings;
        let attempt = self.nodes[node].download.as_ref();
        let Some(attempt) = attempt.and_then(|download| download.attempt.as_ref()) else {
            return;
        };
        let end = attempt.began + settings.total_timeout;
        let at = (self.now + settings.read_timeout).min(end);
        self.plan(at, Event::Look(node, step));
    }

    /// Whether a transfer takes too long, or is too slow: as `fetch` does it.
    fn look(&mut self, node: usize) {
        let Some((server, _)) = self.at(node) else {
            return;
        };
        self.servers[server].advance(self.now);
        let mark = self.servers[server].mark();
        let settings = &self.scenario.settings;
        let download = self.nodes[node].download.as_mut();
        let Some(attempt) = download.and_then(|download| download.attempt.as_mut()) else {
            return;
        };
        let late = self.now >= attempt.began + settings.total_timeout;
        let least = settings.min_rate * settings.read_timeout.as_secs_f64();
        let Some(transfer) = &mut attempt.transfer else {
            return;
        };
        let slow = mark - transfer.window < least;
        transfer.window = mark;
        if late || slow {
            let class = match late {
                true => FailureKind::Timeout,
                false => FailureKind::TooSlow,
            };
            self.breaks(node, class);
            self.changed(server);
        } else {
            let step = self.nodes[node].step;
            self.look_later(node, step);
        }
    }

    /// A node has got an artifact.
    fn got(&mut self, node: usize) {
        let Some((server, _)) = self.at(node) else {
            return;
        };
        let it = &mut self.nodes[node];
        let Some(download) = it.download.take() else {
            return;
        };
        if let Some(transfer) = download.attempt.and_then(|attempt| attempt.transfer) {
            self.servers[server].end(node, transfer.to);
        }
        it.health.record_success(&self.names[server]);
        it.wanted.retain(|artifact| *artifact != download.artifact);
        self.useful += self.scenario.artifacts[download.artifact];
        if it.wanted.is_empty() {
            it.refetch.reset();
            it.step += 1;
            it.ready = Some(self.now);
            self.start_another(TURN);
        } else {
            // After those that are over at the same moment, so that the server has one state for all of them.
            it.step += 1;
            let step = it.step;
            self.plan(self.now, Event::Wake(node, step));
        }
    }

    /// A transfer ends before its time; what came is kept.
    fn breaks(&mut self, node: usize, class: FailureKind) {
        let Some((server, place)) = self.at(node) else {
            return;
        };
        let mark = self.servers[server].mark();
        let Some(download) = &mut self.nodes[node].download else {
            return;
        };
        let Some(attempt) = &mut download.attempt else {
            return;
        };
        let Some(transfer) = attempt.transfer.take() else {
            return;
        };
        self.servers[server].end(node, transfer.to);
        let came = mark - transfer.from;
        let held = download.held.map_or(0.0, |(_, held)| held);
        download.held = Some((place, held + came));
        let goes_on = matches!(class, FailureKind::Reset | FailureKind::Timeout);
        if goes_on && came > 0.0 && attempt.resumes < RESUMES {
            attempt.resumes += 1;
            attempt.began = self.now;
            self.failed += 1;
            return self.ask(node);
        }
        self.fails(node, class, None);
    }

    /// A request ends without a transfer.
    fn not_served(&mut self, node: usize) {
        let Some((server, _)) = self.at(node) else {
            return;
        };
        let it = &mut self.servers[server];
        it.advance(self.now);
        let waited = it.queue.iter().position(|waiting| *waiting == node);
        if let Some(index) = waited {
            it.queue.remove(index);
        }
        let (class, after) = match it.kind.over {
            _ if it.is_away() || waited.is_some() => (FailureKind::Timeout, None),
            Over::Refuse => (FailureKind::Connect, None),
            Over::Busy(after) => (FailureKind::Status(503), Some(after)),
            // It came back while this one was waiting for an answer.
            Over::Queue => (FailureKind::Timeout, None),
        };
        self.fails(node, class, after);
    }

    fn fails(&mut self, node: usize, class: FailureKind, after: Option<Duration>) {
        let Some((server, place)) = self.at(node) else {
            return;
        };
        self.failed += 1;
        let moment = self.moment();
        let it = &mut self.nodes[node];
        it.health.record_failure(&self.names[server], class, moment);
        if let Some(download) = &mut it.download {
            download.attempt = None;
            download.rounds.record_failure(place, class, after, moment);
        }
        self.act(node);
    }
}
