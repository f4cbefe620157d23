//! One attempt at one place, and what attempts share: who is asked as whom, and which servers were found dead.

use std::io;
use std::path::Path;

use reqwest::Url;

use super::error::Failure;
use super::http_transfer::Exchange;
use super::options::Means;
use super::partial::Intake;
use super::source::{Place, Way};
use crate::fetch::http::clients::Access;
use crate::fetch::oci::auth::registry_auth::Doors;
use crate::fetch::spool::Spool;

/// Goes to places, for as long as one artifact's download takes.
pub(in crate::fetch) struct Courier<'a> {
    pub(in crate::fetch) means: &'a Means<'a>,
    access: Access<'a>,
    doors: Doors<'a>,
}

impl<'a> Courier<'a> {
    pub(in crate::fetch) fn new(means: &'a Means<'a>) -> Self {
        Self {
            means,
            access: Access::new(means.settings, means.files),
            doors: Doors::new(means.settings, means.files),
        }
    }

    /// Lets go of connections and authorities, whose memory is wanted elsewhere; the next attempt makes them anew. What
    /// opened a registry is kept.
    pub(in crate::fetch) fn rest(&mut self) {
        self.access = Access::new(self.means.settings, self.means.files);
    }

    /// Gets the bytes from `place`, the `index`th of its blob, or the rest of them. At most `max_size`.
    ///
    /// The outer error is the spool's and final; after the inner one the intake holds what came so far.
    pub(in crate::fetch) async fn attempt<S: Spool>(
        &mut self,
        place: &Place,
        index: usize,
        max_size: u64,
        intake: Intake<S>,
    ) -> io::Result<(Intake<S>, Result<(), Failure>)> {
        match &place.way {
            Way::Web(url) => self.exchange(url, index, max_size, intake).await,
            Way::File(path) => self.copy(path, false, max_size, intake).await,
            Way::Seed(path) => self.copy(path, true, max_size, intake).await,
            Way::Unusable(why) => Ok((intake, Err(Failure::Url(why.clone())))),
        }
    }

    async fn exchange<S: Spool>(
        &mut self,
        url: &Url,
        index: usize,
        max_size: u64,
        intake: Intake<S>,
    ) -> io::Result<(Intake<S>, Result<(), Failure>)> {
        let (settings, progress) = (self.means.settings, self.means.progress);
        let exchange = Exchange::begin(&self.access, &self.doors, settings, max_size, progress);
        exchange.run(url, index, intake).await
    }

    async fn copy<S: Spool>(
        &self,
        path: &Path,
        seeded: bool,
        max_size: u64,
        intake: Intake<S>,
    ) -> io::Result<(Intake<S>, Result<(), Failure>)> {
        let (files, path) = (self.means.files, path.to_owned());
        let copy = move || match files.open(&path) {
            Ok(file) => intake.copy(file, max_size),
            Err(error) if seeded && error.kind() == io::ErrorKind::NotFound => {
                Ok((intake, Err(Failure::NotInSeed)))
            }
            Err(error) => Ok((intake, Err(Failure::File(error)))),
        };
        // A mount that hangs must not stop whatever else the agent does.
        tokio::task::spawn_blocking(copy)
            .await
            .map_err(io::Error::other)?
    }
}
