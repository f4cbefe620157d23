//! The text of `/readyz`, `/livez` and `/healthz`: the form of Kubernetes with `?verbose`, else a few lines that also
//! fit the message of a node condition.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::model::{Check, one_line};

/// The longest line about one check, in bytes. It has room for what is wrong, an image's reference, and why the image
/// could not be fetched.
const MAX_LINE_BYTES: usize = 400;
/// The longest body of failures, in bytes. Failures that do not fit are counted in a last line.
const MAX_BODY_BYTES: usize = 1700;
/// The length that is kept free for that last line.
const LAST_LINE_BYTES: usize = 48;

/// What a client asks about the checks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HealthQuery<'a> {
    /// `?verbose`: all checks, one line each.
    verbose: bool,
    /// `?exclude=NAME`: the checks that do not count this time.
    excluded: BTreeSet<Cow<'a, str>>,
}

/// Whether the checks hold, and the body that says so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HealthVerdict {
    /// Whether no check that counts has failed.
    pub(super) passed: bool,
    /// The body, which ends with a line feed.
    pub(super) text: String,
}

impl<'a> HealthQuery<'a> {
    /// Parses a URL's query. Other parameters are ignored, as kube-apiserver does.
    pub(super) fn parse(query: Option<&'a str>) -> Self {
        let mut parsed = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*name {
                "verbose" => parsed.verbose = true,
                "exclude" => _ = parsed.excluded.insert(value),
                _ => {}
            }
        }
        parsed
    }

    /// Evaluates the checks. `endpoint` is a name as in `readyz check passed`.
    pub(super) fn evaluate(&self, endpoint: &str, checks: &[Check]) -> HealthVerdict {
        let failed = |check: &&Check| !check.failures.is_empty() && !self.is_excluded(check);
        let failing: Vec<&Check> = checks.iter().filter(failed).collect();
        let passed = failing.is_empty();
        let mut text = if self.verbose {
            checks
                .iter()
                .map(|check| self.verbose_line(check))
                .collect()
        } else if passed {
            return HealthVerdict {
                passed,
                text: "ok\n".to_owned(),
            };
        } else {
            failure_lines(&failing)
        };
        text += &self.unknown_exclusions_line(checks);
        if self.verbose {
            let outcome = if passed { "passed" } else { "failed" };
            text += &format!("{endpoint} check {outcome}\n");
        }
        HealthVerdict { passed, text }
    }

    fn is_excluded(&self, check: &Check) -> bool {
        self.excluded.contains(check.name.as_str())
    }

    /// A check in the form that kube-apiserver gives it.
    fn verbose_line(&self, check: &Check) -> String {
        let name = check.name;
        let join = |reasons: &[String]| one_line(&reasons.join("; "), usize::MAX);
        if self.is_excluded(check) {
            format!("[+]{name} excluded: ok\n")
        } else if !check.failures.is_empty() {
            format!("[-]{name} failed: {}\n", join(&check.failures))
        } else if !check.warnings.is_empty() {
            format!("[+]{name} ok: {}\n", join(&check.warnings))
        } else {
            format!("[+]{name} ok\n")
        }
    }

    /// A line that warns of exclusions that match no check. As in kube-apiserver, they change nothing else.
    fn unknown_exclusions_line(&self, checks: &[Check]) -> String {
        let known = |name: &str| checks.iter().any(|check| check.name.as_str() == name);
        let unknown = self.excluded.iter().filter(|name| !known(name));
        let unknown: Vec<String> = unknown.map(|name| format!("{name:?}")).collect();
        if unknown.is_empty() {
            return String::new();
        }
        format!(
            "warn: there is no check to exclude named {}\n",
            unknown.join(", ")
        )
    }
}

/// A line for each failing check, as many as fit.
fn failure_lines(failing: &[&Check]) -> String {
    let mut text = String::new();
    for (index, check) in failing.iter().enumerate() {
        let line = failure_line(check);
        let last = index + 1 == failing.len();
        let room = if last {
            MAX_BODY_BYTES
        } else {
            MAX_BODY_BYTES - LAST_LINE_BYTES
        };
        if text.len() + line.len() + 1 > room {
            text += &format!("and {} more failing checks\n", failing.len() - index);
            break;
        }
        text += &line;
        text.push('\n');
    }
    text
}

