//! What the attempts of a download share: clients, credentials, options.

use std::io;
use std::path::Path;

use super::options::SourceOptions;
use super::partial::{AttemptError, PartialBlob};
use super::source_error::SourceError;
use crate::fetch::http::HttpClients;
use crate::fetch::oci::RegistryAuth;
use crate::fetch::spool::DownloadSpool;

/// Asks sources, for as long as one artifact's download takes.
pub(in crate::fetch) struct SourceClient<'a> {
    pub(in crate::fetch) options: &'a SourceOptions<'a>,
    pub(super) http: HttpClients<'a>,
    pub(super) registry_auth: RegistryAuth<'a>,
}

impl<'a> SourceClient<'a> {
    pub(in crate::fetch) fn new(options: &'a SourceOptions<'a>) -> Self {
        Self {
            options,
            http: HttpClients::new(options.settings, options.files),
            registry_auth: RegistryAuth::new(options.settings, options.files),
        }
    }

    /// Drops connections and authorities to free their memory; the next attempt makes new ones. The authorizations of
    /// registries are kept.
    pub(in crate::fetch) fn release_connections(&mut self) {
        self.http = HttpClients::new(self.options.settings, self.options.files);
    }

    /// Copies a file of this machine, of at most `max_size` bytes. In a seed it need not be: that has an error of its own,
    /// which says what was looked for.
    pub(super) async fn copy_file<S: DownloadSpool>(
        &self,
        path: &Path,
        looked_for_in_seed: Option<String>,
        max_size: u64,
        blob: PartialBlob<S>,
    ) -> Result<PartialBlob<S>, AttemptError<S>> {
        let (files, path) = (self.options.files, path.to_owned());
        let copy = move || match (files.open(&path), looked_for_in_seed) {
            (Ok(file), _) => blob.copy_from(file, max_size),
            (Err(error), Some(looked_for)) if error.kind() == io::ErrorKind::NotFound => {
                Err(blob.failed(SourceError::NotInSeed { looked_for }))
            }
            (Err(error), _) => Err(blob.failed(SourceError::File(error))),
        };
        // A mount that hangs must not stop whatever else the agent does.
        tokio::task::spawn_blocking(copy)
            .await
            .map_err(io::Error::other)?
    }
}
