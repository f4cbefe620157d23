//! The state of a node on a terminal, for somebody who is tired: what is wrong first and in full, what is right
//! in few words.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::columns::{Cell, Paint, Tone, cell, columns};
use super::wire::{Check, Directory, Drift, Drifts, File, Outcome, Said, Trouble};
use crate::model::{Timestamp, format_duration};

/// Up to so many files, each right one gets a line of its own.
const FEW: usize = 8;

/// How many drifts are shown.
const LAST: usize = 8;

/// Draws it.
pub(super) fn draw(said: &Said, drifts: &Drifts, now: SystemTime, paint: Paint) -> String {
    let mut shown = headline(said, now, paint);
    let mut section = |title: &str, lines: &[Vec<Cell>]| {
        if !lines.is_empty() {
            let title = paint.of(Tone::Title, title);
            shown.push_str(&format!("\n{title}\n{}", columns(lines, paint)));
        }
    };
    section("CHECKS", &checks(&said.checks));
    section("FILES", &files(&said.files));
    section(
        "NETWORK",
        &said.directory.as_ref().map(network).unwrap_or_default(),
    );
    section("LAST DRIFTS", &log(drifts, now));
    section("THE AGENT'S OWN FAILURES", &errors(&said.errors, now));
    shown
}

fn headline(said: &Said, now: SystemTime, paint: Paint) -> String {
    let (word, tone) = match said.ready {
        true => ("Ready", Tone::Good),
        false => ("Not ready", Tone::Bad),
    };
    let node = said.agent.node.as_deref().unwrap_or_default();
    let node = match node {
        "" => String::new(),
        node => format!("  {}", paint.of(Tone::Title, node)),
    };
    let read = match &said.verified {
        Some(at) => format!("all files read {}", ago(at, now)),
        None => "not all files read yet".to_owned(),
    };
    let fresh = format!(
        "looked {}, {read}, agent {} started {}",
        ago(&said.looked, now),
        said.agent.version,
        ago(&said.agent.started, now)
    );
    let (word, fresh) = (paint.of(tone, word), paint.of(Tone::Soft, &fresh));
    format!("{word}{node}  {fresh}\n")
}

fn checks(checks: &[Check]) -> Vec<Vec<Cell>> {
    let mut lines = Vec::new();
    let mut told = |tone, word: &str, name: &str, reasons: &[String]| {
        for (at, reason) in reasons.iter().enumerate() {
            // The second reason of a check belongs to the name above it.
            let (word, name) = if at == 0 { (word, name) } else { ("", "") };
            lines.push(vec![
                cell(tone, word),
                cell(Tone::Title, name),
                cell(Tone::Plain, reason),
            ]);
        }
    };
    for check in checks {
        told(Tone::Bad, "failed", &check.name, &check.failures);
    }
    for check in checks {
        told(Tone::Odd, "odd", &check.name, &check.warnings);
    }
    let fine = checks
        .iter()
        .filter(|check| check.failures.is_empty() && check.warnings.is_empty());
    let fine: Vec<&str> = fine.map(|check| check.name.as_str()).collect();
    if !fine.is_empty() {
        lines.push(vec![
            cell(Tone::Good, "ok"),
            cell(Tone::Plain, fine.join(", ")),
        ]);
    }
    lines
}

fn files(files: &[File]) -> Vec<Vec<Cell>> {
    let is_right = |file: &&File| matches!(file.standing.as_str(), "ok" | "kept");
    let (right, wrong): (Vec<&File>, Vec<&File>) = files.iter().partition(is_right);
    let mut lines: Vec<Vec<Cell>> = wrong.into_iter().map(whole).collect();
    if files.len() <= FEW {
        lines.extend(right.into_iter().map(whole));
        return lines;
    }
    let mut directories: Vec<&Path> = right.iter().filter_map(|file| directory(file)).collect();
    directories.dedup();
    for parent in directories {
        let names: Vec<String> = right
            .iter()
            .filter(|file| directory(file) == Some(parent))
            .map(|file| name(&file.path))
            .collect();
        lines.push(vec![
            cell(Tone::Good, "ok"),
            cell(
                Tone::Plain,
                format!("{}: {}", parent.display(), names.join(" ")),
            ),
        ]);
    }
    lines
}

