//! Log lines on stderr.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

use crate::cli::LogFormat;

/// Sends log lines to stderr from now on.
///
/// Without a `level`, a terminal gets warnings only: the command's own output says the rest. Our own
/// lines follow the level; the libraries' are only shown from `warn` up, or at `trace` entirely.
/// A second call in one process changes nothing.
pub fn init(level: Option<Level>, format: LogFormat) {
    let is_terminal = std::io::stderr().is_terminal();
    let level = level.unwrap_or(if is_terminal {
        Level::WARN
    } else {
        Level::INFO
    });
    // notify warns of each directory that is removed: it forgets it twice.
    let (libraries, notify) = if level == Level::TRACE {
        (level, level)
    } else {
        (Level::WARN.min(level), Level::ERROR)
    };
    let filter = Targets::new()
        .with_default(LevelFilter::from_level(libraries))
        .with_target("notify", notify)
        .with_target("cni_keeper", level);
    let lines = match format {
        LogFormat::Text => fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_ansi(is_terminal)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    // Fails only where a subscriber is set already, which is then the one that serves.
    let _ = registry().with(lines.with_filter(filter)).try_init();
}
