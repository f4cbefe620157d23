//! One connection, from its first byte to its bounded end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;

use super::ConnectionLimits;
use super::admission::{ConnectionActivity, ConnectionPlace};
use super::routes::Routes;

/// The largest request head, in bytes. This is also the smallest limit that hyper accepts.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// Answers the requests of one connection until one of these happens: the client leaves, the connection's time is over,
/// its place is needed, or the sender of `stopping` is dropped.
pub(super) async fn serve_connection(
    // Declared first, so that it is dropped last: the spare descriptor is refilled after the stream is closed.
    place: ConnectionPlace,
    stream: TcpStream,
    routes: Arc<Routes>,
    limits: ConnectionLimits,
    mut stopping: watch::Receiver<()>,
) {
    let (activity, observed) = watch::channel(ConnectionActivity::AwaitingFirstRequest);
    let activity = Arc::new(activity);
    let service = service_fn(move |request| {
        let (routes, activity) = (Arc::clone(&routes), Arc::clone(&activity));
        async move {
            activity.send_replace(ConnectionActivity::Answering);
            let response = routes.respond(request).await;
            activity.send_replace(ConnectionActivity::Idle);
            Ok::<_, Infallible>(response)
        }
    });
    // Head and body are written together, so there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        // `printf 'GET …' | nc` closes its half before the answer comes.
        .half_close(true)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = pin!(connection);
    // Whichever wait ends first, nothing is lost: the connection itself is polled again below.
    tokio::select! {
        ended = connection.as_mut() => return log_early_end(ended),
        () = place.wait_until_needed(observed.clone()) => return,
        () = sleep(limits.max_lifetime) => {}
        _ = stopping.changed() => {}
    }
    if *observed.borrow() == ConnectionActivity::AwaitingFirstRequest {
        return;
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(ended) = timeout(limits.drain_timeout, connection).await {
        log_early_end(ended);
    }
}

/// The reason why a connection ends matters only to its client, so it is not a warning.
fn log_early_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!("an HTTP connection ended early: {error}");
    }
}
