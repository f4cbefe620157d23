//! Log lines on stderr.

mod line_limit;

use std::fmt::{Debug, Result};
use std::io::{self, IsTerminal as _, Write};

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, Targets};
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

use self::line_limit::{LeftOut, LineClass, LineLimit, PERIOD};
use crate::cli::LogFormat;
use crate::model::{escape_controls, escape_json, escape_name};

/// Sends log lines to stderr from now on.
///
/// Without a `level`, a terminal gets only warnings, because the command's own output says the rest. Our own lines
/// follow the level. Lines of libraries are shown from `warn` up, or all of them at `trace`. A second call in one
/// process changes nothing.
pub fn init(level: Option<Level>, format: LogFormat) {
    let is_terminal = io::stderr().is_terminal();
    let level = level.unwrap_or(if is_terminal {
        Level::WARN
    } else {
        Level::INFO
    });
    // notify warns about each removed directory, because it removes its watch twice.
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
            .fmt_fields(format::debug_fn(write_field).delimited(" "))
            .with_writer(io::stderr)
            .with_target(false)
            .with_ansi(is_terminal)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(|| JsonLines(io::stderr()))
            .boxed(),
    };
    // This fails only if a subscriber is set already. That one stays in use.
    let _ = registry()
        .with(lines.with_filter(filter.and(LimitedLines)))
        .try_init();
}

/// The lines of this process.
static LINES: Mutex<LineLimit> = Mutex::new(LineLimit::new());
/// Whether lines were left out since they were last told of.
static LEFT_OUT: Notify = Notify::const_new();

/// How much of a message and of a field is looked at, in bytes.
const LONGEST_EXAMPLE: usize = 160;
const LONGEST_KIND: usize = 32;

/// Leaves out lines of a class that had many in the last minute. What others do decides how many there are.
struct LimitedLines;

impl<S> Filter<S> for LimitedLines {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let mut seen = SeenFields::default();
        event.record(&mut seen);
        let place = event.metadata().name().to_owned();
        let class = LineClass {
            place,
            kind: seen.kind,
        };
        let admitted = lock_lines().admit(class, Instant::now(), || seen.message);
        if !admitted {
            LEFT_OUT.notify_one();
        }
        admitted
    }
}

fn lock_lines() -> MutexGuard<'static, LineLimit> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The fields of a line by which it is told from others.
#[derive(Default)]
struct SeenFields {
    kind: String,
    message: String,
}

impl Visit for SeenFields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "kind" => self.kind = escape_name(&format!("{value:?}"), LONGEST_KIND),
            "message" => self.message = escape_name(&format!("{value:?}"), LONGEST_EXAMPLE),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "kind" {
            self.kind = escape_name(value, LONGEST_KIND);
        }
    }
}

/// Writes how many lines were left out, a line for each class.
pub fn report_left_out_lines() {
    // It is not locked while a line is written.
    let left_out = lock_lines().take_left_out();
    for LeftOut {
        kind,
        count,
        example,
    } in left_out
    {
        tracing::warn!(
            kind,
            "… and {count} more like this in the last minute: {example}"
        );
    }
}

/// Writes how many lines were left out, for as long as the process lives: at most once a minute.
pub async fn report_left_out_lines_each_minute() {
    loop {
        LEFT_OUT.notified().await;
        tokio::time::sleep(PERIOD).await;
        report_left_out_lines();
    }
}

/// Writes JSON documents, of which each call brings a whole one, without characters that control a terminal.
struct JsonLines(io::Stderr);

impl Write for JsonLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(bytes) {
            Ok(document) => self.0.write_all(escape_json(document).as_bytes())?,
            Err(_) => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes one field on the same line. A foreign file name may contain a line break or an escape sequence, which must
/// neither look like another line nor reach a terminal.
fn write_field(writer: &mut format::Writer<'_>, field: &Field, value: &dyn Debug) -> Result {
    match field.name() {
        "message" => {}
        name => write!(writer, "{name}=")?,
    }
    writer.write_str(&escape_controls(&format!("{value:?}")))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A text that others wrote cannot begin a line of the log, and cannot control a terminal.
    #[test]
    fn a_hostile_name_stays_on_its_line() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer()
            .fmt_fields(format::debug_fn(write_field).delimited(" "))
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let path = std::path::Path::new("/etc/05-x\nERROR \u{1b}[31mfalse.conf");
        tracing::subscriber::with_default(registry().with(layer), || {
            tracing::warn!(path = %path.display(), kind = "shadowed", "drift: network '{}'", "a\nb\u{9b}");
        });
        let written = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written.lines().count(), 1, "{written}");
        let end = r#"drift: network 'a\nb\u{9b}' path=/etc/05-x\nERROR \u{1b}[31mfalse.conf kind="shadowed""#;
        assert!(written.trim_end().ends_with(end), "{written}");
    }
}
