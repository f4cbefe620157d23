//! Asking a token server.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, Response};
use tokio::time::timeout;

use super::token::{MAX_TOKEN_ANSWER, Token, TokenRequest};
use crate::config;
use crate::fetch::http::{HttpClients, HttpError, RedirectChain, TimeLimit};

/// Why there is no token.
pub(super) enum TokenError {
    /// The server says no.
    Denied,
    /// It could not be asked.
    Failed(HttpError),
    /// It gave something else.
    Unusable(&'static str),
}

impl From<HttpError> for TokenError {
    fn from(error: HttpError) -> Self {
        Self::Failed(error)
    }
}

/// Sends a request for a token and reads the answer, all within the time that a server may keep silent.
///
/// Redirects are followed as for any source. Credentials are sent only to the server of the first request.
pub(super) async fn request_token(
    http: &HttpClients<'_>,
    settings: &config::FetchSettings,
    token_request: TokenRequest,
) -> Result<Token, TokenError> {
    let time_limit = settings
        .connect_timeout
        .saturating_add(settings.read_timeout);
    let late = HttpError::Timeout {
        limit: TimeLimit::Silence,
        after: settings.read_timeout,
    };
    timeout(time_limit, send_token_request(http, token_request))
        .await
        .map_err(|_| late)?
}

async fn send_token_request(
    http: &HttpClients<'_>,
    token_request: TokenRequest,
) -> Result<Token, TokenError> {
    let asked = token_request.url.origin();
    let mut chain = RedirectChain::new(token_request.url).restricted(token_request.is_public_only);
    loop {
        let url = chain.current().clone();
        let is_first = url.origin() == asked;
        let mut request = match &token_request.form {
            Some(form) => http
                .request(Method::POST, &url)?
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.clone()),
            None => http.request(Method::GET, &url)?,
        };
        if let Some(authorization) = token_request.authorization.as_ref().filter(|_| is_first) {
            // It replaces the header that fetch.access has for the whole host.
            let known = HeaderMap::from_iter([(AUTHORIZATION, authorization.clone())]);
            request = request.headers(known);
        }
        let response = http.send(request, &chain).await?;
        match response.status().as_u16() {
            200 => return read_token(response).await,
            301 | 302 | 303 | 307 | 308 if token_request.form.is_none() => http
                .follow(&mut chain, &response)
                .map_err(HttpError::from)?,
            401 | 403 => return Err(TokenError::Denied),
            _ => return Err(HttpError::from_status(&response).into()),
        }
    }
}

async fn read_token(mut response: Response) -> Result<Token, TokenError> {
    let mut answer = Vec::new();
    loop {
        let position = answer.len() as u64;
        let chunk = response
            .chunk()
            .await
            .map_err(|error| HttpError::within_body(error, position, response.content_length()))?;
        let Some(chunk) = chunk else { break };
        if answer.len() + chunk.len() > MAX_TOKEN_ANSWER {
            return Err(TokenError::Unusable("the answer is larger than any token"));
        }
        answer.extend_from_slice(&chunk);
    }
    Token::parse(&answer).map_err(TokenError::Unusable)
}
