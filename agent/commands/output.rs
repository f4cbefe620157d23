//! Everything that is written to stdout, and the error line on stderr.

use std::borrow::Cow;
use std::error::Error;
use std::io::{self, Write as _};
use std::sync::OnceLock;

use crate::cli::LogFormat;
use crate::model::{escape_controls, escape_json, quote_error};

/// How a command ended. Scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command did what it was asked to, or the answer is yes.
    Done,
    /// `plan`: there are changes; `verify`: there is drift; `status`: the node is not ready.
    Differs,
    /// The command failed because of the disk, the network or the node.
    Failed,
    /// Bad usage or a bad configuration; nothing was touched.
    Usage,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Differs => 1,
            Exit::Failed => 2,
            Exit::Usage => 64,
        })
    }
}

/// The first failure to write to stdout. The output is not complete then.
static STDOUT_FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Writes one line to stdout.
pub(super) fn print_line(line: impl AsRef<str>) {
    print_text(&format!("{}\n", escape_controls(line.as_ref())));
}

/// Writes a text with its own line ends to stdout.
pub(super) fn print_text(text: &str) {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        // A reader that has gone away (`| head`) is no failure. A full disk is one.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = STDOUT_FAILURE.set(error);
        }
        _ => {}
    }
}

/// Why the output on stdout is not complete, if it is not.
pub(super) fn stdout_failure() -> Option<&'static io::Error> {
    STDOUT_FAILURE.get()
}

/// Writes one JSON document to stdout.
pub(super) fn print_json(value: &impl serde::Serialize) {
    // Our own types can always be serialised.
    if let Ok(document) = serde_json::to_string_pretty(value) {
        print_text(&format!("{}\n", escape_json(&document)));
    }
}

/// Writes `error: …` to stderr, then those of its causes that the line does not contain already.
pub(super) fn print_error(format: LogFormat, error: &dyn Error) {
    let mut reported = error.to_string();
    let mut lines = vec![reported.clone()];
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = quote_error(inner);
        if !reported.contains(&text) && !repeats_errno(&reported, inner) {
            reported.push_str(&text);
            lines.push(format!("because: {text}"));
        }
        cause = inner.source();
    }
    let lines: Vec<Cow<'_, str>> = lines.iter().map(|line| escape_controls(line)).collect();
    write_error(format, &lines.join("\n  "));
}

/// Writes `error: …` to stderr, without causes, because the line is complete. If the log format is JSON, the error is a
/// log line, because a program reads stderr then.
pub(super) fn print_complaint(format: LogFormat, line: &str) {
    write_error(format, &escape_controls(line));
}

fn write_error(format: LogFormat, line: &str) {
    match format {
        LogFormat::Text => {
            let _ = writeln!(io::stderr().lock(), "error: {line}");
        }
        LogFormat::Json => tracing::error!("{line}"),
    }
}

/// Whether a cause only repeats the kernel's sentence, as in "… (os error 28)".
fn repeats_errno(reported: &str, cause: &(dyn Error + 'static)) -> bool {
    cause
        .downcast_ref::<io::Error>()
        .and_then(io::Error::raw_os_error)
        .is_some_and(|number| reported.contains(nix::errno::Errno::from_raw(number).desc()))
}
