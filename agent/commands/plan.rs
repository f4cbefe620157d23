//! `plan`: what `install` would change, as steps and, for the conflist, as a diff.

use serde_json::json;
use similar::TextDiff;

use super::failure::CommandError;
use super::load::{locate_error, open_informed_context};
use super::output::Exit;
use super::{output, show};
use crate::cli::{Global, Output};
use crate::model::ManagedDir;
use crate::plan::Step;
use crate::reconcile::{Context, NotRendered, ObservedState, Reconciler, ask_gates};
use crate::trust::describe_weakness;

pub(super) async fn run_plan(global: &Global, format: Output) -> Result<Exit, CommandError> {
    let (context, loaded) = open_informed_context(global).await?;
    let reconciler = Reconciler::new(context.clone());
    let observed = reconciler
        .observe()
        .await
        .map_err(|error| locate_error(&loaded, error))?;
    let waiting = reasons_to_wait(&context, &observed).await;
    let asks = reconciler.describe_unknown_pins(observed.plan.artifacts_to_fetch());
    let weaknesses: Vec<String> = context
        .settings()
        .artifacts
        .iter()
        .filter_map(describe_weakness)
        .collect();
    let clean = observed.plan.is_clean() && waiting.is_empty();
    let diff = conflist_diff(&context, &observed);
    match format {
        Output::Json => output::print_json(&json!({
            "clean": clean,
            "steps": observed.plan.steps,
            "refused": observed.plan.refused,
            "kept": observed.plan.kept,
            "asks": asks,
            "warnings": weaknesses,
            "waiting": waiting,
            "conflistDiff": diff,
        })),
        Output::Text => {
            for question in &asks {
                output::print_line(format!("ask       {question}"));
            }
            show::print_steps(&observed.plan.steps, &context);
            show::print_unchanged(&observed.plan, &context);
            for weakness in &weaknesses {
                output::print_line(format!("warning   {weakness}"));
            }
            for reason in &waiting {
                output::print_line(format!("wait      {reason}"));
            }
            if let Some(diff) = diff {
                output::print_text(&diff);
            }
            if clean {
                output::print_line("nothing to do: no file would change");
            }
        }
    }
    Ok(if clean { Exit::Done } else { Exit::Differs })
}

/// What the conflist waits for: its facts, and its gates.
async fn reasons_to_wait(context: &Context, observed: &ObservedState) -> Vec<String> {
    let mut waiting = Vec::new();
    if let Some(Err(NotRendered::Waiting(reason))) =
        observed.network.as_ref().map(|network| &network.rendered)
    {
        waiting.push(format!("the conflist cannot be rendered yet: {reason}"));
    }
    for reason in ask_gates(context).await {
        waiting.push(format!(
            "the conflist is not written before its gates hold: {reason}"
        ));
    }
    waiting
}

/// The change to the conflist as a unified diff, if the plan writes the conflist.
fn conflist_diff(context: &Context, observed: &ObservedState) -> Option<String> {
    let written = observed.plan.steps.iter().find_map(|step| match step {
        Step::WriteConflist { name, .. } => Some(name),
        _ => None,
    })?;
    let network = observed.network.as_ref()?;
    let rendered = network.rendered.as_ref().ok()?;
    let before = network.read_file(written).unwrap_or_default();
    let path = context.shown_path(ManagedDir::Conf, written);
    let path = path.display().to_string();
    let from = if before.is_empty() {
        "/dev/null"
    } else {
        &path
    };
    let diff = TextDiff::from_lines(before.as_str(), rendered.text.as_str());
    Some(diff.unified_diff().header(from, &path).to_string())
}
