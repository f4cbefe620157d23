//! Asking a token server.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Method, Response};
use tokio::time::timeout;

use super::token::{LARGEST, Question, Token};
use crate::config;
use crate::fetch::http::clients::Access;
use crate::fetch::http::proxy_error::NoTunnel;
use crate::fetch::http::redirect::Trail;
use crate::fetch::sources::error::{Failure, TimeLimit};
use crate::fetch::sources::http_transfer::{text, unwanted};

/// Why there is no token.
pub(in crate::fetch) enum NoToken {
    /// The server says no.
    Denied,
    /// It could not be asked.
    Failed(Failure),
    /// It gave something else.
    Unusable(&'static str),
}

impl<F: Into<Failure>> From<F> for NoToken {
    fn from(failure: F) -> Self {
        Self::Failed(failure.into())
    }
}

/// Asks a question and reads the answer, all within the time that a server may keep silent.
///
/// Redirects are followed as for any source, and what we are known by stays with the server that was asked first.
pub(in crate::fetch) async fn ask(
    access: &Access<'_>,
    settings: &config::FetchSettings,
    question: Question,
) -> Result<Token, NoToken> {
    let patience = settings
        .connect_timeout
        .saturating_add(settings.read_timeout);
    let late = Failure::Timeout {
        limit: TimeLimit::Silence,
        after: settings.read_timeout,
    };
    timeout(patience, answer(access, settings, question))
        .await
        .map_err(|_| late)?
}

async fn answer(
    access: &Access<'_>,
    settings: &config::FetchSettings,
    question: Question,
) -> Result<Token, NoToken> {
    let asked = question.url.origin();
    let mut trail = Trail::new(question.url);
    loop {
        let url = trail.current().clone();
        let is_first = url.origin() == asked;
        let proxy = access.proxy(&url)?;
        let mut request = match &question.form {
            Some(form) => access
                .request(Method::POST, &url)?
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.clone()),
            None => access.request(Method::GET, &url)?,
        };
        if let Some(authorization) = question.authorization.as_ref().filter(|_| is_first) {
            // In place of what fetch.access has for the whole host.
            let known = HeaderMap::from_iter([(AUTHORIZATION, authorization.clone())]);
            request = request.headers(known);
        }
        let patience = settings.connect_timeout;
        let response = request.send().await.map_err(|error| match proxy {
            None => Failure::before_body(error, &url, patience),
            Some(proxy) => {
                let no_tunnel = NoTunnel::of(&error);
                Failure::through_proxy(error, &url, proxy, no_tunnel, patience)
            }
        })?;
        match response.status().as_u16() {
            200 => return read(response).await,
            301 | 302 | 303 | 307 | 308 if question.form.is_none() => trail
                .follow(text(response.headers(), &LOCATION))
                .map_err(Failure::from)?,
            401 | 403 => return Err(NoToken::Denied),
            407 => return Err(unwanted(&response).via(proxy).into()),
            _ => return Err(unwanted(&response).into()),
        }
    }
}

async fn read(mut response: Response) -> Result<Token, NoToken> {
    let mut answer = Vec::new();
    loop {
        let position = answer.len() as u64;
        let piece = response
            .chunk()
            .await
            .map_err(|error| Failure::within_body(error, position, response.content_length()))?;
        let Some(piece) = piece else { break };
        if answer.len() + piece.len() > LARGEST {
            return Err(NoToken::Unusable("the answer is larger than any token"));
        }
        answer.extend_from_slice(&piece);
    }
    Token::read(&answer).map_err(NoToken::Unusable)
}
