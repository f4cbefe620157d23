//! `plan`: what `install` would change, as steps and, for the conflist, as a diff.

use serde_json::json;
use similar::TextDiff;

use super::{Exit, Failure, informed, located, output, show};
use crate::cli::{Global, Output};
use crate::plan::Step;
use crate::reconcile::{Context, NotRendered, ObservedState};
use crate::trust::describe_weakness;

/// Runs it.
pub(super) async fn run(global: &Global, format: Output) -> Result<Exit, Failure> {
    let (keeper, loaded) = informed(global).await?;
    let sight = keeper
        .observe_strictly()
        .await
        .map_err(|error| located(&loaded, error))?;
    let waiting = waiting(&keeper, &sight).await;
    let asks = keeper.unknown_pins(sight.plan.fetches());
    let weaknesses: Vec<String> = keeper
        .settings()
        .artifacts
        .iter()
        .filter_map(describe_weakness)
        .collect();
    let clean = sight.plan.is_clean() && waiting.is_empty();
    let diff = conflist_diff(&keeper, &sight);
    match format {
        Output::Json => output::json(&json!({
            "clean": clean,
            "steps": sight.plan.steps,
            "refused": sight.plan.refused,
            "kept": sight.plan.kept,
            "asks": asks,
            "warnings": weaknesses,
            "waiting": waiting,
            "conflistDiff": diff,
        })),
        Output::Text => {
            for question in &asks {
                output::line(format!("ask       {question}"));
            }
            let (bin, conf) = keeper.shown_dirs();
            show::steps(&sight.plan.steps, &bin, &conf);
            show::open_ends(&sight.plan, &bin, &conf);
            for weakness in &weaknesses {
                output::line(format!("warning   {weakness}"));
            }
            for reason in &waiting {
                output::line(format!("wait      {reason}"));
            }
            if let Some(diff) = diff {
                output::text(&diff);
            }
            if clean {
                output::line("nothing to do: no file would change");
            }
        }
    }
    Ok(if clean { Exit::Done } else { Exit::Differs })
}

/// What the conflist waits for: its facts, and its gates.
async fn waiting(keeper: &Context, sight: &ObservedState) -> Vec<String> {
    let mut waiting = Vec::new();
    if let Some(Err(NotRendered::Waiting(reason))) =
        sight.network.as_ref().map(|network| &network.rendered)
    {
        waiting.push(format!("the conflist cannot be rendered yet: {reason}"));
    }
    for reason in keeper.ask_gates().await {
        waiting.push(format!(
            "the conflist is not written before its gates hold: {reason}"
        ));
    }
    waiting
}

/// The change to the conflist as a unified diff, where it is to be written.
fn conflist_diff(keeper: &Context, sight: &ObservedState) -> Option<String> {
    let written = sight.plan.steps.iter().find_map(|step| match step {
        Step::WriteConflist { name, .. } => Some(name),
        _ => None,
    })?;
    let network = sight.network.as_ref()?;
    let rendered = network.rendered.as_ref().ok()?;
    let before = network.content(written).unwrap_or_default();
    let (_, conf) = keeper.shown_dirs();
    let path = conf.join(written.as_str()).display().to_string();
    let from = if before.is_empty() {
        "/dev/null"
    } else {
        &path
    };
    let diff = TextDiff::from_lines(before.as_str(), rendered.text.as_str());
    Some(diff.unified_diff().header(from, &path).to_string())
}
