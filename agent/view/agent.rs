//! The running agent that made the report, and its settings.

use std::time::{Duration, SystemTime};

use super::text::{ShownTime, display_safe};
use crate::model::{Status, WatchMode, format_duration};

/// The running agent and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentView {
    /// When the disk was last observed.
    pub observed: ShownTime,
    /// When every declared file was last read.
    pub verified: Option<ShownTime>,
    /// The time between two such readings.
    pub resync: String,
    /// How changes are noticed.
    pub watch: String,
    /// The agent's version.
    pub version: String,
    /// The agent's process id.
    pub pid: u32,
    /// When the agent started.
    pub started: ShownTime,
    /// The configuration file.
    pub config: String,
    /// The built-in profile that the configuration starts from.
    pub profile: Option<String>,
    /// What is done about drift and about foreign conflists.
    pub policies: String,
    /// Where the plugins are.
    pub bin_dir: String,
    /// Where the conflist is, if one is declared.
    pub conf_dir: Option<String>,
}

impl AgentView {
    pub(super) fn new(status: &Status, now: SystemTime) -> Self {
        let (agent, declared) = (&status.agent, &status.declared);
        let conf_dir = || display_safe(declared.conf_dir.display());
        Self {
            observed: ShownTime::new(status.looked, now),
            verified: status.verified.map(|at| ShownTime::new(at, now)),
            resync: format_duration(Duration::from_secs(declared.resync_seconds)),
            watch: describe_watch(&status.watch),
            version: display_safe(&agent.version),
            pid: agent.pid,
            started: ShownTime::new(agent.started, now),
            config: display_safe(agent.config.display()),
            profile: declared.profile.as_ref().map(display_safe),
            policies: format!(
                "drift: {}, foreign conflists: {}",
                declared.policy, declared.foreign_conflists
            ),
            bin_dir: display_safe(declared.bin_dir.display()),
            conf_dir: declared.conflist.as_ref().map(|_| conf_dir()),
        }
    }
}

fn describe_watch(mode: &WatchMode) -> String {
    match mode {
        WatchMode::Events => "events of the kernel".to_owned(),
        WatchMode::Polling {
            every_seconds,
            reason,
        } => {
            let every = format_duration(Duration::from_secs(*every_seconds));
            let reason = display_safe(reason);
            format!("looking every {every}, because there are no events: {reason}")
        }
    }
}