fn directory(file: &File) -> Option<&Path> {
    Path::new(&file.path).parent()
}

fn name(path: &str) -> String {
    let name = Path::new(path).file_name().unwrap_or(path.as_ref());
    name.to_string_lossy().into_owned()
}

/// One file: how it stands, where it is and comes from, what it must be and is.
fn whole(file: &File) -> Vec<Cell> {
    let kinds: Vec<&str> = file
        .drifts
        .iter()
        .map(|drift| drift.kind.as_str())
        .collect();
    let (tone, word) = match file.standing.as_str() {
        "ok" | "kept" => (Tone::Good, file.standing.clone()),
        "waiting" => (Tone::Odd, file.standing.clone()),
        _ => (Tone::Bad, kinds.join(", ")),
    };
    let digests = match (&file.expected, &file.actual) {
        (Some(expected), Some(actual)) if expected != actual => {
            format!("expected {}, found {}", short(expected), short(actual))
        }
        (Some(expected), None) => format!("expected {}", short(expected)),
        (_, Some(actual)) => short(actual).to_owned(),
        (None, None) => String::new(),
    };
    vec![
        cell(tone, word),
        cell(Tone::Plain, &file.path),
        cell(Tone::Soft, &file.origin),
        cell(Tone::Soft, digests),
    ]
}

/// The first twelve digits, for people.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn network(directory: &Directory) -> Vec<Vec<Cell>> {
    let mut lines = Vec::new();
    if let Some(network) = &directory.effective {
        lines.push(vec![cell(
            Tone::Plain,
            format!(
                "{}  ({} in {}, CNI {})",
                network.chain.join(" → "),
                network.name,
                network.file,
                network.cni_version
            ),
        )]);
    }
    for runtime in &directory.runtimes {
        let takes = match &runtime.takes {
            Some(file) => cell(Tone::Plain, format!("takes {file}")),
            None => cell(Tone::Bad, "takes nothing"),
        };
        lines.push(vec![
            cell(Tone::Title, &runtime.runtime),
            takes,
            cell(Tone::Soft, runtime.why.join("; ")),
        ]);
    }
    lines
}

fn log(drifts: &Drifts, now: SystemTime) -> Vec<Vec<Cell>> {
    let line = |drift: &Drift| {
        let (end, more) = end(drift);
        vec![
            cell(Tone::Soft, ago(&drift.at, now)),
            end,
            // What may be long comes last.
            cell(
                Tone::Plain,
                format!("{} {}{more}", name(&drift.path), drift.what),
            ),
        ]
    };
    drifts.entries.iter().take(LAST).map(line).collect()
}

/// How it ended, and what else is known of it.
fn end(drift: &Drift) -> (Cell, String) {
    let (end, how) = match &drift.outcome {
        Outcome::Open { waiting } => (cell(Tone::Bad, "open"), waiting.as_ref()),
        Outcome::Healed { how, seconds } => (
            cell(Tone::Good, format!("healed in {}", time(*seconds))),
            Some(how),
        ),
        Outcome::Gone { seconds } => (
            cell(Tone::Odd, format!("gone after {}", time(*seconds))),
            None,
        ),
    };
    let mut more = how.map_or_else(String::new, |how| format!("; {how}"));
    if drift.times > 1 {
        more.push_str(&format!(", {} times in a row", drift.times));
    }
    if let Some(by) = &drift.by {
        more.push_str(&format!(", by {by}"));
    }
    (end, more)
}

fn errors(errors: &[Trouble], now: SystemTime) -> Vec<Vec<Cell>> {
    let line = |trouble: &Trouble| {
        let times = match trouble.times {
            0 | 1 => String::new(),
            times => format!(" ({times} times in a row)"),
        };
        vec![
            cell(Tone::Soft, ago(&trouble.at, now)),
            cell(Tone::Plain, format!("{}{times}", trouble.what)),
        ]
    };
    errors.iter().map(line).collect()
}

/// `3 min ago`; the time itself where it is none or has not come yet.
fn ago(at: &str, now: SystemTime) -> String {
    let moment = humantime::parse_rfc3339(at).ok().map(Timestamp);
    let ago = moment.and_then(|moment| moment.format_age(now));
    ago.unwrap_or_else(|| at.to_owned())
}

fn time(seconds: f64) -> String {
    format_duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
