//! The Events of the node for drift and conflicts: what they say, and how many of them are sent. Pure: time is an
//! argument.
//!
//! - Repeated drift of one file is one Event with a counter. It is sent at once the first time, and after that at most
//!   every five minutes.
//! - All Events together are limited by a token bucket, so that a broken node does not load its cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::failure_pause::FailurePause;
use crate::model::{Check, CheckName, DriftRecord, Outcome, escape_name};

/// The namespace for Events of nodes, the same as kubelet's: a node has no namespace of its own.
pub const EVENT_NAMESPACE: &str = "default";

/// The shortest time between two Events about the same file.
const REPEAT_PERIOD: Duration = Duration::from_secs(300);
/// How many Events may be sent at once, and after how long one more may.
const MAX_BURST: u32 = 10;
const REFILL_PERIOD: Duration = Duration::from_secs(30);
/// How many Events are counted separately. Further ones are dropped until one of these is old.
const MAX_SERIES: usize = 64;
/// After how long without a repetition a series is forgotten. By default the API server deletes an Event after an hour.
const SERIES_TTL: Duration = Duration::from_secs(3600);
/// How long a message may be, in bytes (`core.Event` of newer API servers).
const MAX_MESSAGE_BYTES: usize = 1000;
/// How much of the node's name is at the beginning of an Event's name, in bytes.
const MAX_NAME_PREFIX_BYTES: usize = 200;

/// The Events that are to be sent, and those that were.
#[derive(Debug, Default)]
pub struct EventReporter {
    /// The drift records that were counted already.
    seen: BTreeSet<u64>,
    /// Whether a status was observed before. What the first one contains is older than this agent's Events.
    has_begun: bool,
    conflicts: Vec<String>,
    series: BTreeMap<EventKey, EventSeries>,
    /// When the token bucket will be full again, at one token in each [`REFILL_PERIOD`].
    bucket_full_at: Option<Instant>,
    pause: FailurePause,
}

/// Its reason, and the file or the message.
type EventKey = (&'static str, String);

/// The repetitions of one Event.
#[derive(Debug, Clone)]
struct EventSeries {
    /// The name of the Event in the API, once it was created.
    event_name: Option<String>,
    message: String,
    count: u64,
    sent_count: u64,
    first: SystemTime,
    last: SystemTime,
    /// When it was last sent.
    sent_at: Option<Instant>,
    /// When it last happened.
    happened_at: Instant,
}

/// One Event to be created or patched.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRequest {
    key: EventKey,
    count: u64,
    pub name: String,
    /// Whether the Event exists already, so that `body` is merged into it.
    pub exists: bool,
    /// The Event, or the patch.
    pub body: Value,
}

impl EventReporter {
    /// Records what is new in the drift log and the checks. `heals` says whether drift is repaired at all. If it is
    /// not, open drift gives Events as well.
    pub fn observe_status(
        &mut self,
        drift: &[Arc<DriftRecord>],
        checks: &[Check],
        heals: bool,
        now: Instant,
        time: SystemTime,
    ) {
        let mut present = BTreeSet::new();
        // From the oldest.
        for entry in drift.iter().rev() {
            let path = entry.path.display();
            let event = match &entry.outcome {
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
                Outcome::Open { .. } if !heals => Some(("Drift", format!("{path} {}", entry.what))),
                Outcome::Open { .. } | Outcome::Gone { .. } => None,
            };
            let Some((reason, message)) = event else {
                continue;
            };
            present.insert(entry.id);
            if self.has_begun && !self.seen.contains(&entry.id) {
                self.count_occurrence((reason, path.to_string()), &message, now, time);
            }
        }
        self.seen = present;
        self.has_begun = true;
        let conflict = checks
            .iter()
            .find(|check| check.name == CheckName::Conflict);
        let lines = conflict.map_or_else(Vec::new, |check| check.failures.clone());
        for line in &lines {
            if !self.conflicts.contains(line) {
                self.count_occurrence(("Conflict", line.clone()), line, now, time);
            }
        }
        self.conflicts = lines;
    }

    fn count_occurrence(&mut self, key: EventKey, message: &str, now: Instant, time: SystemTime) {
        self.series.retain(|_, series| {
            series.count > series.sent_count || now < series.happened_at + SERIES_TTL
        });
        if self.series.len() >= MAX_SERIES && !self.series.contains_key(&key) {
            tracing::debug!(
                reason = key.0,
                "too many different Events, this one is dropped: {message}"
            );
            return;
        }
        let series = self.series.entry(key).or_insert_with(|| EventSeries {
            event_name: None,
            message: String::new(),
            count: 0,
            sent_count: 0,
            first: time,
            last: time,
            sent_at: None,
            happened_at: now,
        });
        series.count += 1;
        series.last = time;
        series.happened_at = now;
        series.message = escape_name(message, MAX_MESSAGE_BYTES);
    }

