//! Log lines on stderr.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

use crate::cli::LogFormat;

/// Sends log lines to stderr from now on.
///
/// Our own lines follow `level`; the libraries' are only shown from `warn` up, or at `trace` entirely.
/// A second call in one process changes nothing.
pub fn init(level: tracing::Level, format: LogFormat) {
    let libraries = if level == tracing::Level::TRACE {
        level
    } else {
        tracing::Level::WARN.min(level)
    };
    let filter = Targets::new()
        .with_default(LevelFilter::from_level(libraries))
        .with_target("cni_keeper", level);
    let lines = match format {
        LogFormat::Text => fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
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
