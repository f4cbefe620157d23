//! What process 1 of a container owes to the others: it waits for those whose parent has ended. Nobody else does, and a
//! process that ended and is not waited for keeps its number.

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::plugin_version::QUESTION;

/// Waits for every child of this process that is not a plugin being asked, as long as this process lives.
pub async fn reap_orphans() {
    let mut ended = match signal(SignalKind::child()) {
        Ok(ended) => ended,
        Err(error) => {
            tracing::warn!("processes without a parent stay as zombies: {error}");
            return;
        }
    };
    loop {
        {
            // The plugins are the only children that the agent starts. While none is asked, every child is an orphan, and
            // nobody's exit status is taken away. It is never closed, so this always gives a permit.
            let _permit = QUESTION.acquire().await;
            while matches!(
                waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)),
                Ok(status) if status != WaitStatus::StillAlive
            ) {}
        }
        if ended.recv().await.is_none() {
            return;
        }
    }
}
