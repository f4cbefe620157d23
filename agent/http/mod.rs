//! What the running agent answers over HTTP. It only reads, and no client can delay the agent's loop.

mod admission;
mod connection;
mod endpoint;
mod guard;
mod json;
mod limits;
pub mod metrics;
mod readyz;
mod response;
mod routes;
mod server;
mod zpages;

pub use endpoint::Surface;
pub use limits::ConnectionLimits;
pub use server::{BindError, Server};
