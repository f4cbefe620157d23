//! What the running agent answers over HTTP. It only reads, and no client can delay the agent's loop.

mod admission;
mod connection;
mod connection_limits;
mod endpoint;
mod guard;
mod json_documents;
pub mod metrics;
mod readyz;
mod response;
mod routes;
mod server;
mod zpages;

pub use connection_limits::ConnectionLimits;
pub use endpoint::Surface;
pub use server::{BindError, Server};
