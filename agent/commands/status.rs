//! `status`: what the running agent says of the node.

mod columns;
mod table;
mod wire;

use std::error::Error;
use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::time::{Duration, SystemTime};

use reqwest::Client;
use serde_json::{Value, json};

use self::columns::Paint;
use self::wire::{Drifts, Said};
use super::{Exit, Failure, declaration, output};
use crate::cli::{Global, Output};
use crate::fetch;
use crate::model::escape_controls;

/// Where the agent listens unless the configuration says otherwise.
const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9742);

/// How long the agent may take to accept and to answer. It answers after a look at the disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// The largest answer that is read, in bytes. The agent's are bounded; whoever else has the port is not.
const LARGEST: usize = 4 << 20;

/// The time between two questions of `--watch`.
const PACE: Duration = Duration::from_secs(1);

/// Clears a terminal and begins at its top.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Why the agent could not be heard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unheard {
    /// Nobody answers.
    #[error(
        "no agent answers at http://{address} ({reason}); is it running? --address asks elsewhere, and \
         `cni-keeper verify` looks at the disk without it"
    )]
    Silent { address: SocketAddr, reason: String },
    /// Somebody answers, but not what was asked.
    #[error(
        "http://{address}{path} answers {reason}; --address asks elsewhere, and `cni-keeper verify` looks at the \
         disk without it"
    )]
    Strange {
        address: SocketAddr,
        path: &'static str,
        reason: String,
    },
    /// There can be no client.
    #[error("cannot ask the agent: {0}")]
    Client(String),
}

/// What was heard at one time.
#[derive(Debug, Clone, PartialEq)]
struct Heard {
    status: Value,
    drift: Value,
}

/// Runs it.
pub(super) async fn run(
    global: &Global,
    address: Option<SocketAddr>,
    watch: bool,
    format: Output,
) -> Result<Exit, Failure> {
    let address = reachable(address.unwrap_or_else(|| declared(global)));
    let client =
        fetch::local_client(PATIENCE).map_err(|failure| Unheard::Client(failure.to_string()))?;
    if watch {
        return Ok(watching(&client, address, format).await);
    }
    let heard = ask(&client, address).await?;
    let (shown, exit) = shown(&heard, address, format)?;
    output::text(&shown);
    Ok(exit)
}

/// Shows the state again and again; ends as the state was when the signal came.
async fn watching(client: &Client, address: SocketAddr, format: Output) -> Exit {
    let mut stop = pin!(super::signal());
    let redraws = format == Output::Text && std::io::stdout().is_terminal();
    let mut before = None;
    let mut exit = Exit::Failed;
    loop {
        let heard = tokio::select! {
            () = &mut stop => return exit,
            heard = ask(client, address) => heard,
        };
        let told = match heard
            .clone()
            .and_then(|heard| shown(&heard, address, format))
        {
            Ok((shown, ended)) => {
                exit = ended;
                shown
            }
            Err(unheard) => {
                exit = Exit::Failed;
                complaint(&unheard, format)
            }
        };
        let state = heard.map(Heard::without_times);
        if redraws {
            output::text(&format!("{CLEAR}{told}"));
        } else if before.as_ref() != Some(&state) {
            output::text(&told);
        }
        before = Some(state);
        tokio::select! {
            () = &mut stop => return exit,
            () = tokio::time::sleep(PACE) => {}
        }
    }
}

/// What stdout gets, and the exit code.
fn shown(heard: &Heard, address: SocketAddr, format: Output) -> Result<(String, Exit), Unheard> {
    let strange = |path| {
        move |error: serde_json::Error| Unheard::Strange {
            address,
            path,
            reason: format!("what no agent of this version would ({error})"),
        }
    };
    let said: Said = serde_json::from_value(heard.status.clone()).map_err(strange("/status"))?;
    let drifts: Drifts = serde_json::from_value(heard.drift.clone()).map_err(strange("/drift"))?;
    let exit = match said.ready {
        true => Exit::Done,
        false => Exit::Differs,
    };
    let text = match format {
        Output::Json => document(&json!({ "status": heard.status, "drift": heard.drift })),
        Output::Text => table::draw(&said, &drifts, SystemTime::now(), Paint::for_stdout()),
    };
    Ok((text, exit))
}

/// That the agent was not heard, where others follow: `--watch` outlives a restart of the agent.
fn complaint(unheard: &Unheard, format: Output) -> String {
    match format {
        Output::Json => document(&json!({ "errors": [unheard.to_string()] })),
        Output::Text => format!("{}\n", escape_controls(&unheard.to_string())),
    }
}

fn document(value: &Value) -> String {
    format!("{value:#}\n")
}

impl Heard {
    /// Without what is another at every look.
    fn without_times(mut self) -> Self {
        if let Some(status) = self.status.as_object_mut() {
            for time in ["looked", "verified", "passes"] {
                status.remove(time);
            }
        }
        self
    }
}

/// Where the configuration has the agent listen; without a good one, where it listens by default.
fn declared(global: &Global) -> SocketAddr {
    declaration(global, &global.config).map_or(USUAL, |loaded| loaded.settings.http.listen)
}

/// An agent that listens everywhere is asked over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, address.port())
}

async fn ask(client: &Client, address: SocketAddr) -> Result<Heard, Unheard> {
    Ok(Heard {
        status: get(client, address, "/status").await?,
        drift: get(client, address, "/drift").await?,
    })
}

async fn get(client: &Client, address: SocketAddr, path: &'static str) -> Result<Value, Unheard> {
    let silent = |error: reqwest::Error| Unheard::Silent {
        address,
        reason: match error.is_timeout() {
            true => format!("nothing within {} s", PATIENCE.as_secs()),
            false => innermost(&error),
        },
    };
    let strange = |reason: String| Unheard::Strange {
        address,
        path,
        reason,
    };
    let url = format!("http://{address}{path}");
    let asked = client.get(url).timeout(PATIENCE).send().await;
    let mut answer = asked.map_err(silent)?;
    if !answer.status().is_success() {
        return Err(strange(answer.status().to_string()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(silent)? {
        if body.len() + chunk.len() > LARGEST {
            return Err(strange(format!("more than {} MiB", LARGEST >> 20)));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|error| strange(format!("no JSON ({error})")))
}

/// The kernel's own words, without what the layers above put around them.
fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_listens_everywhere_is_asked_over_loopback() {
        let of = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:9742"), "127.0.0.1:9742");
        assert_eq!(of("[::]:9742"), "[::1]:9742");
        assert_eq!(of("10.0.0.7:80"), "10.0.0.7:80");
    }
}
