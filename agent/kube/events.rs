//! Events of the node for drift and conflicts: what they say, and how few of them there are. Pure: the time is handed
//! in.
//!
//! What happens to one file again and again is one Event that counts; it is told at once the first time, and then at
//! most every five minutes. All of them together draw on a bucket of tokens, so that a node in trouble is no trouble
//! to its cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::pause::Pause;
use crate::model::{Check, CheckName, DriftEntry, Outcome, clip};

/// Where Events of nodes are made, as kubelet makes them: a node has no namespace of its own.
pub const NAMESPACE: &str = "default";

/// The shortest time between two words about the same file.
const SAME: Duration = Duration::from_secs(300);
/// How many Events may be told at once, and the time in which one more may.
const BURST: u32 = 10;
const REFILL: Duration = Duration::from_secs(30);
/// How many files and reasons are counted apart. What comes beyond them waits until one of them is old.
const MOST: usize = 64;
/// How long one is added to; an Event that was not told of for an hour has expired by default.
const OLD: Duration = Duration::from_secs(3600);
/// How long a message may be, in bytes (`core.Event` of newer API servers).
const LONGEST_MESSAGE: usize = 1000;
/// How much of a node's name an Event's own name begins with, in bytes.
const LONGEST_NAME: usize = 200;

/// What is to be told, and what was.
#[derive(Debug, Default)]
pub struct Events {
    /// The drifts that were taken in.
    seen: BTreeSet<u64>,
    /// Whether anything was taken in at all.
    begun: bool,
    conflicts: Vec<String>,
    series: BTreeMap<Key, Series>,
    /// When the bucket will be full again, at one token a [`REFILL`].
    full: Option<Instant>,
    pause: Pause,
}

type Key = (&'static str, String);

/// What happened to one file.
#[derive(Debug, Clone)]
struct Series {
    /// The name of its Event, once there is one.
    name: Option<String>,
    message: String,
    count: u64,
    told: u64,
    first: SystemTime,
    last: SystemTime,
    /// When it was last told of.
    at: Option<Instant>,
    /// When it last happened.
    touched: Instant,
}

/// One request to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Announcement {
    key: Key,
    count: u64,
    /// The Event's name.
    pub name: String,
    /// Whether it exists already and `body` is merged into it.
    pub exists: bool,
    /// What is sent.
    pub body: Value,
}

impl Events {
    /// Takes in the drift log and the checks. `mends` says whether drift is mended at all; where it is not, that it is
    /// there is told.
    pub fn see(
        &mut self,
        drift: &[Arc<DriftEntry>],
        checks: &[Check],
        mends: bool,
        now: Instant,
        time: SystemTime,
    ) {
        let mut there = BTreeSet::new();
        // From the oldest.
        for entry in drift.iter().rev() {
            let path = entry.path.display();
            let told = match &entry.outcome {
                Outcome::Healed { how, took } => {
                    let by = entry
                        .by
                        .as_ref()
                        .map_or_else(String::new, |by| format!(" (by {by})"));
                    let took = took.as_secs_f64() * 1000.0;
                    Some((
                        "DriftHealed",
                        format!("{path} {}{by}; {how} within {took:.1} ms", entry.what),
                    ))
                }
                Outcome::Open { .. } if !mends => Some(("Drift", format!("{path} {}", entry.what))),
                Outcome::Open { .. } | Outcome::Gone { .. } => None,
            };
            let Some((reason, message)) = told else {
                continue;
            };
            there.insert(entry.id);
            if self.begun && !self.seen.contains(&entry.id) {
                self.happened((reason, path.to_string()), message, now, time);
            }
        }
        self.seen = there;
        self.begun = true;
        let conflict = checks
            .iter()
            .find(|check| check.name == CheckName::Conflict);
        let lines = conflict.map_or_else(Vec::new, |check| check.failures.clone());
        for line in &lines {
            if !self.conflicts.contains(line) {
                self.happened(("Conflict", line.clone()), line.clone(), now, time);
            }
        }
        self.conflicts = lines;
    }

