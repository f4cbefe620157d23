//! What happened to the files, and what the agent failed at.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use super::html::{Mark, code, count, text, time};
use crate::model::{DriftRecord, Outcome, Status, format_duration};

/// How many entries are shown; `/drift` has them all.
const SHOWN: usize = 30;

/// The drift log, newest first.
pub(super) fn write(page: &mut String, status: &Status, now: SystemTime) -> fmt::Result {
    page.push_str("<section aria-labelledby=\"drift\">\n<h2 id=\"drift\">Drift</h2>\n");
    if status.drift.is_empty() {
        writeln!(
            page,
            "<p class=\"note\">None since the agent started, {}.</p>\n</section>",
            time(status.agent.started, now)
        )?;
        return Ok(());
    }
    page.push_str("<ol class=\"log\">\n");
    for drift in status.drift.iter().take(SHOWN) {
        entry(page, drift, now)?;
    }
    page.push_str("</ol>\n");
    if let Some(more @ 1..) = status.drift.len().checked_sub(SHOWN) {
        writeln!(
            page,
            r#"<p class="note">{} before that: <a href="/drift">/drift</a>.</p>"#,
            count(more, "more drift")
        )?;
    }
    page.push_str("</section>\n");
    Ok(())
}

fn entry(page: &mut String, drift: &DriftRecord, now: SystemTime) -> fmt::Result {
    let name = drift.path.file_name().unwrap_or(drift.path.as_os_str());
    let (mark, end) = outcome(&drift.outcome);
    writeln!(
        page,
        "<li>{mark}<div>\n<p class=\"event\"><span title=\"{}\">{}</span> {}</p>\n<p class=\"end {}\">{end}</p>",
        text(drift.path.display()),
        code(name.display()),
        text(&drift.what),
        mark.class(),
    )?;
    write!(
        page,
        "<p class=\"note\">{} <span class=\"tag\">{}</span> {}",
        time(drift.at, now),
        text(drift.kind),
        code(&drift.before)
    )?;
    if let Some(after) = &drift.after {
        write!(page, " → {}", code(after))?;
    }
    page.push_str("</p>\n");
    let times = (drift.times > 1).then(|| format!("{} times in a row", drift.times));
    let by = drift.by.as_ref().map(|by| format!("by {}", text(by)));
    let more: Vec<String> = times.into_iter().chain(by).collect();
    if !more.is_empty() {
        writeln!(page, r#"<p class="more">{}</p>"#, more.join(", "))?;
    }
    page.push_str("</div></li>\n");
    Ok(())
}

fn outcome(outcome: &Outcome) -> (Mark, String) {
    match outcome {
        Outcome::Open { waiting: None } => (Mark::Bad, "open".to_owned()),
        Outcome::Open {
            waiting: Some(reason),
        } => (Mark::Bad, format!("open: {}", text(reason))),
        Outcome::Healed { how, took } => (
            Mark::Good,
            format!("healed in {}, {}", format_duration(*took), text(how)),
        ),
        Outcome::Gone { after } => (
            Mark::Odd,
            format!("gone by itself after {}", format_duration(*after)),
        ),
    }
}

/// The last failures of the agent's own work.
pub(super) fn errors(page: &mut String, status: &Status, now: SystemTime) -> fmt::Result {
    if status.errors.is_empty() {
        return Ok(());
    }
    page.push_str("<section aria-labelledby=\"errors\">\n<h2 id=\"errors\">Failures of the agent’s own work</h2>\n<ol class=\"log\">\n");
    for trouble in &status.errors {
        let times = match trouble.times {
            0 | 1 => String::new(),
            times => format!(", {times} times in a row"),
        };
        writeln!(
            page,
            "<li>{}<div><p class=\"event\">{}</p><p class=\"note\">{}{times}</p></div></li>",
            Mark::Odd,
            text(&trouble.what),
            time(trouble.at, now)
        )?;
    }
    page.push_str("</ol>\n</section>\n");
    Ok(())
}
