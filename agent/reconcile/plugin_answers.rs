//! Remembers what plugins answered to `VERSION`, so that each content is asked once. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::model::Sha256;
use crate::retry::{Backoff, Jitter};

/// The pauses before a plugin is asked again whose answer could not be had. Each question may take as much memory as the
/// one that was killed.
const QUESTION_BACKOFF: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(600));

/// How many contents are remembered that are not asked about any more.
const MOST_REMEMBERED: usize = 128;

/// What is asked: a content, and the name by which it is called where a link leads to it. One program may be many plugins
/// then, which differ by the name of the link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AskedContent {
    pub(super) sha256: Sha256,
    pub(super) link: Option<String>,
}

/// The result of asking a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PluginVersion {
    /// It is not in the bin directory.
    Absent,
    /// It is not the declared file, so it is not run.
    NotAsDeclared,
    /// The versions that it supports.
    Supports(Vec<String>),
    /// It cannot be run in the agent's container. It may still work on the host.
    NotRunnable(String),
    /// Its answer could not be had, which says nothing about the plugin.
    Unknown(String),
    /// It gave no usable answer.
    Broken(String),
}

impl PluginVersion {
    /// The supported versions, in the form that the conflist rules need. A plugin whose versions are not known counts as
    /// supporting all of them.
    pub(super) fn supported(&self) -> Option<Vec<String>> {
        match self {
            Self::Supports(versions) => Some(versions.clone()),
            Self::NotRunnable(_) | Self::Unknown(_) => Some(
                crate::cni::SPEC_VERSIONS
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            ),
            Self::Absent | Self::NotAsDeclared | Self::Broken(_) => None,
        }
    }
}

/// Every answer that is known. It stays valid for the life of the agent, also when the configuration changes.
#[derive(Debug, Default)]
pub(super) struct PluginAnswers(BTreeMap<AskedContent, KnownAnswer>);

#[derive(Debug)]
struct KnownAnswer {
    version: PluginVersion,
    /// How often in a row the answer could not be had.
    misses: u32,
    /// When to ask again; `None` for an answer that stays.
    again: Option<Instant>,
}

impl PluginAnswers {
    /// The known answer; `None` if the plugin is to be asked now.
    pub(super) fn recall(&self, content: &AskedContent, now: Instant) -> Option<&PluginVersion> {
        let known = self.0.get(content)?;
        let is_due = known.again.is_some_and(|again| again <= now);
        (!is_due).then_some(&known.version)
    }

    /// Records an answer that a plugin gave, or failed to give, at `now`.
    pub(super) fn record(&mut self, content: AskedContent, version: PluginVersion, now: Instant) {
        let earlier = self.0.get(&content).map_or(0, |known| known.misses);
        let is_unknown = matches!(version, PluginVersion::Unknown(_));
        let pause = QUESTION_BACKOFF.pause(earlier, Jitter::None);
        let answer = KnownAnswer {
            version,
            misses: match is_unknown {
                true => earlier.saturating_add(1),
                false => 0,
            },
            again: is_unknown.then(|| now + pause),
        };
        self.0.insert(content, answer);
    }

    /// Forgets the plugins that gave no usable answer, so that they are asked again. The cause may be gone.
    pub(super) fn forget_failures(&mut self) {
        self.0.retain(|_, known| {
            !matches!(
                known.version,
                PluginVersion::Broken(_) | PluginVersion::NotRunnable(_)
            )
        });
    }

    /// Forgets contents that are not among those `in_use`, once there are many.
    pub(super) fn forget_unused(&mut self, in_use: &[AskedContent]) {
        if self.0.len() > MOST_REMEMBERED {
            self.0.retain(|content, _| in_use.contains(content));
        }
    }

    /// When the first of these contents is to be asked again.
    pub(super) fn next_question(&self, in_use: &[AskedContent]) -> Option<Instant> {
        let known = in_use.iter().filter_map(|content| self.0.get(content));
        known.filter_map(|known| known.again).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(bytes: &[u8]) -> AskedContent {
        AskedContent {
            sha256: Sha256::of(bytes),
            link: None,
        }
    }

    #[test]
    fn an_answer_stays_and_a_failure_is_forgotten_on_demand() {
        let (now, good, bad) = (Instant::now(), content(b"good"), content(b"bad"));
        let mut answers = PluginAnswers::default();
        assert_eq!(answers.recall(&good, now), None);
        let supports = PluginVersion::Supports(vec!["1.0.0".to_owned()]);
        answers.record(good.clone(), supports.clone(), now);
        answers.record(bad.clone(), PluginVersion::Broken(String::new()), now);
        let later = now + Duration::from_secs(1_000_000);
        assert!(answers.recall(&bad, later).is_some());
        answers.forget_failures();
        assert_eq!(answers.recall(&good, later), Some(&supports));
        assert_eq!(answers.recall(&bad, later), None);
    }

    #[test]
    fn an_unknown_answer_is_asked_for_again_after_longer_and_longer_pauses() {
        let (mut now, asked) = (Instant::now(), content(b"killed"));
        let mut answers = PluginAnswers::default();
        let in_use = [asked.clone()];
        let mut pauses = Vec::new();
        for _ in 0..9 {
            answers.record(asked.clone(), PluginVersion::Unknown(String::new()), now);
            answers.forget_failures();
            assert!(answers.recall(&asked, now).is_some());
            let again = answers.next_question(&in_use).unwrap();
            pauses.push((again - now).as_secs());
            now = again;
            assert_eq!(answers.recall(&asked, now), None);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        answers.record(asked, PluginVersion::Supports(Vec::new()), now);
        assert_eq!(answers.next_question(&in_use), None);
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let (now, used) = (Instant::now(), content(b"used"));
        let mut answers = PluginAnswers::default();
        answers.record(used.clone(), PluginVersion::Absent, now);
        for number in 0..10_000_u32 {
            let other = content(&number.to_le_bytes());
            answers.record(other, PluginVersion::Absent, now);
            answers.forget_unused(std::slice::from_ref(&used));
        }
        assert!(answers.0.len() <= MOST_REMEMBERED);
        assert!(answers.recall(&used, now).is_some());
    }
}
