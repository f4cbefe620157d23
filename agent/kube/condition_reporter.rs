//! The node condition `cni-keeper.dev/Ready`: what it says and when it is written. Pure: time is an argument.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::failure_pause::{FailurePause, spread_period};
use crate::model::{Check, CheckName, NodeObject, clip, escape_controls, escape_name};

const CONDITION_TYPE: &str = "cni-keeper.dev/Ready";
/// How long the node must have been not ready before that is written. What is healed earlier appears in the Events only.
const NOT_READY_DELAY: Duration = Duration::from_secs(1);
/// The shortest time between two writes that differ in reason or message only.
const REWORD_PERIOD: Duration = Duration::from_secs(10);
/// The time between two writes of the same content.
const HEARTBEAT_PERIOD: Duration = Duration::from_secs(300);
/// How long the message may be, in bytes. The agent on the node serves all of it.
const MAX_MESSAGE_BYTES: usize = 1024;

/// What the condition is to say, what was written last, and when it is written next.
#[derive(Debug, Default)]
pub struct ConditionReporter {
    wanted: Option<(ConditionContent, Instant)>,
    /// What was written last, and when it is due again if nothing changes.
    written: Option<(ConditionContent, Instant, Instant)>,
    /// The status that the API server has, and since when. `None` if it has none.
    on_server: Option<(bool, String)>,
    /// The status that was sent last, whether or not it arrived.
    sent: Option<(bool, String)>,
    /// Whether the API server was asked what it has.
    is_server_known: bool,
    pause: FailurePause,
}

/// What a condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ConditionContent {
    ready: bool,
    reason: &'static str,
    message: String,
}

impl ConditionReporter {
    /// Records what the checks say now.
    pub fn observe_checks(&mut self, checks: &[Check], now: Instant) {
        let content = ConditionContent::from_checks(checks);
        let has_flipped = self
            .wanted
            .as_ref()
            .is_none_or(|(had, _)| had.ready != content.ready);
        let since = match &self.wanted {
            Some((_, since)) if !has_flipped => *since,
            _ => now,
        };
        self.wanted = Some((content, since));
    }

    /// When the condition is to be written next.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let (wanted, since) = self.wanted.as_ref()?;
        let settled = match wanted.ready {
            true => *since,
            false => *since + NOT_READY_DELAY,
        };
        let due = match &self.written {
            None => settled,
            Some((written, ..)) if written.ready != wanted.ready => settled,
            Some((written, at, _)) if written != wanted => settled.max(*at + REWORD_PERIOD),
            Some((_, _, next)) => *next,
        };
        Some(self.pause.delay_until_allowed(due))
    }

    /// Whether the node object has to be read before anything is written.
    #[must_use]
    pub const fn needs_node(&self) -> bool {
        !self.is_server_known
    }

    /// Records the condition that the API server has. Its time of the last transition must not change when this agent
    /// restarts.
    pub fn observe_node(&mut self, node: &NodeObject) {
        let mut conditions = node.status.conditions.iter();
        let ours = conditions.find(|condition| condition.kind == CONDITION_TYPE);
        self.on_server = ours.and_then(|ours| {
            let since = ours.last_transition_time.clone()?;
            let ready = match ours.status.as_str() {
                "True" => true,
                "False" => false,
                _ => return None,
            };
            Some((ready, since))
        });
        self.is_server_known = true;
    }

    /// The patch to merge into the node's status. The API server merges conditions by their type.
    pub fn build_patch(&mut self, time: SystemTime) -> Option<Value> {
        let (wanted, _) = self.wanted.as_ref()?;
        let now = humantime::format_rfc3339_seconds(time).to_string();
        let is_same = |known: &&(bool, String)| known.0 == wanted.ready;
        let on_server = self.on_server.as_ref().filter(is_same);
        let known = on_server.or_else(|| self.sent.as_ref().filter(is_same));
        let since = known.map_or_else(|| now.clone(), |(_, since)| since.clone());
        self.sent = Some((wanted.ready, since.clone()));
        Some(json!({"status": {"conditions": [{
            "type": CONDITION_TYPE,
            "status": if wanted.ready { "True" } else { "False" },
            "reason": wanted.reason,
            "message": wanted.message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": since,
        }]}}))
    }

    /// Records whether the patch of [`ConditionReporter::build_patch`] was written. `random` spreads the heartbeats of a
    /// cluster's nodes.
    pub fn record_outcome(&mut self, worked: bool, now: Instant, random: u64) {
        self.pause.record_outcome(worked, now, random);
        if worked && let Some((wanted, _)) = &self.wanted {
            let next = now + spread_period(HEARTBEAT_PERIOD, random);
            self.written = Some((wanted.clone(), now, next));
            self.on_server.clone_from(&self.sent);
        }
    }
}

