//! The checks at a glance, and who says all this since when.

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime};

use super::html::{Mark, code, text, time};
use crate::model::{Check, Status, WatchMode, format_duration};

/// The checks in a row.
pub(super) fn checks(page: &mut String, status: &Status) -> fmt::Result {
    if status.snapshot.checks.is_empty() {
        return Ok(());
    }
    page.push_str(
        "<section aria-labelledby=\"checks\">\n<h2 id=\"checks\">Checks</h2>\n<ul class=\"chips\">\n",
    );
    for check in &status.snapshot.checks {
        let (word, mark) = answer(check);
        writeln!(
            page,
            r#"<li class="{}">{mark}{} <span class="word">{word}</span></li>"#,
            mark.class(),
            text(check.name),
        )?;
    }
    page.push_str("</ul>\n</section>\n");
    Ok(())
}

const fn answer(check: &Check) -> (&'static str, Mark) {
    match (check.failures.is_empty(), check.warnings.is_empty()) {
        (true, true) => ("ok", Mark::Good),
        (true, false) => ("odd", Mark::Odd),
        (false, _) => ("failed", Mark::Bad),
    }
}

/// Who says this, and how fresh it is.
pub(super) fn agent(page: &mut String, status: &Status, now: SystemTime) -> fmt::Result {
    let agent = &status.agent;
    let declared = &status.declared;
    let facts = [
        ("Last look", time(status.looked, now)),
        ("All files read", verified(status, now)),
        ("Changes noticed by", watch(&status.watch)),
        (
            "Agent",
            format!(
                "{}, process {}, up since {}",
                text(agent.version),
                agent.pid,
                time(agent.started, now)
            ),
        ),
        ("Configuration", configuration(status)),
        (
            "Policy",
            format!(
                "drift: {}, foreign conflists: {}",
                text(declared.policy),
                text(declared.foreign_conflists)
            ),
        ),
    ];
    page.push_str(
        "<section aria-labelledby=\"agent\">\n<h2 id=\"agent\">Agent</h2>\n<dl class=\"facts\">\n",
    );
    for (name, value) in facts {
        writeln!(page, "<div><dt>{name}</dt><dd>{value}</dd></div>")?;
    }
    page.push_str("</dl>\n</section>\n");
    Ok(())
}

fn verified(status: &Status, now: SystemTime) -> String {
    let every = format_duration(Duration::from_secs(status.declared.resync_seconds));
    match status.verified {
        Some(at) => format!("{}, again every {every}", time(at, now)),
        None => format!("not yet, then every {every}"),
    }
}

fn watch(mode: &WatchMode) -> String {
    match mode {
        WatchMode::Events => "events of the kernel".to_owned(),
        WatchMode::Polling {
            every_seconds,
            reason,
        } => format!(
            "looking every {}, because there are no events: {}",
            format_duration(Duration::from_secs(*every_seconds)),
            text(reason)
        ),
    }
}

fn configuration(status: &Status) -> String {
    let file = code(status.agent.config.display());
    match &status.declared.profile {
        Some(profile) => format!("{file}, profile {}", code(profile)),
        None => file,
    }
}
