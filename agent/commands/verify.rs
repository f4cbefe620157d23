//! `verify`: compares the disk with the declaration.

use serde_json::json;

use super::failure::CommandError;
use super::load::{locate_error, open_informed_context};
use super::output::Exit;
use super::{output, show};
use crate::cli::{Global, Output};
use crate::reconcile::Reconciler;

pub(super) async fn run_verify(global: &Global, format: Output) -> Result<Exit, CommandError> {
    let (context, loaded) = open_informed_context(global).await?;
    let snapshot = Reconciler::new(context)
        .verify()
        .await
        .map_err(|error| locate_error(&loaded, error))?;
    let right = snapshot.is_right();
    match format {
        Output::Json => output::print_json(&json!({ "clean": right, "snapshot": snapshot })),
        Output::Text => {
            show::print_snapshot(&snapshot);
            output::print_line(match right {
                true => format!("clean: {} files are as declared", snapshot.files.len()),
                false => format!("drift: {}", show::join_failed_checks(&snapshot)),
            });
        }
    }
    Ok(if right { Exit::Done } else { Exit::Differs })
}
