//! What the running agent tells over HTTP. It only reads, and nothing that a client does delays the loop.

mod checks;
mod connection;
mod guard;
mod impatient;
mod limits;
pub mod page;
mod redact;
mod routes;
mod server;
mod slots;
mod views;
mod zpages;

pub use limits::Limits;
pub use routes::Surface;
pub use server::{BindError, Server};
