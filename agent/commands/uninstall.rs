//! `uninstall`: take away what is ours, the conflist first.

use serde_json::json;

use super::{Exit, Failure, keeper, output};
use crate::cli::{Global, Output};
use crate::reconcile::Removal;

/// Runs it.
pub(super) async fn run(global: &Global, format: Output) -> Result<Exit, Failure> {
    let (keeper, _) = keeper(global)?;
    let done = keeper.uninstall().await?;
    if format == Output::Json {
        output::json(&json!({ "removals": done.removals }));
        return Ok(Exit::Done);
    }
    for removal in &done.removals {
        output::line(match removal {
            Removal::Removed { path } => format!("removed   {}", path.display()),
            Removal::Gone { path } => {
                format!("gone      {}  was removed by somebody else", path.display())
            }
            Removal::Spared { path, reason } => format!("spared    {}  {reason}", path.display()),
            Removal::Restored { path } => format!("restored  {}", path.display()),
        });
    }
    output::line(match done.removals.is_empty() {
        true => "nothing to do: no file here was placed by cni-keeper",
        false => {
            "done: nothing that cni-keeper placed is left; directories and foreign files are untouched"
        }
    });
    Ok(Exit::Done)
}