/// A failing check's first reason, and the number of its other reasons.
fn failure_line(check: &Check) -> String {
    let first = check.failures.first().map_or("", String::as_str);
    let line = format!("{}: {first}", check.name);
    match check.failures.len() {
        0 | 1 => one_line(&line, MAX_LINE_BYTES),
        several => {
            let others = format!(" (and {} more)", several - 1);
            format!("{}{others}", one_line(&line, MAX_LINE_BYTES - others.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CheckName;

    fn check(name: CheckName, failures: &[&str], warnings: &[&str]) -> Check {
        let owned = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
        Check {
            name,
            failures: owned(failures),
            warnings: owned(warnings),
        }
    }

    fn evaluate(query: &str, checks: &[Check]) -> (bool, String) {
        let verdict = HealthQuery::parse(Some(query)).evaluate("readyz", checks);
        (verdict.passed, verdict.text)
    }

    fn ready() -> [Check; 2] {
        let degraded = "degraded to polling every 2 s";
        [
            check(CheckName::Config, &[], &[]),
            check(CheckName::Watch, &[], &[degraded]),
        ]
    }

    fn broken() -> [Check; 3] {
        let missing = [
            "/opt/cni/bin/bridge is missing",
            "/opt/cni/bin/ptp is missing",
        ];
        [
            check(CheckName::Config, &[], &[]),
            check(CheckName::Binaries, &missing, &[]),
            check(CheckName::Conflist, &["10-a.conflist is missing"], &[]),
        ]
    }

    #[test]
    fn ready_is_one_word() {
        assert_eq!(evaluate("", &ready()), (true, "ok\n".to_owned()));
    }

    #[test]
    fn not_ready_is_a_line_for_each_failing_check() {
        let text = "binaries: /opt/cni/bin/bridge is missing (and 1 more)\n\
                    conflist: 10-a.conflist is missing\n";
        assert_eq!(evaluate("", &broken()), (false, text.to_owned()));
    }

    #[test]
    fn verbose_has_the_form_of_kubernetes() {
        let text =
            "[+]config ok\n[+]watch ok: degraded to polling every 2 s\nreadyz check passed\n";
        assert_eq!(evaluate("verbose", &ready()), (true, text.to_owned()));
        let text = "[+]config ok\n\
                    [-]binaries failed: /opt/cni/bin/bridge is missing; /opt/cni/bin/ptp is missing\n\
                    [-]conflist failed: 10-a.conflist is missing\n\
                    readyz check failed\n";
        assert_eq!(evaluate("verbose=1", &broken()), (false, text.to_owned()));
    }

    #[test]
    fn what_is_excluded_does_not_count() {
        let (passed, text) = evaluate("exclude=b%69naries", &broken());
        assert!(!passed && text == "conflist: 10-a.conflist is missing\n");
        let both = "exclude=binaries&exclude=conflist";
        assert_eq!(evaluate(both, &broken()), (true, "ok\n".to_owned()));
        let (passed, text) = evaluate(&format!("{both}&verbose"), &broken());
        assert!(
            passed && text.contains("[+]binaries excluded: ok\n"),
            "{text}"
        );
    }

    #[test]
    fn an_unknown_exclusion_is_a_warning() {
        let (passed, text) = evaluate("exclude=nope&verbose&exclude=a%0Ab", &ready());
        let warning = "warn: there is no check to exclude named \"a\\nb\", \"nope\"\n";
        assert!(passed && text.contains(warning), "{text}");
        let (passed, text) = evaluate("exclude=nope", &broken());
        assert!(!passed && text.contains("warn: "), "{text}");
    }

    /// It may become the message of a node condition: one line a check, and not many of them.
    #[test]
    fn a_failure_stays_short_whatever_the_reasons_are() {
        let long = "ü".repeat(400);
        let hostile = check(CheckName::Conflist, &["a\nb\x1b[31m\tc"], &[]);
        let (_, text) = evaluate("", &[hostile]);
        assert_eq!(text, "conflist: a b [31m c\n");
        let (_, text) = evaluate("", &[check(CheckName::Conflist, &[&long, "x"], &[])]);
        assert!(text.len() <= MAX_LINE_BYTES + 1, "{}", text.len());
        assert!(text.ends_with("…ü (and 1 more)\n") || text.ends_with("… (and 1 more)\n"));
        let many: Vec<Check> = (0..9)
            .map(|_| check(CheckName::Plugins, &[&long], &[]))
            .collect();
        let (_, text) = evaluate("", &many);
        assert!(text.len() <= MAX_BODY_BYTES, "{}", text.len());
        assert!(text.ends_with("and 5 more failing checks\n"), "{text}");
    }

    #[test]
    fn a_body_that_just_fits_is_not_cut() {
        let reason = "x".repeat(MAX_LINE_BYTES - "plugins: ".len());
        let line = MAX_LINE_BYTES + 1;
        let count = MAX_BODY_BYTES / line;
        let full: Vec<Check> = (0..count)
            .map(|_| check(CheckName::Plugins, &[&reason], &[]))
            .collect();
        assert_eq!(evaluate("", &full).1.len(), count * line);
    }
}
