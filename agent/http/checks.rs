//! The answers of `/readyz` and its like: Kubernetes' form where it is asked for, else a few lines that may
//! serve as the message of a node condition.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::model::{Check, one_line};

/// The longest line about one check, in bytes: room for what is wrong, an image's reference and why it is not to be had.
const LINE: usize = 400;
/// The longest failure body, in bytes. What does not fit is counted.
const BODY: usize = 1700;
/// What that last line takes at most.
const MORE: usize = 48;

/// What was asked about the checks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Question<'a> {
    /// `?verbose`: all checks, one line each.
    verbose: bool,
    /// `?exclude=NAME`: what does not count this time.
    excluded: BTreeSet<Cow<'a, str>>,
}

/// The answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Whether no check that counts has failed.
    pub(super) passed: bool,
    /// The body, which ends with a line feed.
    pub(super) text: String,
}

impl<'a> Question<'a> {
    /// Reads a query. Other parameters are left alone, as kube-apiserver does.
    pub(super) fn new(query: Option<&'a str>) -> Self {
        let mut question = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*name {
                "verbose" => question.verbose = true,
                "exclude" => _ = question.excluded.insert(value),
                _ => {}
            }
        }
        question
    }

    /// Judges the checks; `of` is the endpoint's name, as in `readyz check passed`.
    pub(super) fn verdict(&self, of: &str, checks: &[Check]) -> Verdict {
        let failed = |check: &&Check| !check.failures.is_empty() && !self.excludes(check);
        let failing: Vec<&Check> = checks.iter().filter(failed).collect();
        let passed = failing.is_empty();
        let mut text = if self.verbose {
            checks.iter().map(|check| self.line(check)).collect()
        } else if passed {
            return Verdict {
                passed,
                text: "ok\n".to_owned(),
            };
        } else {
            short(&failing)
        };
        text += &self.unknown(checks);
        if self.verbose {
            let outcome = if passed { "passed" } else { "failed" };
            text += &format!("{of} check {outcome}\n");
        }
        Verdict { passed, text }
    }

    fn excludes(&self, check: &Check) -> bool {
        self.excluded.contains(check.name.as_str())
    }

    /// A check in the form that kube-apiserver gives it.
    fn line(&self, check: &Check) -> String {
        let name = check.name;
        let told = |reasons: &[String]| one_line(&reasons.join("; "), usize::MAX);
        if self.excludes(check) {
            format!("[+]{name} excluded: ok\n")
        } else if !check.failures.is_empty() {
            format!("[-]{name} failed: {}\n", told(&check.failures))
        } else if !check.warnings.is_empty() {
            format!("[+]{name} ok: {}\n", told(&check.warnings))
        } else {
            format!("[+]{name} ok\n")
        }
    }

    /// A line that warns of exclusions that excluded nothing; they do no harm, as at kube-apiserver.
    fn unknown(&self, checks: &[Check]) -> String {
        let known = |name: &str| checks.iter().any(|check| check.name.as_str() == name);
        let unknown = self.excluded.iter().filter(|name| !known(name));
        let unknown: Vec<String> = unknown.map(|name| format!("{name:?}")).collect();
        if unknown.is_empty() {
            return String::new();
        }
        format!(
            "warn: nothing to exclude by the name of {}\n",
            unknown.join(", ")
        )
    }
}

/// A line for each failing check, as many as fit.
fn short(failing: &[&Check]) -> String {
    let mut text = String::new();
    for (index, check) in failing.iter().enumerate() {
        let line = summary(check);
        let last = index + 1 == failing.len();
        let room = if last { BODY } else { BODY - MORE };
        if text.len() + line.len() + 1 > room {
            text += &format!("and {} more failing checks\n", failing.len() - index);
            break;
        }
        text += &line;
        text.push('\n');
    }
    text
}

