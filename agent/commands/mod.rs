//! The commands. Each reads the configuration, lets `reconcile` work, prints the result and returns an exit code.

mod bundle;
mod catalog;
mod endpoint;
mod failure;
mod install;
mod load;
mod output;
mod plan;
mod progress;
mod render;
mod run;
mod show;
mod signal;
mod status;
mod uninstall;
mod validate;
mod verify;

use std::time::Duration;

pub use output::Exit;

use serde_json::json;

use self::failure::CommandError;
use self::signal::wait_for_signal;
use crate::cli::{Cli, Command, Output};
use crate::host::end_readings;
use crate::reconcile::ReconcileError;
use crate::telemetry;

/// How long work that cannot be interrupted may continue after a signal. It is less than the default grace period of
/// Kubernetes, 30 s.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs a command and returns its exit code. Errors are on stderr then. If a JSON document was asked for, stdout has
/// one with the errors.
pub fn run(cli: &Cli) -> Exit {
    telemetry::init(cli.global.log_level, cli.global.log_format);
    let log = cli.global.log_format;
    let exit = match run_to_the_end(cli) {
        Ok(exit) => exit,
        Err(failure) => {
            match &failure {
                CommandError::Config(errors) => {
                    for error in errors.all() {
                        output::print_complaint(log, &error.to_string());
                    }
                }
                CommandError::Conflist(lines) => {
                    lines
                        .iter()
                        .for_each(|line| output::print_complaint(log, line));
                }
                failure => output::print_error(log, failure),
            }
            if cli.command.output() == Some(Output::Json) {
                output::print_json(&json!({ "errors": failure.mistakes() }));
            }
            failure.exit_code()
        }
    };
    telemetry::report_left_out_lines();
    match output::stdout_failure() {
        // With exit 0, a script would accept a truncated answer as complete.
        Some(error) => {
            output::print_complaint(log, &format!("cannot write to stdout: {error}"));
            Exit::Failed
        }
        None => exit,
    }
}

fn run_to_the_end(cli: &Cli) -> Result<Exit, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::Runtime)?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            // A command that should end by a signal handles the signal itself, so it is polled first.
            biased;
            outcome = dispatch_command(cli) => outcome,
            // The agent handles signals itself.
            () = wait_for_signal(), if !matches!(cli.command, Command::Run) => Err(ReconcileError::Stopped.into()),
        }
    });
    end_readings();
    // A file that is being published is finished by its own thread, unless the disk hangs.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    outcome
}

async fn dispatch_command(cli: &Cli) -> Result<Exit, CommandError> {
    let global = &cli.global;
    match &cli.command {
        Command::Run => run::run_agent(global).await,
        Command::Install { offline, format } => {
            install::run_install(global, *offline, format.output).await
        }
        Command::Plan { format } => plan::run_plan(global, format.output).await,
        Command::Verify { format } => verify::run_verify(global, format.output).await,
        Command::Status {
            address,
            watch,
            format,
        } => status::run_status(global, *address, *watch, format.output).await,
        Command::Render => render::run_render(global).await,
        Command::Validate { file, format } => {
            validate::run_validate(global, file.as_deref(), format.output)
        }
        Command::Uninstall { stay, format } => {
            uninstall::run_uninstall(global, *stay, format.output).await
        }
        Command::Bundle {
            output_dir,
            arch,
            output,
        } => bundle::run_bundle(global, output_dir, arch, *output).await,
        Command::Catalog { format } => catalog::run_catalog(format.output),
    }
}