    fn happened(&mut self, key: Key, message: String, now: Instant, time: SystemTime) {
        self.series
            .retain(|_, series| series.count > series.told || now < series.touched + OLD);
        if self.series.len() >= MOST && !self.series.contains_key(&key) {
            tracing::debug!(
                reason = key.0,
                "too many things happen for an Event each: {message}"
            );
            return;
        }
        let series = self.series.entry(key).or_insert_with(|| Series {
            name: None,
            message: String::new(),
            count: 0,
            told: 0,
            first: time,
            last: time,
            at: None,
            touched: now,
        });
        series.count += 1;
        series.last = time;
        series.touched = now;
        series.message = clip(&message, LONGEST_MESSAGE).into_owned();
    }

    /// When something is to be told next.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        Some(self.first_due(now)?.0)
    }

    fn first_due(&self, now: Instant) -> Option<(Instant, &Key, &Series)> {
        // A token is there as long as it takes less than the whole bucket to fill it.
        let token = self.full.map_or(now, |full| {
            full.checked_sub(REFILL * (BURST - 1)).unwrap_or(now)
        });
        let due = |series: &Series| series.at.map_or(now, |at| at + SAME).max(token);
        let untold = self
            .series
            .iter()
            .filter(|(_, series)| series.count > series.told);
        untold
            .map(|(key, series)| (self.pause.not_before(due(series)), key, series))
            .min_by_key(|(due, key, _)| (*due, *key))
    }

    /// What to tell now, if anything is due. `node` is the node's name.
    #[must_use]
    pub fn next(&self, node: &str, now: Instant) -> Option<Announcement> {
        let (due, key, series) = self.first_due(now)?;
        if due > now {
            return None;
        }
        let time = |time| humantime::format_rfc3339_seconds(time).to_string();
        let exists = series.name.is_some();
        let name = series
            .name
            .clone()
            .unwrap_or_else(|| name(node, series.last));
        let mut body = json!({
            "message": series.message,
            "count": series.count,
            "lastTimestamp": time(series.last),
        });
        if !exists {
            let more = json!({
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": NAMESPACE},
                // The uid is the name, as kubelet has it: `kubectl describe node` looks for that.
                "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
                "reason": key.0,
                "type": if key.0 == "DriftHealed" { "Normal" } else { "Warning" },
                "source": {"component": "cni-keeper", "host": node},
                "reportingComponent": "cni-keeper",
                "reportingInstance": node,
                "firstTimestamp": time(series.first),
            });
            if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
                body.extend(more);
            }
        }
        Some(Announcement {
            key: key.clone(),
            count: series.count,
            name,
            exists,
            body,
        })
    }

    /// Takes in that it was told.
    pub fn told(&mut self, announcement: &Announcement, now: Instant) {
        self.pause.ended(true, now, 0);
        self.full = Some(self.full.unwrap_or(now).max(now) + REFILL);
        if let Some(series) = self.series.get_mut(&announcement.key) {
            series.told = announcement.count;
            series.name = Some(announcement.name.clone());
            series.at = Some(now);
        }
    }

    /// Takes in that its Event is not there any more: another one is made.
    pub fn expired(&mut self, announcement: &Announcement) {
        if let Some(series) = self.series.get_mut(&announcement.key) {
            series.name = None;
            series.count -= series.told;
            series.told = 0;
            series.first = series.last;
        }
    }

    /// Takes in that it could not be told. `random` spreads the next try.
    pub fn failed(&mut self, now: Instant, random: u64) {
        self.pause.ended(false, now, random);
    }
}

