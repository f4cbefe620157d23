//! `run`: runs the agent until a signal comes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{process, thread};

use tokio::sync::watch;

use super::endpoint::{serve_endpoint, wait_until_dropped};
use super::failure::CommandError;
use super::load::{load_config, open_node};
use super::output::Exit;
use super::signal::{handle_other_signals, wait_for_signal};
use crate::cli::Global;
use crate::config::Settings;
use crate::daemon::{Daemon, DaemonOptions, Handle, MAX_PASS_DURATION};
use crate::host::InputStream;
use crate::probe::reap_orphans;
use crate::telemetry::report_left_out_lines_each_minute;

/// How long a pass may continue after a signal. At any moment each file is the old one or the new one, so ending a pass
/// that reads a slow disk loses nothing.
const LONGEST_END: Duration = Duration::from_secs(5);

/// Runs the agent until the first SIGTERM or SIGINT. What is in place stays.
pub(super) async fn run_agent(global: &Global) -> Result<Exit, CommandError> {
    if let Some(stream) = InputStream::from_path(&global.config) {
        return Err(CommandError::StreamedConfig(stream.describe()));
    }
    let (host, loaded) = open_node(global)?;
    let http = loaded.settings.http;
    let again = global.clone();
    let (daemon, handle) = Daemon::new(DaemonOptions {
        settings: loaded.settings,
        host,
        node_name: global.node_name.clone(),
        config: global.config.clone(),
        read_config: Arc::new(move || reload_settings(&again)),
        flags: flags_in_force(global),
    });
    handle_other_signals(&handle);
    tokio::spawn(report_left_out_lines_each_minute());
    if process::id() == 1 {
        tokio::spawn(reap_orphans());
    }
    let (stopping, stopped) = watch::channel(());
    let servers = serve_endpoint(http, &handle, &stopped)?;
    end_when_stalled(&handle);
    let to_the_end = async {
        let ended = daemon.run(wait_until_dropped(stopped)).await;
        ended.map_err(CommandError::RemovedMount)?;
        for server in servers {
            let _ = server.await;
        }
        Ok(Exit::Done)
    };
    tokio::select! {
        exit = to_the_end => exit,
        () = wait_for_two_signals(stopping) => Ok(Exit::Done),
    }
}

/// After the first signal, what is in progress is finished, unless it takes too long. A second signal ends it at once.
async fn wait_for_two_signals(stopping: watch::Sender<()>) {
    wait_for_signal().await;
    tracing::info!("stopping; everything in place stays as it is");
    drop(stopping);
    let _ = tokio::time::timeout(LONGEST_END, wait_for_signal()).await;
}

/// Ends the process when its loop hangs, so that whoever started it starts it again. It does not depend on a probe that
/// asks a port.
fn end_when_stalled(handle: &Handle) {
    let handle = handle.clone();
    let watching = thread::Builder::new().name("watchdog".to_owned());
    let watching = watching.spawn(move || {
        let stalled = handle.wait_until_stalled(MAX_PASS_DURATION);
        tracing::error!("the agent ends, to be started again: {stalled}");
        process::exit(i32::from(Exit::Failed as u8));
    });
    if let Err(error) = watching {
        tracing::warn!("nobody watches whether the agent hangs: {error}");
    }
}

/// Reads the configuration again. The mistakes in it are those that `validate` would print.
fn reload_settings(global: &Global) -> Result<Settings, Vec<String>> {
    match load_config(global, &global.config) {
        Ok(loaded) => Ok(loaded.settings),
        Err(failure) => Err(failure.mistakes()),
    }
}

/// Every flag with the value in force.
fn flags_in_force(global: &Global) -> BTreeMap<String, String> {
    let dir = |dir: &Option<PathBuf>| {
        dir.as_deref()
            .map(Path::display)
            .map_or_else(String::new, |dir| dir.to_string())
    };
    let seeds = global.seeds.iter().map(|seed| seed.display().to_string());
    let level = global.log_level.map(|level| level.to_string());
    let flags = [
        ("config", global.config.display().to_string()),
        ("host-root", global.host_root.display().to_string()),
        ("bin-dir", dir(&global.bin_dir)),
        ("conf-dir", dir(&global.conf_dir)),
        ("state-dir", dir(&global.state_dir)),
        ("seed", seeds.collect::<Vec<_>>().join(":")),
        ("node-name", global.node_name.clone().unwrap_or_default()),
        ("log-level", level.unwrap_or_default().to_lowercase()),
        (
            "log-format",
            format!("{:?}", global.log_format).to_lowercase(),
        ),
    ];
    flags.map(|(name, value)| (name.to_owned(), value)).into()
}
