//! The signals that end the program, and those that do not end the agent.

use std::ffi::c_int;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::daemon::Handle;

/// Signals that end a program by default and are nothing to the agent: SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM,
/// SIGSTKFLT, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGIO and SIGPWR by the numbers of x86 and arm. Those of a fault in the
/// program itself (SIGSEGV and the like) end it as ever.
const IGNORED: [c_int; 12] = [3, 10, 12, 13, 14, 16, 24, 25, 26, 27, 29, 30];
/// The signals for which programs agree on a meaning of their own (`SIGRTMIN` to `SIGRTMAX`).
const REAL_TIME: std::ops::RangeInclusive<c_int> = 34..=64;

/// Ends with the first SIGTERM or SIGINT.
pub(super) async fn wait_for_signal() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        // Without a handler the kernel ends the program, which is as safe.
        Err(_) => std::future::pending().await,
    }
}

/// Reads the configuration anew with each SIGHUP, and ignores every other signal that would end the agent, except those of
/// [`wait_for_signal`].
pub(super) fn handle_other_signals(handle: &Handle) {
    for number in IGNORED.into_iter().chain(REAL_TIME) {
        // The handler stays, although nobody receives from it. The C library keeps some of the last ones for itself.
        let _: Result<Signal, _> = signal(SignalKind::from_raw(number));
    }
    let handle = handle.clone();
    match signal(SignalKind::hangup()) {
        Ok(mut hangup) => {
            tokio::spawn(async move {
                while hangup.recv().await.is_some() {
                    tracing::info!("SIGHUP: the configuration is read anew");
                    handle.request_reload();
                }
            });
        }
        Err(error) => tracing::warn!("SIGHUP would end the agent: {error}"),
    }
}
