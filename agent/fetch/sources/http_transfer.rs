//! One attempt at one http(s) source: request, redirects, resume, body.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, HeaderName, IF_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::partial::{AttemptError, PartialBlob};
use super::source_client::SourceClient;
use super::source_error::SourceError;
use crate::config;
use crate::fetch::http::{
    HttpError, RedirectChain, ResumeValidator, ResumedRange, ThroughputMeter, TimeLimit,
};
use crate::fetch::oci::RegistryItem;
use crate::fetch::spool::DownloadSpool;

/// How many chunks of a body wait for the disk; the client's own buffer bounds the size of each.
const WAITING_CHUNKS: usize = 1;

/// One attempt, and when it began.
pub(super) struct HttpTransfer<'a> {
    client: &'a SourceClient<'a>,
    settings: &'a config::FetchSettings,
    /// The most bytes that the body may have.
    max_size: u64,
    began: Instant,
}

/// An answer with a body that is wanted.
struct BodyAnswer {
    response: Response,
    /// The size of the whole blob in bytes, where it is known.
    total: Option<u64>,
    /// Whether the body goes on where our part ends.
    is_rest: bool,
}

impl<'a> HttpTransfer<'a> {
    pub(super) fn new(client: &'a SourceClient<'a>, max_size: u64) -> Self {
        Self {
            client,
            settings: client.options.settings,
            max_size,
            began: Instant::now(),
        }
    }

