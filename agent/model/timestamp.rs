//! Points in time, for people and scripts.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::format_duration;

/// The first second that RFC 3339 cannot write: the year 10000.
const YEAR_10000: u64 = 253_402_300_800;

/// A point in time, written as RFC 3339 in UTC. Never used to measure a duration: the clock behind it can jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub SystemTime);

impl Timestamp {
    /// How long ago this was, seen from `now`: `just now`, `3 min ago`. `None` if it is in the future, because
    /// the clock was set back since.
    #[must_use]
    pub fn format_age(self, now: SystemTime) -> Option<String> {
        let age = now.duration_since(self.0).ok()?;
        Some(match age.as_secs() {
            0 => "just now".to_owned(),
            seconds => format!("{} ago", format_duration(Duration::from_secs(seconds))),
        })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RFC 3339 has no years before 1970 here and none after 9999; a clock that shows one is wrong anyway.
        let since_1970 = self.0.duration_since(SystemTime::UNIX_EPOCH).ok();
        let since_1970 = since_1970.filter(|since| since.as_secs() < YEAR_10000);
        let time = SystemTime::UNIX_EPOCH + since_1970.unwrap_or_default();
        write!(f, "{}", humantime::format_rfc3339_millis(time))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text)
            .map(Self)
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_rfc_3339_whatever_the_clock_says() {
        let at =
            |seconds| Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
        assert_eq!(at(1_700_000_000), "2023-11-14T22:13:20.000Z");
        assert_eq!(at(300_000_000_000), "1970-01-01T00:00:00.000Z");
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Timestamp(before).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn an_age_is_given_in_whole_seconds() {
        let then = Timestamp(SystemTime::UNIX_EPOCH);
        let after = |millis| then.format_age(then.0 + Duration::from_millis(millis));
        assert_eq!(after(999).unwrap(), "just now");
        assert_eq!(after(1_000).unwrap(), "1 s ago");
        assert_eq!(after(42_700).unwrap(), "42 s ago");
        assert_eq!(after(190_000).unwrap(), "3 min ago");
    }

    /// Fault 57: a clock that was set back gives no negative age.
    #[test]
    fn what_has_not_come_yet_has_no_age() {
        let then = Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(31_536_000));
        assert_eq!(then.format_age(SystemTime::UNIX_EPOCH), None);
    }
}
