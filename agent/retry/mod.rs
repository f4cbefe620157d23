//! Which failures are worth another try, and when.
//!
//! Pure: random numbers and the current time are arguments, so that a test can check every case exactly.

mod backoff;
mod refetch;
mod retry_after;
mod rounds;
mod server_health;
mod spread;
mod verdict;

pub use backoff::{Backoff, Jitter};
pub use refetch::Refetch;
pub use retry_after::parse_retry_after;
pub use rounds::{Next, Rounds, RoundsPolicy};
pub use server_health::ServerHealth;
pub use spread::{Spread, take_share};
pub use verdict::{Verdict, verdict_on};
