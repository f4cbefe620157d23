//! The answer to the question that the page is opened with, and how to mend what is wrong.

use std::fmt::{self, Write as _};

use super::html::{Mark, count, text};
use crate::model::{Check, Status};

/// The state in a word. What is odd but works does not make a node any less ready.
pub(super) fn word(status: &Status) -> (&'static str, Mark) {
    match status.is_ready() {
        true => ("Ready", Mark::Good),
        false => ("Not ready", Mark::Bad),
    }
}

/// The headline: the word, and either the first reason or what the word means here.
pub(super) fn write(page: &mut String, status: &Status) -> fmt::Result {
    let (word, mark) = word(status);
    page.push_str("<header>\n<p class=\"brand\">cni-keeper");
    if let Some(node) = &status.agent.node {
        write!(page, " on <strong>{}</strong>", text(node))?;
    }
    writeln!(page, "</p>\n<div class=\"headline\">{mark}<div>")?;
    match first_reason(status) {
        Some(reason) => write!(
            page,
            r#"<h1>{word}<span class="colon">: </span><span class="reason">{}</span></h1>"#,
            text(reason)
        )?,
        None => write!(
            page,
            "<h1>{word}</h1>\n<p class=\"reason\">{}</p>",
            text(meaning(status))
        )?,
    }
    page.push_str("\n</div></div>\n</header>\n");
    Ok(())
}

/// What is wrong, check by check, and what is odd.
pub(super) fn reasons(page: &mut String, status: &Status) -> fmt::Result {
    let checks = &status.snapshot.checks;
    let failed = checks.iter().any(|check| !check.failures.is_empty());
    if failed {
        page.push_str(
            "<section class=\"reasons bad\" aria-labelledby=\"wrong\">\n<h2 id=\"wrong\">What is wrong</h2>\n<dl>\n",
        );
        for check in checks.iter().filter(|check| !check.failures.is_empty()) {
            lines(page, check.name, &check.failures)?;
            if let Some(advice) = advice(check, status) {
                writeln!(page, r#"<dd class="advice">{advice}</dd>"#)?;
            }
        }
        page.push_str("</dl>\n</section>\n");
    }
    if checks.iter().any(|check| !check.warnings.is_empty()) {
        page.push_str(
            "<section class=\"reasons odd\" aria-labelledby=\"odd-things\">\n<h2 id=\"odd-things\">Odd, but it works</h2>\n<dl>\n",
        );
        for check in checks.iter().filter(|check| !check.warnings.is_empty()) {
            lines(page, check.name, &check.warnings)?;
        }
        page.push_str("</dl>\n</section>\n");
    }
    Ok(())
}

fn lines(page: &mut String, name: &str, lines: &[String]) -> fmt::Result {
    writeln!(page, "<dt>{}</dt>", text(name))?;
    lines
        .iter()
        .try_for_each(|line| writeln!(page, "<dd>{}</dd>", text(line)))
}

fn first_reason(status: &Status) -> Option<&String> {
    let checks = &status.snapshot.checks;
    checks.iter().find_map(|check| check.failures.first())
}

/// What "ready" says of this node.
fn meaning(status: &Status) -> String {
    let files = count(status.snapshot.files.len(), "file");
    let network = status
        .directory
        .as_ref()
        .and_then(|directory| directory.effective.as_ref());
    match network {
        Some(network) => format!(
            "{files} as declared, and the runtimes take the network {} from {}.",
            network.name, network.file
        ),
        None => format!("{files} as declared."),
    }
}

/// What goes for every failure of a check; how to mend a single one stands in its own line.
fn advice(check: &Check, status: &Status) -> Option<&'static str> {
    match check.name {
        "binaries" | "conflist" if status.declared.policy == "report" => Some(
            "The policy is <em>report</em>, so nothing is written. <code>cni-keeper install</code> mends it once, \
             <code>drift.policy: heal</code> for good.",
        ),
        "binaries" | "conflist" => Some(
            "It is mended without your help as soon as that is possible; what it waits for stands in the drift log.",
        ),
        "config" => Some(
            "The last good configuration stays in force. A mended file is taken at once; \
             <code>cni-keeper validate</code> tells beforehand whether it is good.",
        ),
        "precedence" => Some("Until then, new pods get another network or none."),
        "plugins" => Some("Until then, pods can neither be set up nor taken down cleanly."),
        "gates" => Some(
            "The conflist is written as soon as this holds: see to whatever provides it, a network daemon as a rule.",
        ),
        "conflict" => Some(
            "Another program undoes the repairs. Find it and stop it, or stop declaring the file here: \
             both cannot have their way.",
        ),
        "runtime" => Some("The disk alone does not help: pods need the runtime to have taken it."),
        _ => None,
    }
}
