//! `/statusz` and `/flagz` in the text form that Kubernetes gives them (KEP-4827, KEP-4828).

use std::fmt::Write as _;
use std::time::Duration;

use crate::model::Agent;
use crate::redact::redact_setting;

/// Kubernetes has a similar sentence in the same place.
const WARNING: &str =
    "Warning: this page is for people who debug; its form may change, so do not parse it.";

/// The name and version of the program, its start time, and the paths that it serves.
pub(super) fn render_statusz(agent: &Agent, up: Duration, paths: &[&str]) -> String {
    let seconds = up.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!(
        "cni-keeper statusz\n{WARNING}\n\n\
         Started: {}\n\
         Up: {hours} hr {minutes:02} min {seconds:02} sec\n\
         Binary version: {}\n\
         Node: {}\n\
         Process: {}\n\
         Configuration: {}\n\
         Paths: {}\n",
        agent.started,
        agent.version,
        agent.node.as_deref().unwrap_or("unknown"),
        agent.pid,
        agent.config.display(),
        paths.join(" "),
    )
}

/// The flags with the values in force, by name.
pub(super) fn render_flagz(agent: &Agent) -> String {
    let mut text = format!("cni-keeper flagz\n{WARNING}\n\n");
    for (name, value) in &agent.flags {
        let value = redact_setting(name, value);
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name}={value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::model::Timestamp;

    fn agent() -> Agent {
        Agent {
            version: "1.2.3".to_owned(),
            pid: 42,
            node: None,
            started: Timestamp(SystemTime::UNIX_EPOCH),
            config: "/etc/cni-keeper/config.yaml".into(),
            flags: [
                ("log-level", "info"),
                ("config", "/etc/cni-keeper/config.yaml"),
                ("some-token", "S"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        }
    }

    #[test]
    fn statusz_has_lines_of_names_and_values() {
        let text = render_statusz(&agent(), Duration::from_secs(3_723), &["/livez", "/readyz"]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "cni-keeper statusz");
        assert!(lines[1].starts_with("Warning: ") && lines[2].is_empty());
        for line in [
            "Started: 1970-01-01T00:00:00.000Z",
            "Up: 1 hr 02 min 03 sec",
            "Binary version: 1.2.3",
            "Node: unknown",
            "Paths: /livez /readyz",
        ] {
            assert!(lines.contains(&line), "no {line:?} in {text}");
        }
    }

    #[test]
    fn flagz_is_sorted_and_keeps_secrets() {
        let text = render_flagz(&agent());
        let flags: Vec<&str> = text.lines().skip(3).collect();
        let expected = [
            "config=/etc/cni-keeper/config.yaml",
            "log-level=info",
            "some-token=[redacted]",
        ];
        assert_eq!(flags, expected);
    }
}
