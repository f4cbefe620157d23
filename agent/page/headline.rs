//! The answer to the question that the page is opened with.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use super::html::{Mark, count, text};
use crate::model::{Status, Timestamp, WatchMode};

/// The state in a word. What is odd but works does not make a node any less ready.
pub(super) fn word(status: &Status) -> (&'static str, Mark) {
    match status.is_ready() {
        true => ("Ready", Mark::Good),
        false => ("Not ready", Mark::Bad),
    }
}

/// The headline: the word, and either the first reason or what the word means here.
pub(super) fn write(page: &mut String, status: &Status, now: SystemTime) -> fmt::Result {
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
    writeln!(
        page,
        "\n</div></div>\n<p class=\"fresh\">{}</p>\n</header>",
        freshness(status, now)
    )
}

/// How much the answer is worth: how old it is, and who gives it.
fn freshness(status: &Status, now: SystemTime) -> String {
    let ago = |at: Timestamp| at.format_age(now).unwrap_or_else(|| at.to_string());
    let read = match status.verified {
        Some(at) => format!("all files read {}", ago(at)),
        None => "not all files read yet".to_owned(),
    };
    let up = match status.agent.started.format_age(now) {
        Some(since) => format!(", started {since}"),
        None => String::new(),
    };
    let watch = match status.watch {
        WatchMode::Events => "woken by the kernel",
        WatchMode::Polling { .. } => "polling",
    };
    let parts = [
        format!("looked {}", ago(status.looked)),
        read,
        watch.to_owned(),
        format!("agent {}{up}", text(status.agent.version)),
    ];
    parts.map(|part| format!("<span>{part}</span>")).join(" ")
}

fn first_reason(status: &Status) -> Option<&String> {
    let checks = &status.snapshot.checks;
    checks.iter().find_map(|check| check.failures.first())
}

/// What "ready" says of this node.
fn meaning(status: &Status) -> String {
    let files = match status.snapshot.files.len() {
        0 => return "Nothing is declared.".to_owned(),
        number => count(number, "file"),
    };
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
