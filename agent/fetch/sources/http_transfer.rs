//! One attempt at one http(s) source: request, redirects, resume, body.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, DATE, HeaderMap, HeaderName, IF_RANGE, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::error::{Failure, TimeLimit};
use super::options::Progress;
use super::partial::Intake;
use crate::fetch::http::clients::Access;
use crate::fetch::http::proxy_error;
use crate::fetch::http::proxy_error::NoTunnel;
use crate::fetch::http::range::{Validator, continues};
use crate::fetch::http::redirect::Trail;
use crate::fetch::http::throughput::Pace;
use crate::fetch::oci::auth::item::Item;
use crate::fetch::oci::auth::registry_auth::Doors;
use crate::fetch::spool::Spool;
use crate::{config, retry};

/// How many pieces of a body wait for the disk; the client's own buffer bounds the size of each.
const PIECES: usize = 2;

/// One attempt, and when it began.
pub(in crate::fetch) struct Exchange<'a> {
    access: &'a Access<'a>,
    /// What opens registries.
    doors: &'a Doors<'a>,
    settings: &'a config::FetchSettings,
    /// The most bytes that the body may have.
    max_size: u64,
    progress: &'a dyn Progress,
    began: Instant,
}

/// What an answer holds: the size as a whole if it is known, and whether it goes on where we are.
struct Offer {
    response: Response,
    total: Option<u64>,
    continues: bool,
}