impl ConditionContent {
    fn from_checks(checks: &[Check]) -> Self {
        let failed = |check: &&Check| !check.failures.is_empty();
        let failed: Vec<&Check> = checks.iter().filter(failed).collect();
        // A conflist that waits for its gates is not written. Then the gates are the reason.
        let gates = failed.iter().find(|check| check.name == CheckName::Gates);
        let first = failed.first().map(|first| match first.name {
            CheckName::Conflist => gates.unwrap_or(first),
            _ => first,
        });
        let Some(first) = first else {
            let mut message = "plugins and conflist are as declared".to_owned();
            // The node is right, and whoever asks the endpoint gets no answer or somebody else's.
            let endpoint = checks
                .iter()
                .filter(|check| check.name == CheckName::Endpoint);
            for warning in endpoint.flat_map(|check| &check.warnings) {
                message += &format!("; {}: {warning}", CheckName::Endpoint);
            }
            return Self {
                ready: true,
                reason: "AsDeclared",
                message: escape_name(&message, MAX_MESSAGE_BYTES),
            };
        };
        let mut message = String::new();
        for check in &failed {
            for failure in &check.failures {
                let separator = if message.is_empty() { "" } else { "\n" };
                message += &format!("{separator}{}: {}", check.name, escape_controls(failure));
            }
        }
        Self {
            ready: false,
            reason: reason_of_check(first.name),
            message: clip(&message, MAX_MESSAGE_BYTES).into_owned(),
        }
    }
}

