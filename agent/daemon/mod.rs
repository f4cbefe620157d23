//! The running agent: watch → look → heal → publish, for as long as it lives.

mod handle;

pub use handle::{Handle, Publisher, Stale, Stuck};