/// A failing check's first reason, and how many others it has.
fn summary(check: &Check) -> String {
    let first = check.failures.first().map_or("", String::as_str);
    let line = format!("{}: {first}", check.name);
    match check.failures.len() {
        0 | 1 => one_line(&line, LINE),
        several => {
            let others = format!(" (and {} more)", several - 1);
            format!("{}{others}", one_line(&line, LINE - others.len()))
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

    fn asked(query: &str, checks: &[Check]) -> (bool, String) {
        let verdict = Question::new(Some(query)).verdict("readyz", checks);
        (verdict.passed, verdict.text)
    }

    fn ready() -> [Check; 2] {
        let degraded = "degraded to polling every 5 s";
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
        assert_eq!(asked("", &ready()), (true, "ok\n".to_owned()));
    }

    #[test]
    fn not_ready_is_a_line_for_each_failing_check() {
        let text = "binaries: /opt/cni/bin/bridge is missing (and 1 more)\n\
                    conflist: 10-a.conflist is missing\n";
        assert_eq!(asked("", &broken()), (false, text.to_owned()));
    }

    #[test]
    fn verbose_has_the_form_of_kubernetes() {
        let text =
            "[+]config ok\n[+]watch ok: degraded to polling every 5 s\nreadyz check passed\n";
        assert_eq!(asked("verbose", &ready()), (true, text.to_owned()));
        let text = "[+]config ok\n\
                    [-]binaries failed: /opt/cni/bin/bridge is missing; /opt/cni/bin/ptp is missing\n\
                    [-]conflist failed: 10-a.conflist is missing\n\
                    readyz check failed\n";
        assert_eq!(asked("verbose=1", &broken()), (false, text.to_owned()));
    }

    #[test]
    fn what_is_excluded_does_not_count() {
        let (passed, text) = asked("exclude=b%69naries", &broken());
        assert!(!passed && text == "conflist: 10-a.conflist is missing\n");
        let both = "exclude=binaries&exclude=conflist";
        assert_eq!(asked(both, &broken()), (true, "ok\n".to_owned()));
        let (passed, text) = asked(&format!("{both}&verbose"), &broken());
        assert!(
            passed && text.contains("[+]binaries excluded: ok\n"),
            "{text}"
        );
    }

    #[test]
    fn an_unknown_exclusion_is_a_warning() {
        let (passed, text) = asked("exclude=nope&verbose&exclude=a%0Ab", &ready());
        let warning = "warn: nothing to exclude by the name of \"a\\nb\", \"nope\"\n";
        assert!(passed && text.contains(warning), "{text}");
        let (passed, text) = asked("exclude=nope", &broken());
        assert!(!passed && text.contains("warn: "), "{text}");
    }

    /// It may become the message of a node condition: one line a check, and not many of them.
    #[test]
    fn a_failure_stays_short_whatever_the_reasons_are() {
        let long = "ü".repeat(400);
        let hostile = check(CheckName::Conflist, &["a\nb\x1b[31m\tc"], &[]);
        let (_, text) = asked("", &[hostile]);
        assert_eq!(text, "conflist: a b [31m c\n");
        let (_, text) = asked("", &[check(CheckName::Conflist, &[&long, "x"], &[])]);
        assert!(text.len() <= LINE + 1, "{}", text.len());
        assert!(text.ends_with("…ü (and 1 more)\n") || text.ends_with("… (and 1 more)\n"));
        let many: Vec<Check> = (0..9)
            .map(|_| check(CheckName::Plugins, &[&long], &[]))
            .collect();
        let (_, text) = asked("", &many);
        assert!(text.len() <= BODY, "{}", text.len());
        assert!(text.ends_with("and 5 more failing checks\n"), "{text}");
    }

    #[test]
    fn a_body_that_just_fits_is_not_cut() {
        let reason = "x".repeat(LINE - "plugins: ".len());
        let line = LINE + 1;
        let count = BODY / line;
        let full: Vec<Check> = (0..count)
            .map(|_| check(CheckName::Plugins, &[&reason], &[]))
            .collect();
        assert_eq!(asked("", &full).1.len(), count * line);
    }
}