/// A name that no other Event has: the node's, and the time as kubelet appends it.
fn name(node: &str, time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let node = node.get(..LONGEST_NAME).unwrap_or(node);
    format!(
        "{}.{:x}",
        node.trim_end_matches(['.', '-']),
        since.as_nanos()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    const TIME: SystemTime = SystemTime::UNIX_EPOCH;

    fn healed(id: u64, path: &str) -> Arc<DriftEntry> {
        Arc::new(DriftEntry {
            id,
            at: Timestamp(TIME),
            path: path.into(),
            kind: "missing",
            what: "is missing".to_owned(),
            before: "absent".to_owned(),
            after: None,
            outcome: Outcome::Healed {
                how: "placed from the store",
                took: Duration::from_micros(1_500),
            },
            times: 1,
            by: None,
        })
    }

    /// Events that have seen an empty log.
    fn begun() -> Events {
        let mut events = Events::default();
        events.see(&[], &[], true, Instant::now(), TIME);
        events
    }

    #[test]
    fn the_first_time_is_told_at_once_and_the_others_are_counted() {
        let now = Instant::now();
        let mut events = begun();
        let mut log = vec![healed(1, "/b/x")];
        events.see(&log, &[], true, now, TIME);
        events.see(&log, &[], true, now, TIME);
        let first = events.next("n1", now).unwrap();
        assert!(!first.exists);
        assert_eq!(
            first.body["message"],
            "/b/x is missing; placed from the store within 1.5 ms"
        );
        assert_eq!(first.body["reason"], "DriftHealed");
        assert_eq!(first.body["count"], 1);
        assert_eq!(first.body["involvedObject"]["uid"], "n1");
        events.told(&first, now);
        assert_eq!(events.next("n1", now), None);
        for id in 2..50 {
            log.insert(0, healed(id, "/b/x"));
            events.see(&log, &[], true, now, TIME);
        }
        assert_eq!(events.due(now), Some(now + SAME));
        let again = events.next("n1", now + SAME).unwrap();
        assert!(again.exists);
        assert_eq!(again.name, first.name);
        assert_eq!(again.body["count"], 49);
        assert_eq!(again.body.get("metadata"), None);
        // It has expired meanwhile: what was not told of yet is told in another one.
        events.expired(&again);
        let anew = events.next("n1", now + SAME).unwrap();
        assert!(!anew.exists);
        assert_eq!(anew.body["count"], 48);
    }

    #[test]
    fn what_was_there_before_is_not_told_again() {
        let now = Instant::now();
        let mut events = Events::default();
        events.see(&[healed(1, "/b/x")], &[], true, now, TIME);
        assert_eq!(events.due(now), None);
    }

    #[test]
    fn a_conflict_is_told_when_it_begins() {
        let now = Instant::now();
        let mut events = begun();
        let check = Check {
            failures: vec!["another writer keeps undoing".to_owned()],
            ..Check::new(CheckName::Conflict)
        };
        events.see(&[], std::slice::from_ref(&check), true, now, TIME);
        events.see(&[], std::slice::from_ref(&check), true, now, TIME);
        let told = events.next("n1", now).unwrap();
        assert_eq!(
            (&told.body["reason"], &told.body["count"]),
            (&json!("Conflict"), &json!(1))
        );
        assert_eq!(told.body["type"], "Warning");
    }

    #[test]
    fn drift_that_is_not_mended_is_told_where_nothing_is_mended() {
        let now = Instant::now();
        let mut entry = DriftEntry::clone(&healed(1, "/b/x"));
        entry.outcome = Outcome::Open { waiting: None };
        let log = [Arc::new(entry)];
        let mut events = begun();
        events.see(&log, &[], true, now, TIME);
        assert_eq!(events.due(now), None);
        events.see(&log, &[], false, now, TIME);
        assert_eq!(events.next("n1", now).unwrap().body["reason"], "Drift");
    }

    /// A node on which everything goes wrong at once does not flood its cluster.
    #[test]
    fn many_files_share_a_bucket() {
        let start = Instant::now();
        let mut events = begun();
        let log: Vec<_> = (1..=200)
            .map(|id| healed(id, &format!("/b/{id}")))
            .collect();
        events.see(&log, &[], true, start, TIME);
        let mut told = 0;
        let tell_all = |events: &mut Events, now: Instant| {
            let mut told = 0;
            while let Some(next) = events.next("n1", now) {
                events.told(&next, now);
                told += 1;
            }
            told
        };
        told += tell_all(&mut events, start);
        assert_eq!(told, BURST);
        assert_eq!(events.due(start), Some(start + REFILL));
        told += tell_all(&mut events, start + REFILL * 3);
        assert_eq!(told, BURST + 3);
        told += tell_all(&mut events, start + REFILL * 1000);
        assert_eq!(told, BURST * 2 + 3);
        assert_eq!(events.series.len(), MOST);
    }

    #[test]
    fn a_failure_makes_all_of_them_wait() {
        let now = Instant::now();
        let mut events = begun();
        events.see(&[healed(1, "/b/x")], &[], true, now, TIME);
        events.failed(now, u64::MAX);
        assert_eq!(events.next("n1", now), None);
        assert_eq!(events.due(now), Some(now + Duration::from_secs(1)));
    }
}
