//! The node condition `cni-keeper.dev/Ready`: what it says, and when that is written. Pure: the time is handed in.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::Node;
use super::pause::{Pause, spread_period};
use crate::model::{Check, CheckName, clip};

/// Its type.
const TYPE: &str = "cni-keeper.dev/Ready";
/// For how long the node must have been not ready: what is healed by then is in the Events, and nobody's concern.
const SETTLED: Duration = Duration::from_secs(1);
/// The shortest time between two writes that differ in words only.
const REWORDED: Duration = Duration::from_secs(10);
/// The time between two writes of the same.
const HEARTBEAT: Duration = Duration::from_secs(300);
/// How long the message may be, in bytes. The whole answer is on the node.
const LONGEST_MESSAGE: usize = 1024;

/// What is said and when.
#[derive(Debug, Default)]
pub struct Condition {
    wanted: Option<(Content, Instant)>,
    /// What was written last, and when it is due again if nothing changes.
    written: Option<(Content, Instant, Instant)>,
    /// The status as the API server has it, and since when. `None` where it has none.
    there: Option<(bool, String)>,
    /// The same as it was told last, whether or not it came through.
    told: Option<(bool, String)>,
    /// Whether it is known what the API server has.
    is_known: bool,
    pause: Pause,
}

/// What a condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    ready: bool,
    reason: &'static str,
    message: String,
}

impl Condition {
    /// Takes in how the node stands, as of a look at the disk.
    pub fn see(&mut self, checks: &[Check], now: Instant) {
        let content = Content::of(checks);
        let turned = self
            .wanted
            .as_ref()
            .is_none_or(|(had, _)| had.ready != content.ready);
        let since = match &self.wanted {
            Some((_, since)) if !turned => *since,
            _ => now,
        };
        self.wanted = Some((content, since));
    }

    /// When it is to be written next.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let (wanted, since) = self.wanted.as_ref()?;
        let settled = match wanted.ready {
            true => *since,
            false => *since + SETTLED,
        };
        let due = match &self.written {
            None => settled,
            Some((written, ..)) if written.ready != wanted.ready => settled,
            Some((written, at, _)) if written != wanted => settled.max(*at + REWORDED),
            Some((_, _, next)) => *next,
        };
        Some(self.pause.not_before(due))
    }

    /// Whether the API server has to be asked what it has before anything is written.
    #[must_use]
    pub const fn asks(&self) -> bool {
        !self.is_known
    }

    /// Takes in what the API server has: since when the node has been what it is outlives this agent.
    pub fn learn(&mut self, node: &Node) {
        let mut conditions = node.status.conditions.iter();
        let ours = conditions.find(|condition| condition.kind == TYPE);
        self.there = ours.and_then(|ours| {
            let since = ours.last_transition_time.clone()?;
            let ready = match ours.status.as_str() {
                "True" => true,
                "False" => false,
                _ => return None,
            };
            Some((ready, since))
        });
        self.is_known = true;
    }

    /// What to merge into the node's status; the API server merges conditions by their type.
    pub fn patch(&mut self, time: SystemTime) -> Option<Value> {
        let (wanted, _) = self.wanted.as_ref()?;
        let now = humantime::format_rfc3339_seconds(time).to_string();
        let is_same = |known: &&(bool, String)| known.0 == wanted.ready;
        let there = self.there.as_ref().filter(is_same);
        let known = there.or_else(|| self.told.as_ref().filter(is_same));
        let since = known.map_or_else(|| now.clone(), |(_, since)| since.clone());
        self.told = Some((wanted.ready, since.clone()));
        Some(json!({"status": {"conditions": [{
            "type": TYPE,
            "status": if wanted.ready { "True" } else { "False" },
            "reason": wanted.reason,
            "message": wanted.message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": since,
        }]}}))
    }

    /// Takes in whether what was wanted when [`Condition::patch`] was asked for is written now, or why there is a
    /// pause. `random` spreads heartbeats.
    pub fn ended(&mut self, worked: bool, now: Instant, random: u64) {
        self.pause.ended(worked, now, random);
        if worked && let Some((wanted, _)) = &self.wanted {
            let next = now + spread_period(HEARTBEAT, random);
            self.written = Some((wanted.clone(), now, next));
            self.there.clone_from(&self.told);
        }
    }
}

impl Content {
    fn of(checks: &[Check]) -> Self {
        let failed = |check: &&Check| !check.failures.is_empty();
        let failed: Vec<&Check> = checks.iter().filter(failed).collect();
        // A conflist that waits for its gates is not written: they are the reason.
        let gates = failed.iter().find(|check| check.name == CheckName::Gates);
        let first = failed.first().map(|first| match first.name {
            CheckName::Conflist => gates.unwrap_or(first),
            _ => first,
        });
        let Some(first) = first else {
            return Self {
                ready: true,
                reason: "AsDeclared",
                message: "plugins and conflist are as declared".to_owned(),
            };
        };
        let mut message = String::new();
        for check in &failed {
            for failure in &check.failures {
                let separator = if message.is_empty() { "" } else { "\n" };
                message += &format!("{separator}{}: {failure}", check.name);
            }
        }
        Self {
            ready: false,
            reason: reason(first.name),
            message: clip(&message, LONGEST_MESSAGE).into_owned(),
        }
    }
}

