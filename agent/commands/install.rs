//! `install`: makes the node as declared, once.

use serde_json::json;

use super::failure::CommandError;
use super::load::{locate_error, open_context, open_informed_context};
use super::output::Exit;
use super::progress::Terminal;
use super::{output, plan, show};
use crate::cli::{Global, Output};
use crate::config::DriftPolicy;
use crate::model::{Snapshot, Standing};
use crate::reconcile::{Context, InstallOptions, InstallReport, Reconciler};

pub(super) async fn run_install(
    global: &Global,
    offline: bool,
    format: Output,
) -> Result<Exit, CommandError> {
    let (context, loaded) = match offline {
        true => open_context(global)?,
        false => open_informed_context(global).await?,
    };
    if context.settings().drift.policy == DriftPolicy::Report {
        tracing::warn!("drift.policy is report: nothing is changed, this is only the plan");
        let planned = plan::run_plan(global, format).await?;
        // A foreign conflist and a gate that does not hold are in no plan, so all checks are asked as well.
        let snapshot = Reconciler::new(context)
            .verify()
            .await
            .map_err(|error| locate_error(&loaded, error))?;
        if planned == Exit::Done && !snapshot.is_right() {
            print_failures(global, &snapshot);
            return Ok(Exit::Differs);
        }
        return Ok(planned);
    }
    let download = InstallOptions {
        offline,
        progress: &Terminal::new(),
    };
    let done = Reconciler::new(context.clone())
        .install(&download)
        .await
        .map_err(|error| locate_error(&loaded, error))?;
    let right = done.failures.is_empty() && done.snapshot.is_right();
    match format {
        Output::Json => output::print_json(&json!({
            "converged": right,
            "fetched": done.fetched,
            "steps": done.steps,
            "failures": done.failures.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "snapshot": done.snapshot,
        })),
        Output::Text => print_report(&context, &done, right),
    }
    for failure in &done.failures {
        output::print_error(global.log_format, failure);
    }
    if right {
        return Ok(Exit::Done);
    }
    if done.failures.is_empty() {
        print_failures(global, &done.snapshot);
    } else {
        // The cause was printed above. Failures that follow from it would only hide it.
        let names = show::join_failed_checks(&done.snapshot);
        output::print_complaint(
            global.log_format,
            &format!("not as declared: {names}; `cni-keeper verify` lists what is wrong"),
        );
    }
    Ok(Exit::Failed)
}

/// Prints every failure of every check.
fn print_failures(global: &Global, snapshot: &Snapshot) {
    for check in &snapshot.checks {
        for failure in &check.failures {
            output::print_complaint(global.log_format, &format!("{}: {failure}", check.name));
        }
    }
}

fn print_report(context: &Context, done: &InstallReport, right: bool) {
    for fetched in &done.fetched {
        output::print_line(format!(
            "fetched   {} {}  {} from {}, {} verified",
            fetched.artifact,
            fetched.version,
            indicatif::HumanBytes(fetched.bytes),
            fetched.source,
            fetched.pin.chars().take(19).collect::<String>()
        ));
    }
    show::print_steps(&done.steps, context);
    for check in &done.snapshot.checks {
        for warning in &check.warnings {
            output::print_line(format!("warning   {}: {warning}", check.name));
        }
    }
    if !right {
        return;
    }
    let files = &done.snapshot.files;
    let kept = files
        .iter()
        .filter(|file| file.standing == Standing::Kept)
        .count();
    let kept = match kept {
        0 => String::new(),
        kept => format!(", {kept} of them the node's own build"),
    };
    let changes = if done.steps.is_empty() {
        "nothing to do"
    } else {
        "done"
    };
    output::print_line(format!(
        "{changes}: {} files are as declared{kept}",
        files.len()
    ));
}