/// The condition's reason for a failed check, in the form that the API server requires: one CamelCase word.
fn reason_of_check(check: CheckName) -> &'static str {
    match check {
        CheckName::Config => "ConfigurationRefused",
        CheckName::Binaries => "PluginsNotAsDeclared",
        CheckName::Conflist => "ConflistNotAsDeclared",
        CheckName::Precedence => "ConflistNotEffective",
        CheckName::Plugins => "PluginsUnusable",
        CheckName::Gates => "Waiting",
        CheckName::Conflict => "Conflict",
        CheckName::Runtime => "RuntimeNotLoaded",
        CheckName::Watch
        | CheckName::Endpoint
        | CheckName::Look
        | CheckName::Loop
        | CheckName::Unknown => "NotAsDeclared",
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
    fn written(now: Instant) -> ConditionReporter {
        let mut condition = ConditionReporter::default();
        condition.observe_checks(&ready(), now);
        assert_eq!(
            condition.next_due(),
            Some(now),
            "the first report is sent at once"
        );
        condition.observe_node(&NodeObject::default());
        condition.build_patch(SystemTime::UNIX_EPOCH).unwrap();
        condition.record_outcome(true, now, 1 << 63);
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
    fn the_same_report_is_repeated_every_five_minutes() {
        let now = Instant::now();
        let mut condition = written(now);
        condition.observe_checks(&ready(), now + Duration::from_secs(7));
        assert_eq!(condition.next_due(), Some(now + HEARTBEAT_PERIOD));
        condition.record_outcome(true, now, 0);
        assert_eq!(condition.next_due(), Some(now + HEARTBEAT_PERIOD * 9 / 10));
    }

    #[test]
    fn what_is_healed_within_a_second_is_not_reported() {
        let start = Instant::now();
        let mut condition = written(start);
        let now = start + Duration::from_secs(1);
        condition.observe_checks(&failing(CheckName::Binaries, &["x is missing"]), now);
        assert_eq!(condition.next_due(), Some(now + NOT_READY_DELAY));
        condition.observe_checks(&ready(), now + Duration::from_millis(3));
        assert_eq!(condition.next_due(), Some(start + HEARTBEAT_PERIOD));
    }

    #[test]
    fn a_change_is_reported_with_its_time_and_not_too_often() {
        let start = Instant::now();
        let mut condition = written(start);
        condition.observe_checks(&failing(CheckName::Binaries, &["x is missing"]), start);
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        let patch = condition.build_patch(day).unwrap();
        assert_eq!(
            shown(&patch),
            "False|PluginsNotAsDeclared|binaries: x is missing|1970-01-02T00:00:00Z|1970-01-02T00:00:00Z"
        );
        condition.record_outcome(true, start, 1 << 63);
        condition.observe_checks(&failing(CheckName::Binaries, &["y is missing"]), start);
        assert_eq!(condition.next_due(), Some(start + REWORD_PERIOD));
        let patch = condition
            .build_patch(day + Duration::from_secs(60))
            .unwrap();
        assert!(shown(&patch).ends_with("|1970-01-02T00:01:00Z|1970-01-02T00:00:00Z"));
        condition.record_outcome(true, start, 1 << 63);
        condition.observe_checks(&ready(), start + Duration::from_secs(2));
        assert_eq!(condition.next_due(), Some(start + Duration::from_secs(2)));
    }

    #[test]
    fn since_when_it_is_so_outlives_the_agent() {
        let node = |status: &str| {
            serde_json::from_value(json!({"status": {"conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"},
                {"type": CONDITION_TYPE, "status": status, "lastTransitionTime": "2021-01-01T00:00:00Z"},
            ]}}))
            .unwrap()
        };
        for (status, since) in [
            ("True", "2021-01-01T00:00:00Z"),
            ("False", "1970-01-01T00:00:00Z"),
            ("Unknown", "1970-01-01T00:00:00Z"),
        ] {
            let mut condition = ConditionReporter::default();
            condition.observe_checks(&ready(), Instant::now());
            assert!(condition.needs_node());
            condition.observe_node(&node(status));
            assert!(!condition.needs_node());
            let patch = condition.build_patch(SystemTime::UNIX_EPOCH).unwrap();
            assert!(shown(&patch).ends_with(since), "{status}: {patch}");
        }
    }

    #[test]
    fn after_a_failure_there_is_a_pause_whatever_changes() {
        let now = Instant::now();
        let mut condition = written(now);
        condition.observe_checks(&failing(CheckName::Gates, &["no"]), now);
        for _ in 0..4 {
            condition.record_outcome(false, now, u64::MAX);
        }
        assert_eq!(condition.next_due(), Some(now + Duration::from_secs(8)));
        condition.observe_checks(&ready(), now);
        assert_eq!(
            condition.next_due(),
            Some(now + HEARTBEAT_PERIOD),
            "what is written is true again"
        );
    }

    #[test]
    fn a_conflist_that_waits_for_its_gates_is_reported_as_waiting() {
        let mut checks = failing(CheckName::Conflist, &["x is missing"]);
        assert_eq!(
            ConditionContent::from_checks(&checks).reason,
            "ConflistNotAsDeclared"
        );
        checks.extend(failing(CheckName::Gates, &["y does not exist"]));
        let content = ConditionContent::from_checks(&checks);
        assert_eq!(content.reason, "Waiting");
        assert_eq!(
            content.message,
            "conflist: x is missing\ngates: y does not exist"
        );
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let long = "é".repeat(MAX_MESSAGE_BYTES);
        let content = ConditionContent::from_checks(&failing(CheckName::Conflist, &[&long]));
        assert!(content.message.len() <= MAX_MESSAGE_BYTES);
        assert!(content.message.ends_with("é…"));
    }
}
