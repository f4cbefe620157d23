//! Waiting for another process: asks again and again until a deadline.

use std::time::{Duration, Instant};

/// Long enough for a cold, loaded machine; reached only where something is broken.
const DEADLINE: Duration = Duration::from_secs(30);
/// Between two questions: short beside what is waited for, long beside what a question costs.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until the answer is `Ok`; past the deadline, fails with the last `Err`.
pub(crate) async fn until<T>(what: &str, ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    until_within(DEADLINE, what, ask).await
}

/// The same with another deadline, for what takes several programs.
pub(crate) async fn until_within<T>(
    deadline: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(reason) if start.elapsed() > deadline => {
                panic!("waited {deadline:?} for {what}: {reason}")
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
