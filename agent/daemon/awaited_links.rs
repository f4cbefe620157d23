//! How long links have been missing on the paths that the agent uses. Pure: time is an argument.

use std::time::{Duration, Instant};

use crate::host::MissingLink;

/// How long a link may be missing before the log says so. An upgrade exchanges it within moments.
const PATIENCE: Duration = Duration::from_secs(30);

/// The links that are missing.
#[derive(Debug, Default)]
pub(super) struct AwaitedLinks(Vec<AwaitedLink>);

#[derive(Debug)]
struct AwaitedLink {
    link: MissingLink,
    since: Instant,
    is_told: bool,
}

impl AwaitedLinks {
    /// Records which links are missing now. Returns those that have to be told, each once.
    pub(super) fn record(&mut self, missing: &[MissingLink], now: Instant) -> Vec<MissingLink> {
        self.0.retain(|awaited| missing.contains(&awaited.link));
        for link in missing {
            if !self.0.iter().any(|awaited| awaited.link == *link) {
                self.0.push(AwaitedLink {
                    link: link.clone(),
                    since: now,
                    is_told: false,
                });
            }
        }
        let overdue = self.0.iter_mut();
        let overdue = overdue.filter(|it| !it.is_told && now >= it.since + PATIENCE);
        overdue
            .map(|awaited| {
                awaited.is_told = true;
                awaited.link.clone()
            })
            .collect()
    }

    /// The links that are missing.
    pub(super) fn list(&self) -> impl Iterator<Item = &MissingLink> {
        self.0.iter().map(|awaited| &awaited.link)
    }

    /// When the next one has to be told, if it is still missing then.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let untold = self.0.iter().filter(|awaited| !awaited.is_told);
        untold.map(|awaited| awaited.since + PATIENCE).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(path: &str) -> MissingLink {
        MissingLink {
            path: path.into(),
            target: "v1".into(),
        }
    }

    #[test]
    fn a_link_is_told_once_after_half_a_minute() {
        let (mut awaited, start) = (AwaitedLinks::default(), Instant::now());
        let missing = [link("/data/current")];
        assert!(awaited.record(&missing, start).is_empty());
        let due = start + Duration::from_secs(30);
        assert_eq!(awaited.next_due(), Some(due));
        let before = due - Duration::from_millis(1);
        assert!(awaited.record(&missing, before).is_empty());
        assert_eq!(awaited.record(&missing, due), missing);
        assert!(awaited.record(&missing, due + PATIENCE).is_empty());
        assert_eq!(awaited.next_due(), None);
        assert_eq!(awaited.list().count(), 1);
    }

    #[test]
    fn one_that_came_back_is_waited_for_anew() {
        let (mut awaited, start) = (AwaitedLinks::default(), Instant::now());
        let missing = [link("/data/current")];
        for round in 0..40 {
            let now = start + round * PATIENCE;
            assert!(awaited.record(&missing, now).is_empty());
            assert!(awaited.record(&[], now + PATIENCE / 2).is_empty());
            assert_eq!(awaited.next_due(), None);
        }
    }
}
