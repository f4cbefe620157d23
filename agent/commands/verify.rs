//! `verify`: the disk against the declaration.

use serde_json::json;

use super::{Exit, Failure, informed, located, output, show};
use crate::cli::{Global, Output};

/// Runs it.
pub(super) async fn run(global: &Global, format: Output) -> Result<Exit, Failure> {
    let (keeper, loaded) = informed(global).await?;
    let snapshot = keeper
        .verify()
        .await
        .map_err(|error| located(&loaded, error))?;
    let right = snapshot.is_right();
    match format {
        Output::Json => output::json(&json!({ "clean": right, "snapshot": snapshot })),
        Output::Text => {
            show::snapshot(&snapshot);
            let failed = snapshot
                .checks
                .iter()
                .filter(|check| !check.failures.is_empty());
            let names: Vec<&str> = failed.map(|check| check.name.as_str()).collect();
            output::line(match right {
                true => format!("clean: {} files are as declared", snapshot.files.len()),
                false => format!("drift: {}", names.join(", ")),
            });
        }
    }
    Ok(if right { Exit::Done } else { Exit::Differs })
}
