//! All that is wrong and all that is odd, and how to mend it.

use std::fmt::{self, Write as _};

use super::html::text;
use crate::model::{Check, CheckName, Status};

/// What is wrong, check by check, and what is odd.
pub(super) fn write(page: &mut String, status: &Status) -> fmt::Result {
    let failed: Vec<&Check> = with(status, |check| &check.failures);
    if !failed.is_empty() {
        open(page, "bad", "What is wrong");
        for (at, check) in failed.iter().enumerate() {
            lines(page, check.name, &check.failures)?;
            let told = |check: &&Check| advice(check, status);
            let advice = told(check);
            // What goes for the next one as well is told once, after that.
            if advice != failed.get(at + 1).and_then(told)
                && let Some(advice) = advice
            {
                writeln!(page, r#"<dd class="advice">{advice}</dd>"#)?;
            }
        }
        page.push_str("</dl>\n</section>\n");
    }
    let odd = with(status, |check| &check.warnings);
    if !odd.is_empty() {
        open(page, "odd", "Odd, but it works");
        for check in odd {
            lines(page, check.name, &check.warnings)?;
        }
        page.push_str("</dl>\n</section>\n");
    }
    Ok(())
}

fn with(status: &Status, lines: impl Fn(&Check) -> &Vec<String>) -> Vec<&Check> {
    let checks = status.snapshot.checks.iter();
    checks.filter(|check| !lines(check).is_empty()).collect()
}

fn open(page: &mut String, class: &str, title: &str) {
    page.push_str(&format!(
        "<section class=\"reasons {class}\" aria-labelledby=\"all-{class}\">\n<h2 id=\"all-{class}\">{title}</h2>\n<dl>\n"
    ));
}

fn lines(page: &mut String, name: CheckName, lines: &[String]) -> fmt::Result {
    writeln!(page, "<dt>{}</dt>", text(name))?;
    lines
        .iter()
        .try_for_each(|line| writeln!(page, "<dd>{}</dd>", text(line)))
}

/// What goes for every failure of a check; how to mend a single one stands in its own line.
fn advice(check: &Check, status: &Status) -> Option<&'static str> {
    match check.name {
        CheckName::Binaries | CheckName::Conflist if status.declared.policy == "report" => Some(
            "The policy is <em>report</em>, so nothing is written. <code>cni-keeper install</code> mends it once, \
             <code>drift.policy: heal</code> for good.",
        ),
        CheckName::Binaries | CheckName::Conflist => Some(
            "It is mended without your help as soon as that is possible; what it waits for stands in the drift log.",
        ),
        CheckName::Config => Some(
            "The last good configuration stays in force. A mended file is taken at once; \
             <code>cni-keeper validate</code> tells beforehand whether it is good.",
        ),
        CheckName::Precedence => Some("Until then, new pods get another network or none."),
        CheckName::Plugins => {
            Some("Until then, pods can neither be set up nor taken down cleanly.")
        }
        CheckName::Gates => Some(
            "The conflist is written as soon as this holds: see to whatever provides it, a network daemon as a rule.",
        ),
        CheckName::Conflict => Some(
            "Another program undoes the repairs. Find it and stop it, or stop declaring the file here: \
             both cannot have their way.",
        ),
        CheckName::Runtime => {
            Some("The disk alone does not help: pods need the runtime to have taken it.")
        }
        _ => None,
    }
}