/// The reason for a failed check, in the form that the API server demands: one word without signs.
fn reason(check: CheckName) -> &'static str {
    match check {
        CheckName::Config => "ConfigurationRefused",
        CheckName::Binaries => "PluginsNotAsDeclared",
        CheckName::Conflist => "ConflistNotAsDeclared",
        CheckName::Precedence => "ConflistNotEffective",
        CheckName::Plugins => "PluginsUnusable",
        CheckName::Gates => "Waiting",
        CheckName::Conflict => "Conflict",
        CheckName::Runtime => "RuntimeNotLoaded",
        CheckName::Watch | CheckName::Look | CheckName::Loop | CheckName::Unknown => {
            "NotAsDeclared"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Vec<Check> {
        vec![
            Check::new(CheckName::Config),
            Check::new(CheckName::Binaries),
        ]
    }

    fn failing(name: CheckName, failures: &[&str]) -> Vec<Check> {
        let failures = failures.iter().map(ToString::to_string).collect();
        let check = Check {
            failures,
            ..Check::new(name)
        };
        vec![Check::new(CheckName::Config), check]
    }

    /// A condition that is written as ready.
    fn written(now: Instant) -> Condition {
        let mut condition = Condition::default();
        condition.see(&ready(), now);
        assert_eq!(condition.due(), Some(now), "the first word is said at once");
        condition.learn(&Node::default());
        condition.patch(SystemTime::UNIX_EPOCH).unwrap();
        condition.ended(true, now, 1 << 63);
        condition
    }

    fn shown(patch: &Value) -> String {
        let condition = &patch["status"]["conditions"][0];
        let field = |name: &str| condition[name].as_str().unwrap().to_owned();
        [
            "status",
            "reason",
            "message",
            "lastHeartbeatTime",
            "lastTransitionTime",
        ]
        .map(field)
        .join("|")
    }

    #[test]
    fn the_same_is_said_again_every_five_minutes() {
        let now = Instant::now();
        let mut condition = written(now);
        condition.see(&ready(), now + Duration::from_secs(7));
        assert_eq!(condition.due(), Some(now + HEARTBEAT));
        condition.ended(true, now, 0);
        assert_eq!(condition.due(), Some(now + HEARTBEAT * 9 / 10));
    }

    #[test]
    fn what_is_healed_within_a_second_is_not_told() {
        let start = Instant::now();
        let mut condition = written(start);
        let now = start + Duration::from_secs(1);
        condition.see(&failing(CheckName::Binaries, &["x is missing"]), now);
        assert_eq!(condition.due(), Some(now + SETTLED));
        condition.see(&ready(), now + Duration::from_millis(3));
        assert_eq!(condition.due(), Some(start + HEARTBEAT));
    }

    #[test]
    fn a_change_is_told_with_its_time_and_words_are_not_told_too_often() {
        let start = Instant::now();
        let mut condition = written(start);
        condition.see(&failing(CheckName::Binaries, &["x is missing"]), start);
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        let patch = condition.patch(day).unwrap();
        assert_eq!(
            shown(&patch),
            "False|PluginsNotAsDeclared|binaries: x is missing|1970-01-02T00:00:00Z|1970-01-02T00:00:00Z"
        );
        condition.ended(true, start, 1 << 63);
        condition.see(&failing(CheckName::Binaries, &["y is missing"]), start);
        assert_eq!(condition.due(), Some(start + REWORDED));
        let patch = condition.patch(day + Duration::from_secs(60)).unwrap();
        assert!(shown(&patch).ends_with("|1970-01-02T00:01:00Z|1970-01-02T00:00:00Z"));
        condition.ended(true, start, 1 << 63);
        condition.see(&ready(), start + Duration::from_secs(2));
        assert_eq!(condition.due(), Some(start + Duration::from_secs(2)));
    }

    #[test]
    fn since_when_it_is_so_outlives_the_agent() {
        let node = |status: &str| {
            serde_json::from_value(json!({"status": {"conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"},
                {"type": TYPE, "status": status, "lastTransitionTime": "2021-01-01T00:00:00Z"},
            ]}}))
            .unwrap()
        };
        for (status, since) in [
            ("True", "2021-01-01T00:00:00Z"),
            ("False", "1970-01-01T00:00:00Z"),
            ("Unknown", "1970-01-01T00:00:00Z"),
        ] {
            let mut condition = Condition::default();
            condition.see(&ready(), Instant::now());
            assert!(condition.asks());
            condition.learn(&node(status));
            assert!(!condition.asks());
            let patch = condition.patch(SystemTime::UNIX_EPOCH).unwrap();
            assert!(shown(&patch).ends_with(since), "{status}: {patch}");
        }
    }

    #[test]
    fn after_a_failure_there_is_a_pause_whatever_changes() {
        let now = Instant::now();
        let mut condition = written(now);
        condition.see(&failing(CheckName::Gates, &["no"]), now);
        for _ in 0..4 {
            condition.ended(false, now, u64::MAX);
        }
        assert_eq!(condition.due(), Some(now + Duration::from_secs(8)));
        condition.see(&ready(), now);
        assert_eq!(
            condition.due(),
            Some(now + HEARTBEAT),
            "what is written is true again"
        );
    }

    #[test]
    fn a_conflist_that_waits_for_its_gates_is_told_as_waiting() {
        let mut checks = failing(CheckName::Conflist, &["x is missing"]);
        assert_eq!(Content::of(&checks).reason, "ConflistNotAsDeclared");
        checks.extend(failing(CheckName::Gates, &["y does not exist"]));
        let content = Content::of(&checks);
        assert_eq!(content.reason, "Waiting");
        assert_eq!(
            content.message,
            "conflist: x is missing\ngates: y does not exist"
        );
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let long = "é".repeat(LONGEST_MESSAGE);
        let content = Content::of(&failing(CheckName::Conflist, &[&long]));
        assert!(content.message.len() <= LONGEST_MESSAGE);
        assert!(content.message.ends_with("é…"));
    }
}