    /// Gets the body of `source`, the `index`th of its blob, or the rest of it.
    pub(super) async fn receive<S: DownloadSpool>(
        &self,
        source: &Url,
        index: usize,
        mut blob: PartialBlob<S>,
    ) -> Result<PartialBlob<S>, AttemptError<S>> {
        let mut answer = match self.request_body(source, index, &blob).await {
            Ok(answer) => answer,
            Err(error) => return Err(blob.failed(error)),
        };
        if answer.is_rest {
            blob.join_rest();
        } else {
            let validator = ResumeValidator::from_headers(answer.response.headers());
            blob.restart(validator.map(|validator| (index, validator)))?;
        }
        let position = blob.position();
        let (chunks, mut waiting) = mpsc::channel::<Bytes>(WAITING_CHUNKS);
        let writer = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = waiting.blocking_recv() {
                blob.append(&chunk)?;
            }
            Ok::<_, io::Error>(blob)
        });
        let received = self.receive_body(&mut answer, position, chunks).await;
        let blob = writer.await.map_err(io::Error::other)??;
        match received {
            Ok(()) => Ok(blob),
            Err(error) => Err(blob.failed(error)),
        }
    }

    /// Asks for the rest where a part is here, and for all of it where the rest is not to be had.
    async fn request_body<S: DownloadSpool>(
        &self,
        source: &Url,
        index: usize,
        blob: &PartialBlob<S>,
    ) -> Result<BodyAnswer, SourceError> {
        let position = blob.position();
        if let Some(validator) = blob.resume_from(index) {
            let range = [
                (RANGE, format!("bytes={position}-")),
                (IF_RANGE, validator.as_str().to_owned()),
            ];
            let response = self.send_request(source, &range).await?;
            match response.status() {
                // The server ignores ranges, or the blob has changed: either way this is all of it.
                StatusCode::OK => return self.accept_whole(response),
                StatusCode::PARTIAL_CONTENT => {
                    let headers = response.headers();
                    if let Some(range) = ResumedRange::from_headers(headers, validator, position) {
                        return self.accept_rest(response, &range, position);
                    }
                }
                StatusCode::RANGE_NOT_SATISFIABLE => {}
                _ => return Err(HttpError::from_status(&response).into()),
            }
        }
        let response = self.send_request(source, &[]).await?;
        match response.status() {
            StatusCode::OK => self.accept_whole(response),
            _ => Err(HttpError::from_status(&response).into()),
        }
    }

    /// Sends the request and follows redirects to the answer.
    async fn send_request(
        &self,
        source: &Url,
        headers: &[(HeaderName, String)],
    ) -> Result<Response, SourceError> {
        let (http, registry_auth) = (&self.client.http, &self.client.registry_auth);
        let mut chain = RedirectChain::new(source.clone());
        let item = RegistryItem::from_url(source);
        let mut has_answered_challenge = false;
        loop {
            let url = chain.current();
            let at_registry = item.as_ref().filter(|item| item.is_at(url));
            let mut request = http
                .request(Method::GET, url)?
                // The pin is of the bytes as they are stored; whatever comes is never decoded.
                .header(ACCEPT_ENCODING, "identity");
            for (name, value) in headers {
                request = request.header(name, value);
            }
            if let Some(item) = at_registry {
                let headers = registry_auth.headers_for(item, http);
                let headers = self.run_within(Duration::MAX, headers).await??;
                request = request.headers(headers);
            }
            let time_limit = self
                .settings
                .connect_timeout
                .saturating_add(self.settings.read_timeout);
            let sent = self.run_within(time_limit, http.send(request, &chain));
            let response = match sent.await {
                Ok(sent) => sent?,
                Err(late) => return Err(late.through_proxy(http.proxy_for(url)?).into()),
            };
            match (response.status().as_u16(), at_registry) {
                (301 | 302 | 303 | 307 | 308, _) => {
                    http.follow(&mut chain, &response)?;
                }
                (401, Some(item)) if !has_answered_challenge => {
                    has_answered_challenge = true;
                    let answered = registry_auth.answer_challenge(item, &response, http);
                    self.run_within(Duration::MAX, answered).await??;
                }
                (code @ 401..=404, Some(item)) => {
                    return match registry_auth.explain_status(item, code) {
                        Some(error) => Err(error.into()),
                        None => Ok(response),
                    };
                }
                _ => return Ok(response),
            }
        }
    }

    fn accept_whole(&self, response: Response) -> Result<BodyAnswer, SourceError> {
        let total = response.content_length();
        self.accept(response, total, false)
    }

    fn accept_rest(
        &self,
        response: Response,
        range: &ResumedRange,
        position: u64,
    ) -> Result<BodyAnswer, SourceError> {
        let announced = || Some(response.content_length()?.saturating_add(position));
        let total = range.total.or_else(announced);
        self.accept(response, total, true)
    }

    fn accept(
        &self,
        response: Response,
        total: Option<u64>,
        is_rest: bool,
    ) -> Result<BodyAnswer, SourceError> {
        let limit = self.max_size;
        if total.is_some_and(|total| total > limit) {
            return Err(HttpError::TooLarge { limit }.into());
        }
        Ok(BodyAnswer {
            response,
            total,
            is_rest,
        })
    }

    /// Moves the body to the writer. A writer that hung up has an error of its own, which its task returns.
    async fn receive_body(
        &self,
        answer: &mut BodyAnswer,
        mut position: u64,
        chunks: mpsc::Sender<Bytes>,
    ) -> Result<(), HttpError> {
        let settings = self.settings;
        let (total, limit) = (answer.total, self.max_size);
        let mut throughput = ThroughputMeter::new(settings.read_timeout, settings.min_rate);
        let progress = self.client.options.progress;
        progress.moved(position, total);
        loop {
            let asked = Instant::now();
            let chunk = self
                .run_within(settings.read_timeout, answer.response.chunk())
                .await?
                .map_err(|error| HttpError::within_body(error, position, total))?;
            let Some(chunk) = chunk else { break };
            position = position.saturating_add(chunk.len() as u64);
            if position > limit {
                return Err(HttpError::TooLarge { limit });
            }
            throughput
                .record_wait(asked.elapsed(), chunk.len() as u64)
                .map_err(|rate| HttpError::TooSlow {
                    rate,
                    least: settings.min_rate,
                })?;
            if chunks.send(chunk).await.is_err() {
                return Ok(());
            }
            progress.moved(position, total);
        }
        match total {
            Some(want) if want != position => Err(HttpError::Truncated {
                got: position,
                want: total,
            }),
            _ => Ok(()),
        }
    }

    /// Waits for the network, but not longer than `limit` and not beyond the attempt's total.
    ///
    /// The total is compared with the clock first: a timer that is made anew for each chunk would never end where chunks
    /// come faster than it ticks.
    async fn run_within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, HttpError> {
        let total = self.settings.total_timeout;
        let left = total.saturating_sub(self.began.elapsed());
        let late = if left <= limit {
            HttpError::Timeout {
                limit: TimeLimit::Total,
                after: total,
            }
        } else {
            HttpError::Timeout {
                limit: TimeLimit::Silence,
                after: self.settings.read_timeout,
            }
        };
        if left.is_zero() {
            return Err(late);
        }
        timeout(left.min(limit), work).await.map_err(|_| late)
    }
}
