//! What the running agent answers over HTTP.

pub mod page;
