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

use super::Limits;
use super::impatient::Impatient;
use super::routes::Routes;
use super::slots::{Activity, Phase};

/// The largest request head. It is also the least that hyper can be held to.
const HEAD_BYTES: usize = 8 * 1024;

/// Answers what comes over one connection until the client leaves, has used up its time, or `stopping` is dropped.
pub(super) async fn serve(
    stream: TcpStream,
    routes: Arc<Routes>,
    activity: Arc<Activity>,
    limits: Limits,
    mut stopping: watch::Receiver<()>,
) {
    let seen = Arc::clone(&activity);
    let service = service_fn(move |request| {
        let (routes, activity) = (Arc::clone(&routes), Arc::clone(&activity));
        async move {
            activity.answering();
            let answer = routes.answer(request).await;
            activity.answered();
            Ok::<_, Infallible>(answer)
        }
    });
    // A head and a body are written together; there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES)
        // `printf 'GET …' | nc` closes its half before the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(Impatient::new(stream, limits.write)), service);
    let mut connection = pin!(connection);
    // Whatever ends the wait, nothing is lost: the connection itself is polled on below.
    tokio::select! {
        ended = connection.as_mut() => return tell(ended),
        () = sleep(limits.life) => {}
        _ = stopping.changed() => {}
    }
    if matches!(seen.phase(), Phase::Silent { .. }) {
        return;
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(ended) = timeout(limits.farewell, connection).await {
        tell(ended);
    }
}

/// How a connection ends is the client's affair.
fn tell(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!("an HTTP connection ended early: {error}");
    }
}
