//! Asking the sources of a blob, in rounds, until one of them gives it: retry, resume, dead servers.

mod fetch_error;
mod health;
mod http_transfer;
mod options;
mod partial;
mod rounds;
mod small_file;
mod source;
mod source_client;
mod source_error;

pub use fetch_error::FetchError;
pub use health::SharedServerHealth;
pub use options::{CopyKeeper, CopyKey, DownloadProgress, SourceOptions};
pub(super) use partial::PartialBlob;
pub use rounds::FetchReceipt;
pub(super) use rounds::{BlobRequest, ask_sources, next_source, order_sources};
pub(super) use small_file::read_small_file;
pub(super) use source::BlobSource;
pub(super) use source_client::SourceClient;
pub use source_error::{FailedSource, SourceError};
