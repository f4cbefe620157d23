//! `uninstall`: removes what cni-keeper placed, the conflist first. `reconcile/uninstall.rs` decides what is removed.

use serde_json::json;

use super::failure::CommandError;
use super::load::open_context;
use super::output;
use super::output::Exit;
use super::signal::wait_for_signal;
use crate::cli::{Global, Output};
use crate::reconcile::{self, RemovalOutcome};

/// Uninstalls. With `stay`, it then waits for a signal.
pub(super) async fn run_uninstall(
    global: &Global,
    stay: bool,
    format: Output,
) -> Result<Exit, CommandError> {
    let (context, _) = open_context(global)?;
    let removals = reconcile::uninstall(&context).await?;
    match format {
        Output::Json => output::print_json(&json!({ "removals": removals })),
        Output::Text => print_removals(&removals),
    }
    if stay {
        wait_for_signal().await;
    }
    Ok(Exit::Done)
}

fn print_removals(removals: &[RemovalOutcome]) {
    for removal in removals {
        output::print_line(match removal {
            RemovalOutcome::Removed { path } => format!("removed   {}", path.display()),
            RemovalOutcome::Gone { path } => {
                format!("gone      {}  was removed by somebody else", path.display())
            }
            RemovalOutcome::Spared { path, reason } => {
                format!("spared    {}  {reason}", path.display())
            }
            RemovalOutcome::Restored { path } => format!("restored  {}", path.display()),
        });
    }
    let spared = |removal: &RemovalOutcome| matches!(removal, RemovalOutcome::Spared { .. });
    let is_spared = removals.iter().any(spared);
    output::print_line(match (removals.is_empty(), is_spared) {
        (true, _) => "nothing to do: no file here was placed by cni-keeper",
        (false, false) => {
            "done: nothing that cni-keeper placed is left; directories and foreign files are untouched"
        }
        (false, true) => {
            "done: only what is spared above is left; directories and foreign files are untouched"
        }
    });
}
