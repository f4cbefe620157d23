//! `status`: asks the running agent for the state of the node.

mod columns;
pub(super) mod error;
mod table;

use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::Client;
use serde::Deserialize as _;
use serde_json::{Value, json};

use self::columns::Paint;
use self::error::AgentQueryError;
use self::table::render_table;
use super::failure::CommandError;
use super::load::load_config;
use super::output;
use super::output::Exit;
use super::signal::wait_for_signal;
use crate::cli::{Global, Output};
use crate::fetch;
use crate::model::{DriftLog, StatusDocument, escape_controls, escape_json, quote_error};
use crate::view::NodeView;

/// Where the agent listens by default.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9742);

/// How long the agent may take to accept and to answer. It observes the disk before it answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer that is read, in bytes. The agent's answers are limited, but another program may have the port.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// The time between two questions of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Clears a terminal and begins at its top.
const CLEAR_TERMINAL: &str = "\x1b[H\x1b[2J\x1b[3J";

/// What the agent answered at one time.
#[derive(Debug, Clone, PartialEq)]
struct Answers {
    status: Value,
    drift: Value,
}

pub(super) async fn run_status(
    global: &Global,
    address: Option<SocketAddr>,
    watch: bool,
    format: Output,
) -> Result<Exit, CommandError> {
    let address = reachable_address(address.unwrap_or_else(|| declared_address(global)));
    let client = fetch::local_client(ANSWER_TIMEOUT)
        .map_err(|failure| AgentQueryError::Client(failure.to_string()))?;
    if watch {
        return Ok(watch_agent(&client, address, format).await);
    }
    let answers = ask_agent(&client, address).await?;
    let (text, exit) = render_answers(&answers, address, format)?;
    output::print_text(&text);
    Ok(exit)
}

/// Shows the state again and again. The exit code is that of the last state before the signal.
async fn watch_agent(client: &Client, address: SocketAddr, format: Output) -> Exit {
    let mut stop = pin!(wait_for_signal());
    let redraws = format == Output::Text && std::io::stdout().is_terminal();
    let mut before = None;
    let mut exit = Exit::Failed;
    loop {
        let answers = tokio::select! {
            () = &mut stop => return exit,
            answers = ask_agent(client, address) => answers,
        };
        let rendered = answers
            .clone()
            .and_then(|answers| render_answers(&answers, address, format));
        let text = match rendered {
            Ok((text, found)) => {
                exit = found;
                text
            }
            Err(error) => {
                exit = Exit::Failed;
                render_error(&error, format)
            }
        };
        let state = answers.map(Answers::without_times);
        if redraws {
            output::print_text(&format!("{CLEAR_TERMINAL}{text}"));
        } else if before.as_ref() != Some(&state) {
            output::print_text(&text);
        }
        before = Some(state);
        tokio::select! {
            () = &mut stop => return exit,
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
    }
}

/// The text for stdout, and the exit code.
fn render_answers(
    answers: &Answers,
    address: SocketAddr,
    format: Output,
) -> Result<(String, Exit), AgentQueryError> {
    let unexpected = |path| {
        move |error: serde_json::Error| AgentQueryError::Unexpected {
            address,
            path,
            reason: format!("a document of an unknown form ({})", quote_error(&error)),
        }
    };
    let document = StatusDocument::deserialize(&answers.status).map_err(unexpected("/status"))?;
    let drift = DriftLog::deserialize(&answers.drift).map_err(unexpected("/drift"))?;
    let exit = match document.ready {
        true => Exit::Done,
        false => Exit::Differs,
    };
    let text = match format {
        Output::Json => indented_json(&json!({ "status": answers.status, "drift": answers.drift })),
        Output::Text => {
            let mut status = Arc::unwrap_or_clone(document.status);
            status.drift = drift.entries;
            let view = NodeView::new(&status, SystemTime::now());
            render_table(&view, Paint::for_stdout())
        }
    };
    Ok((text, exit))
}

/// An error as `--watch` shows it: on stdout, since a restarted agent answers again.
fn render_error(error: &AgentQueryError, format: Output) -> String {
    match format {
        Output::Json => indented_json(&json!({ "errors": [error.to_string()] })),
        Output::Text => format!("{}\n", escape_controls(&error.to_string())),
    }
}

fn indented_json(value: &Value) -> String {
    format!("{}\n", escape_json(&format!("{value:#}")))
}

impl Answers {
    /// Without the parts that change with every answer.
    fn without_times(mut self) -> Self {
        if let Some(status) = self.status.as_object_mut() {
            for time in ["looked", "verified", "passes"] {
                status.remove(time);
            }
        }
        self
    }
}

/// The address in `http.listen` of the configuration. If the configuration cannot be used: the default address.
fn declared_address(global: &Global) -> SocketAddr {
    load_config(global, &global.config)
        .map_or(DEFAULT_ADDRESS, |loaded| loaded.settings.http.listen)
}

/// The address at which the agent can be reached: loopback, if it listens on all addresses.
fn reachable_address(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, address.port())
}

async fn ask_agent(client: &Client, address: SocketAddr) -> Result<Answers, AgentQueryError> {
    Ok(Answers {
        status: get_json(client, address, "/status").await?,
        drift: get_json(client, address, "/drift").await?,
    })
}

async fn get_json(
    client: &Client,
    address: SocketAddr,
    path: &'static str,
) -> Result<Value, AgentQueryError> {
    let no_answer = |error: reqwest::Error| AgentQueryError::NoAnswer {
        address,
        reason: match error.is_timeout() {
            true => format!("nothing within {} s", ANSWER_TIMEOUT.as_secs()),
            false => fetch::innermost_message(&error),
        },
    };
    let unexpected = |reason: String| AgentQueryError::Unexpected {
        address,
        path,
        reason,
    };
    let url = format!("http://{address}{path}");
    let asked = client.get(url).timeout(ANSWER_TIMEOUT).send().await;
    let mut answer = asked.map_err(no_answer)?;
    if !answer.status().is_success() {
        return Err(unexpected(answer.status().to_string()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(no_answer)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(unexpected(format!(
                "more than {} MiB",
                MAX_ANSWER_BYTES >> 20
            )));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body)
        .map_err(|error| unexpected(format!("no JSON ({})", quote_error(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_listens_everywhere_is_asked_over_loopback() {
        let of = |text: &str| reachable_address(text.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:9742"), "127.0.0.1:9742");
        assert_eq!(of("[::]:9742"), "[::1]:9742");
        assert_eq!(of("10.0.0.7:80"), "10.0.0.7:80");
    }
}
