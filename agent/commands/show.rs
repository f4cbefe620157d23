//! How files, checks and steps are printed for people.

use std::path::Path;

use super::output;
use crate::cni::RenderProblem;
use crate::config::LoadedConfig;
use crate::model::{
    CheckName, Difference, FileName, FileReport, ManagedDir, PluginName, Snapshot, Standing,
};
use crate::plan::{Pending, Plan, Step};
use crate::reconcile::Context;

/// `FILE:LINE: network.conflist.AT: what is wrong`, for a mistake within the conflist.
pub(super) fn locate_finding(loaded: &LoadedConfig, at: &str, text: &str) -> String {
    let key = match at {
        "" => "network.conflist".to_owned(),
        at => format!("network.conflist.{at}"),
    };
    locate(loaded, &key, text)
}

/// `FILE:LINE: KEY: text`, for any key.
pub(super) fn locate(loaded: &LoadedConfig, key: &str, text: &str) -> String {
    format!("{}: {key}: {text}", place_of(loaded, key))
}

/// The same for a placeholder that cannot be filled in. The problem's text begins with its place in the conflist.
pub(super) fn locate_problem(loaded: &LoadedConfig, problem: &RenderProblem) -> String {
    let key = format!("network.conflist.{}", problem.at());
    format!("{}: network.conflist.{problem}", place_of(loaded, &key))
}

fn place_of(loaded: &LoadedConfig, key: &str) -> String {
    match loaded.line_of(key) {
        Some(line) => format!("{}:{line}", loaded.file.display()),
        None => loaded.file.display().to_string(),
    }
}

/// Prints a line for every file, then one for every failure and warning of a check.
pub(super) fn print_snapshot(snapshot: &Snapshot) {
    for file in &snapshot.files {
        output::print_line(format!(
            "{:<10} {}{}",
            state_word(file),
            file.path.display(),
            file_detail(file)
        ));
    }
    for check in &snapshot.checks {
        // The lines of the files already show what these two checks report, except for pins that are not known yet.
        let by_file = matches!(check.name, CheckName::Binaries | CheckName::Conflist)
            && snapshot.files.iter().any(|file| !file.drifts.is_empty());
        let is_reported = |failure: &str| {
            let begins = |path: &Path| failure.starts_with(&path.display().to_string());
            by_file
                && (check.name == CheckName::Conflist
                    || snapshot
                        .files
                        .iter()
                        .any(|file| file.path.parent().is_some_and(begins)))
        };
        for failure in check.failures.iter().filter(|line| !is_reported(line)) {
            output::print_line(format!("{:<10} {failure}", check.name));
        }
        for warning in &check.warnings {
            output::print_line(format!("{:<10} {}: {warning}", "warning", check.name));
        }
    }
}

fn state_word(file: &FileReport) -> &'static str {
    match (file.standing, file.drifts.first()) {
        (Standing::Kept, _) => "kept",
        (Standing::Waiting, _) => "waits",
        (_, Some(drift)) => drift.kind().as_str(),
        (_, None) => "ok",
    }
}

fn file_detail(file: &FileReport) -> String {
    let reported: Vec<String> = file
        .drifts
        .iter()
        .filter(|drift| **drift != Difference::Missing)
        .map(ToString::to_string)
        .collect();
    match (file.standing, reported.is_empty()) {
        (Standing::Kept, _) => "  the node's own build".to_owned(),
        (_, true) => match file.actual {
            Some(sha256) => format!("  {} {}", sha256.short(), file.origin),
            None => format!("  from {}", file.origin),
        },
        (_, false) => format!("  {}", reported.join(", ")),
    }
}

/// Prints a line for every step, in the order in which the steps would be or were taken.
pub(super) fn print_steps(steps: &[Step], context: &Context) {
    let shown = |dir, name: &FileName| context.shown_path(dir, name).display().to_string();
    let in_bin = |plugin: &PluginName| shown(ManagedDir::Bin, plugin.file());
    let in_conf = |name: &FileName| shown(ManagedDir::Conf, name);
    for step in steps {
        let (word, path, detail) = match step {
            Step::Fetch { artifact, pending } => {
                output::print_line(format!("fetch     {artifact}"));
                for Pending { plugin, drift } in pending {
                    let word = if *drift == Difference::Missing {
                        "place"
                    } else {
                        "compare"
                    };
                    output::print_line(format!("{word:<9} {}  {drift}", in_bin(plugin)));
                }
                continue;
            }
            Step::Place {
                plugin,
                drift,
                sha256,
                foreign,
            } => {
                let detail = format!(
                    "{} → {}{}",
                    describe_before(drift),
                    sha256.short(),
                    foreign_note(*foreign)
                );
                ("place", in_bin(plugin), detail)
            }
            Step::FixPlugin { plugin, drifts } => ("fix", in_bin(plugin), join_drifts(drifts)),
            Step::WriteConflist {
                name,
                drift,
                foreign,
            } => (
                "write",
                in_conf(name),
                format!("{drift}{}", foreign_note(*foreign)),
            ),
            Step::FixConflist { name, drifts } => ("fix", in_conf(name), join_drifts(drifts)),
            Step::RetireConflist { name } => (
                "remove",
                in_conf(name),
                "is ours, under an earlier name".to_owned(),
            ),
            Step::SetAside { name } => ("set aside", in_conf(name), "sorts before ours".to_owned()),
        };
        output::print_line(format!("{word:<9} {path}  {detail}"));
    }
}

/// A note on a file that is replaced and that cni-keeper did not place: uninstall cannot restore it.
const fn foreign_note(foreign: bool) -> &'static str {
    if foreign {
        "  (replaces a file that cni-keeper did not place)"
    } else {
        ""
    }
}

/// What no step can fix, and what is left as it is.
pub(super) fn print_unchanged(plan: &Plan, context: &Context) {
    for refusal in &plan.refused {
        let dir = match refusal.plugin {
            true => ManagedDir::Bin,
            false => ManagedDir::Conf,
        };
        let path = context.shown_path(dir, &refusal.name);
        output::print_line(format!("refused   {} {}", path.display(), refusal.drift));
    }
    for plugin in &plan.kept {
        let path = context.shown_path(ManagedDir::Bin, plugin.file());
        output::print_line(format!(
            "keep      {}  the node's own build",
            path.display()
        ));
    }
}

/// The names of the failed checks, as `a, b`.
pub(super) fn join_failed_checks(snapshot: &Snapshot) -> String {
    let failed = snapshot
        .checks
        .iter()
        .filter(|check| !check.failures.is_empty());
    let names: Vec<&str> = failed.map(|check| check.name.as_str()).collect();
    names.join(", ")
}

fn describe_before(drift: &Difference) -> String {
    match drift {
        Difference::Missing => "missing".to_owned(),
        Difference::Content { actual, .. } => actual.short(),
        other => other.to_string(),
    }
}

fn join_drifts(drifts: &[Difference]) -> String {
    drifts
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
