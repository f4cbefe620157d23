//! The causes under an error of the HTTP client.

use std::error::Error;
use std::io;

use crate::model::quote_error;

/// The error and everything under it. `io::Error` hides what it wraps from `source()`, so that is asked for as well.
pub(super) fn error_chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn Error + 'static));
        wrapped.or_else(|| error.source())
    })
}

/// What the innermost error says, without the text that the layers above add.
#[must_use]
pub fn innermost_message(error: &(dyn Error + 'static)) -> String {
    let early = |cause: &(dyn Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof)
    };
    // rustls would send the reader to a page for programmers.
    if error_chain(error).any(early) {
        return "the connection was closed too early".to_owned();
    }
    error_chain(error)
        .last()
        .map_or_else(String::new, quote_error)
}

/// Whether the connection itself broke, rather than ended early.
pub(super) fn is_broken_connection(error: &(dyn Error + 'static)) -> bool {
    error_chain(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|io| {
            matches!(
                io.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::NetworkDown
                    | io::ErrorKind::TimedOut
            )
        })
}
