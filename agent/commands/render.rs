//! `render`: the conflist as it would be written.

use super::{Exit, Failure, informed, located, output};
use crate::cli::Global;

/// Runs it.
pub(super) async fn run(global: &Global) -> Result<Exit, Failure> {
    let (keeper, loaded) = informed(global).await?;
    let sight = keeper
        .observe_strictly()
        .await
        .map_err(|error| located(&loaded, error))?;
    match sight.network.map(|network| network.rendered) {
        Some(Ok(rendered)) => {
            output::text(&rendered.text);
            Ok(Exit::Done)
        }
        Some(Err(unrendered)) => {
            output::complaint(global.log_format, &format!("the conflist {unrendered}"));
            Ok(Exit::Failed)
        }
        None => {
            output::complaint(
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