    /// When an Event is to be sent next.
    #[must_use]
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        Some(self.first_due(now)?.0)
    }

    fn first_due(&self, now: Instant) -> Option<(Instant, &EventKey, &EventSeries)> {
        // A token is left if filling the bucket would take less time than filling an empty one.
        let token = self.bucket_full_at.map_or(now, |full| {
            full.checked_sub(REFILL_PERIOD * (MAX_BURST - 1))
                .unwrap_or(now)
        });
        let due = |series: &EventSeries| {
            series
                .sent_at
                .map_or(now, |at| at + REPEAT_PERIOD)
                .max(token)
        };
        let unsent = self
            .series
            .iter()
            .filter(|(_, series)| series.count > series.sent_count);
        unsent
            .map(|(key, series)| (self.pause.delay_until_allowed(due(series)), key, series))
            .min_by_key(|(due, key, _)| (*due, *key))
    }

    /// The Event to send now, if one is due. `node` is the node's name.
    #[must_use]
    pub fn next_request(&self, node: &str, now: Instant) -> Option<EventRequest> {
        let (due, key, series) = self.first_due(now)?;
        if due > now {
            return None;
        }
        let time = |time| humantime::format_rfc3339_seconds(time).to_string();
        let exists = series.event_name.is_some();
        let name = series
            .event_name
            .clone()
            .unwrap_or_else(|| new_event_name(node, series.last));
        let mut body = json!({
            "message": series.message,
            "count": series.count,
            "lastTimestamp": time(series.last),
        });
        if !exists {
            let more = json!({
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": EVENT_NAMESPACE},
                // The uid is the name, as in kubelet's Events: `kubectl describe node` looks for that.
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
        Some(EventRequest {
            key: key.clone(),
            count: series.count,
            name,
            exists,
            body,
        })
    }

    /// Records that an Event was sent.
    pub fn record_sent(&mut self, request: &EventRequest, now: Instant) {
        self.pause.record_outcome(true, now, 0);
        self.bucket_full_at = Some(self.bucket_full_at.unwrap_or(now).max(now) + REFILL_PERIOD);
        if let Some(series) = self.series.get_mut(&request.key) {
            series.sent_count = request.count;
            series.event_name = Some(request.name.clone());
            series.sent_at = Some(now);
        }
    }

    /// Records that an Event no longer exists, so that a new one is created.
    pub fn record_expired(&mut self, request: &EventRequest) {
        if let Some(series) = self.series.get_mut(&request.key) {
            series.event_name = None;
            series.count -= series.sent_count;
            series.sent_count = 0;
            series.first = series.last;
        }
    }

    /// Records that an Event could not be sent. `random` spreads the next try.
    pub fn record_failure(&mut self, now: Instant, random: u64) {
        self.pause.record_outcome(false, now, random);
    }
}

/// A unique name for an Event: the node's name, and the time in the form that kubelet uses.
fn new_event_name(node: &str, time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let node = node.get(..MAX_NAME_PREFIX_BYTES).unwrap_or(node);
    format!(
        "{}.{:x}",
        node.trim_end_matches(['.', '-']),
        since.as_nanos()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DriftKind, Timestamp};

    const TIME: SystemTime = SystemTime::UNIX_EPOCH;

    fn healed(id: u64, path: &str) -> Arc<DriftRecord> {
        Arc::new(DriftRecord {
            id,
            at: Timestamp(TIME),
            path: path.into(),
            kind: DriftKind::Missing,
            what: "is missing".to_owned(),
            before: "absent".to_owned(),
            after: None,
            outcome: Outcome::Healed {
                how: "placed from the store".into(),
                took: Duration::from_micros(1_500),
            },
            times: 1,
            by: None,
        })
    }

    /// An `EventReporter` that has seen an empty log.
    fn begun() -> EventReporter {
        let mut events = EventReporter::default();
        events.observe_status(&[], &[], true, Instant::now(), TIME);
        events
    }

    #[test]
    fn the_first_time_is_reported_at_once_and_the_others_are_counted() {
        let now = Instant::now();
        let mut events = begun();
        let mut log = vec![healed(1, "/b/x")];
        events.observe_status(&log, &[], true, now, TIME);
        events.observe_status(&log, &[], true, now, TIME);
        let first = events.next_request("n1", now).unwrap();
        assert!(!first.exists);
        assert_eq!(
            first.body["message"],
            "/b/x is missing; placed from the store within 1.5 ms"
        );
        assert_eq!(first.body["reason"], "DriftHealed");
        assert_eq!(first.body["count"], 1);
        assert_eq!(first.body["involvedObject"]["uid"], "n1");
        events.record_sent(&first, now);
        assert_eq!(events.next_request("n1", now), None);
        for id in 2..50 {
            log.insert(0, healed(id, "/b/x"));
            events.observe_status(&log, &[], true, now, TIME);
        }
        assert_eq!(events.next_due(now), Some(now + REPEAT_PERIOD));
        let again = events.next_request("n1", now + REPEAT_PERIOD).unwrap();
        assert!(again.exists);
        assert_eq!(again.name, first.name);
        assert_eq!(again.body["count"], 49);
        assert_eq!(again.body.get("metadata"), None);
        // The event has expired meanwhile: what it does not count yet goes into a new one.
        events.record_expired(&again);
        let anew = events.next_request("n1", now + REPEAT_PERIOD).unwrap();
        assert!(!anew.exists);
        assert_eq!(anew.body["count"], 48);
    }

    #[test]
    fn what_was_there_before_is_not_reported_again() {
        let now = Instant::now();
        let mut events = EventReporter::default();
        events.observe_status(&[healed(1, "/b/x")], &[], true, now, TIME);
        assert_eq!(events.next_due(now), None);
    }

    #[test]
    fn a_conflict_is_reported_when_it_begins() {
        let now = Instant::now();
        let mut events = begun();
        let check = Check {
            failures: vec!["another writer keeps undoing".to_owned()],
            ..Check::new(CheckName::Conflict)
        };
        events.observe_status(&[], std::slice::from_ref(&check), true, now, TIME);
        events.observe_status(&[], std::slice::from_ref(&check), true, now, TIME);
        let reported = events.next_request("n1", now).unwrap();
        assert_eq!(
            (&reported.body["reason"], &reported.body["count"]),
            (&json!("Conflict"), &json!(1))
        );
        assert_eq!(reported.body["type"], "Warning");
    }

    #[test]
    fn drift_that_is_not_fixed_is_reported_where_nothing_is_fixed() {
        let now = Instant::now();
        let mut entry = DriftRecord::clone(&healed(1, "/b/x"));
        entry.outcome = Outcome::Open { waiting: None };
        let log = [Arc::new(entry)];
        let mut events = begun();
        events.observe_status(&log, &[], true, now, TIME);
        assert_eq!(events.next_due(now), None);
        events.observe_status(&log, &[], false, now, TIME);
        assert_eq!(
            events.next_request("n1", now).unwrap().body["reason"],
            "Drift"
        );
    }

    /// A node on which everything goes wrong at once does not flood its cluster.
    #[test]
    fn many_files_share_a_bucket() {
        let start = Instant::now();
        let mut events = begun();
        let log: Vec<_> = (1..=200)
            .map(|id| healed(id, &format!("/b/{id}")))
            .collect();
        events.observe_status(&log, &[], true, start, TIME);
        let mut reported = 0;
        let tell_all = |events: &mut EventReporter, now: Instant| {
            let mut reported = 0;
            while let Some(next) = events.next_request("n1", now) {
                events.record_sent(&next, now);
                reported += 1;
            }
            reported
        };
        reported += tell_all(&mut events, start);
        assert_eq!(reported, MAX_BURST);
        assert_eq!(events.next_due(start), Some(start + REFILL_PERIOD));
        reported += tell_all(&mut events, start + REFILL_PERIOD * 3);
        assert_eq!(reported, MAX_BURST + 3);
        reported += tell_all(&mut events, start + REFILL_PERIOD * 1000);
        assert_eq!(reported, MAX_BURST * 2 + 3);
        assert_eq!(events.series.len(), MAX_SERIES);
    }

    #[test]
    fn a_failure_makes_all_of_them_wait() {
        let now = Instant::now();
        let mut events = begun();
        events.observe_status(&[healed(1, "/b/x")], &[], true, now, TIME);
        events.record_failure(now, u64::MAX);
        assert_eq!(events.next_request("n1", now), None);
        assert_eq!(events.next_due(now), Some(now + Duration::from_secs(1)));
    }
}
