//! `render`: the conflist as it would be written.

use super::failure::CommandError;
use super::load::{locate_error, open_informed_context};
use super::output;
use super::output::Exit;
use crate::cli::Global;
use crate::reconcile::Reconciler;

pub(super) async fn run_render(global: &Global) -> Result<Exit, CommandError> {
    let (context, loaded) = open_informed_context(global).await?;
    let observed = Reconciler::new(context)
        .observe()
        .await
        .map_err(|error| locate_error(&loaded, error))?;
    match observed.network.map(|network| network.rendered) {
        Some(Ok(rendered)) => {
            output::print_text(&rendered.text);
            Ok(Exit::Done)
        }
        Some(Err(unrendered)) => {
            output::print_complaint(global.log_format, &format!("the conflist {unrendered}"));
            Ok(Exit::Failed)
        }
        None => {
            output::print_complaint(
                global.log_format,
                &format!(
                    "{}: there is no network.conflist to render; add one, or start from a profile",
                    loaded.file.display()
                ),
            );
            Ok(Exit::Usage)
        }
    }
}