impl<'a> Exchange<'a> {
    pub(in crate::fetch) fn begin(
        access: &'a Access<'a>,
        doors: &'a Doors<'a>,
        settings: &'a config::FetchSettings,
        max_size: u64,
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            access,
            doors,
            settings,
            max_size,
            progress,
            began: Instant::now(),
        }
    }

    /// Gets the body of `source`, the `index`th of its artifact, or the rest of it.
    ///
    /// The outer error is the spool's and final; after the inner one the intake holds what came so far.
    pub(in crate::fetch) async fn run<S: Spool>(
        &self,
        source: &Url,
        index: usize,
        mut intake: Intake<S>,
    ) -> io::Result<(Intake<S>, Result<(), Failure>)> {
        let mut offer = match self.ask(source, index, &intake).await {
            Ok(offer) => offer,
            Err(failure) => return Ok((intake, Err(failure))),
        };
        if offer.continues {
            intake.join();
        } else {
            let held = Validator::of(offer.response.headers()).map(|held| (index, held));
            intake.restart(held)?;
        }
        let position = intake.position();
        let (pieces, waiting) = mpsc::channel(PIECES);
        let writer = tokio::task::spawn_blocking(move || intake.absorb(waiting));
        let outcome = self.pump(&mut offer, position, pieces).await;
        let intake = writer.await.map_err(io::Error::other)??;
        Ok((intake, outcome))
    }

    /// Asks for the rest where a part is held, and for all of it where that is not to be had.
    async fn ask<S: Spool>(
        &self,
        source: &Url,
        index: usize,
        intake: &Intake<S>,
    ) -> Result<Offer, Failure> {
        let position = intake.position();
        if let Some(validator) = intake.held_from(index) {
            let range = [
                (RANGE, format!("bytes={position}-")),
                (IF_RANGE, validator.as_str().to_owned()),
            ];
            let response = self.open(source, &range).await?;
            match response.status() {
                // The server ignores ranges, or the thing has changed: either way this is all of it.
                StatusCode::OK => return self.offer(response, None),
                StatusCode::PARTIAL_CONTENT => {
                    if let Some(total) = continues(response.headers(), validator, position) {
                        let total = total
                            .or_else(|| Some(response.content_length()?.saturating_add(position)));
                        return self.offer(response, Some(total));
                    }
                }
                StatusCode::RANGE_NOT_SATISFIABLE => {}
                _ => return Err(unwanted(&response)),
            }
        }
        let response = self.open(source, &[]).await?;
        match response.status() {
            StatusCode::OK => self.offer(response, None),
            _ => Err(unwanted(&response)),
        }
    }

    /// Sends the request and follows redirects to the answer.
    async fn open(
        &self,
        source: &Url,
        headers: &[(HeaderName, String)],
    ) -> Result<Response, Failure> {
        let mut trail = Trail::new(source.clone());
        let item = Item::of(source);
        let mut knocked = false;
        loop {
            let url = trail.current();
            let door = item.as_ref().filter(|item| item.is_at(url));
            let proxy = self.access.proxy(url)?;
            let mut request = self
                .access
                .request(Method::GET, url)?
                // The pin is of the bytes as they are stored; whatever comes is never decoded.
                .header(ACCEPT_ENCODING, "identity");
            for (name, value) in headers {
                request = request.header(name, value);
            }
            if let Some(item) = door {
                request = request.headers(self.doors.headers(item, self.access).await?);
            }
            let patience = self
                .settings
                .connect_timeout
                .saturating_add(self.settings.read_timeout);
            let sent = self.within(patience, request.send()).await;
            let response = match sent.map_err(|late| late.via(proxy))? {
                Ok(response) => response,
                Err(error) => return Err(self.unsent(error, url, proxy).await),
            };
            match (response.status().as_u16(), door) {
                (301 | 302 | 303 | 307 | 308, _) => {
                    let location = text(response.headers(), &LOCATION);
                    trail.follow(location)?;
                }
                (407, _) => return Err(unwanted(&response).via(proxy)),
                (401, Some(item)) if !knocked => {
                    knocked = true;
                    let headers = response.headers();
                    self.doors.knock(item, headers, self.access).await?;
                }
                (code @ 401..=404, Some(item)) => {
                    return match self.doors.meaning(item, code) {
                        Some(failure) => Err(failure),
                        None => Ok(response),
                    };
                }
                _ => return Ok(response),
            }
        }
    }

    /// Sorts an error from before an answer.
    async fn unsent(&self, error: reqwest::Error, url: &Url, proxy: Option<&Url>) -> Failure {
        let patience = self.settings.connect_timeout;
        let Some(proxy) = proxy else {
            return Failure::before_body(error, url, patience);
        };
        let mut no_tunnel = NoTunnel::of(&error);
        if let Some(NoTunnel::Refused(status)) = &mut no_tunnel {
            let asked = self
                .within(patience, proxy_error::refusal(proxy, url))
                .await;
            *status = asked.ok().flatten();
        }
        Failure::through_proxy(error, url, proxy, no_tunnel, patience)
    }

    /// `rest` is given where the body goes on at our position, and holds the total size if that is known.
    fn offer(&self, response: Response, rest: Option<Option<u64>>) -> Result<Offer, Failure> {
        let total = rest.unwrap_or_else(|| response.content_length());
        let limit = self.max_size;
        if total.is_some_and(|total| total > limit) {
            return Err(Failure::TooLarge { limit });
        }
        Ok(Offer {
            response,
            total,
            continues: rest.is_some(),
        })
    }

    /// Moves the body to the writer. A writer that hung up has an error of its own, which its task tells.
    async fn pump(
        &self,
        offer: &mut Offer,
        mut position: u64,
        pieces: mpsc::Sender<Bytes>,
    ) -> Result<(), Failure> {
        let settings = self.settings;
        let total = offer.total;
        let mut pace = Pace::new(settings.read_timeout, settings.min_rate);
        self.progress.moved(position, total);
        loop {
            let asked = Instant::now();
            let piece = self
                .within(settings.read_timeout, offer.response.chunk())
                .await?
                .map_err(|error| Failure::within_body(error, position, total))?;
            let Some(piece) = piece else { break };
            position = position.saturating_add(piece.len() as u64);
            if position > self.max_size {
                return Err(Failure::TooLarge {
                    limit: self.max_size,
                });
            }
            pace.record(asked.elapsed(), piece.len() as u64)
                .map_err(|rate| Failure::TooSlow {
                    rate,
                    least: settings.min_rate,
                })?;
            if pieces.send(piece).await.is_err() {
                return Ok(());
            }
            self.progress.moved(position, total);
        }
        match total {
            Some(want) if want != position => Err(Failure::Truncated {
                got: position,
                want: total,
            }),
            _ => Ok(()),
        }
    }

    /// Waits for the network, but not longer than `patience` and not beyond the attempt's total.
    async fn within<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let total = self.settings.total_timeout;
        let left = total.saturating_sub(self.began.elapsed());
        let late = if left < patience {
            Failure::Timeout {
                limit: TimeLimit::Total,
                after: total,
            }
        } else {
            Failure::Timeout {
                limit: TimeLimit::Silence,
                after: self.settings.read_timeout,
            }
        };
        timeout(left.min(patience), work).await.map_err(|_| late)
    }
}

pub(in crate::fetch) fn unwanted(response: &Response) -> Failure {
    let headers = response.headers();
    // By the server's own clock if it tells it: the clock of a node that just booted may be years off.
    let now = text(headers, &DATE)
        .and_then(|date| httpdate::parse_http_date(date).ok())
        .unwrap_or_else(SystemTime::now);
    Failure::Status {
        code: response.status().as_u16(),
        retry_after: text(headers, &RETRY_AFTER)
            .and_then(|wish| retry::parse_retry_after(wish, now)),
    }
}

pub(in crate::fetch) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
