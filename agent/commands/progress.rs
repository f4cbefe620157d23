//! A progress bar on a terminal. Without a terminal, log lines show the progress.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::fetch::DownloadProgress;
use crate::model::Artifact;
use crate::reconcile::DownloadObserver;

/// Draws on stderr, and only if that is a terminal.
pub(super) struct Terminal {
    is_terminal: bool,
}

impl Terminal {
    pub(super) fn new() -> Self {
        Self {
            is_terminal: std::io::stderr().is_terminal(),
        }
    }
}

impl DownloadObserver for Terminal {
    fn downloading(&self, artifact: &Artifact) -> Box<dyn DownloadProgress + '_> {
        if !self.is_terminal {
            return Box::new(());
        }
        let bar = ProgressBar::no_length()
            .with_message(format!("{} {}", artifact.name, artifact.version));
        bar.set_style(style_without_length());
        // The bar is drawn even without progress, so that a user sees that the download hangs.
        bar.enable_steady_tick(Duration::from_millis(100));
        Box::new(Bar(bar))
    }
}

struct Bar(ProgressBar);

impl DownloadProgress for Bar {
    fn moved(&self, position: u64, total: Option<u64>) {
        if self.0.length() != total {
            match total {
                Some(total) => {
                    self.0.set_length(total);
                    self.0.set_style(style_with_length());
                }
                None => {
                    self.0.unset_length();
                    self.0.set_style(style_without_length());
                }
            }
        }
        self.0.set_position(position);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style_with_length() -> ProgressStyle {
    parse_style("{msg}  {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left")
}

fn style_without_length() -> ProgressStyle {
    parse_style("{msg}  {spinner} {bytes}  {bytes_per_sec}")
}

fn parse_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
