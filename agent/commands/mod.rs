//! What each command does: load the declaration, ask `reconcile`, print, and say how it ended.

mod bundle;
mod catalog;
mod install;
mod output;
mod plan;
mod progress;
mod render;
mod run;
mod show;
mod status;
mod uninstall;
mod validate;
mod verify;

use std::path::Path;
use std::time::Duration;

pub use output::Exit;

use serde_json::json;

use crate::bundle::BundleError;
use crate::cli::{Cli, Command, Global, Output};
use crate::config::{ConfigErrors, LoadedConfig, Overrides, load};
use crate::host::{Host, HostError};
use crate::http::BindError;
use crate::kube::{self, KubeClient, RequestPurpose};
use crate::model::Arch;
use crate::reconcile::{Context, KnownNode, ReconcileError};
use crate::telemetry;

/// The largest configuration file that is read, in bytes: what a ConfigMap can hold.
const LARGEST_CONFIG: u64 = 1 << 20;

/// How long work that cannot be interrupted may go on after a signal: less than the grace period that
/// Kubernetes gives by default, 30 s.
const GRACE: Duration = Duration::from_secs(10);

/// Why a command could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The configuration file cannot be read.
    #[error("{0}; name a configuration with --config FILE")]
    NoConfig(#[source] HostError),
    /// The configuration file is not UTF-8.
    #[error("{0} is not UTF-8 text; save it as UTF-8")]
    NotText(String),
    /// The configuration has mistakes.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The conflist has mistakes; a line each, with file and line.
    #[error("{}", .0.join("\n"))]
    Conflist(Vec<String>),
    /// The host root cannot be opened.
    #[error("{0}; check --host-root")]
    HostRoot(#[source] HostError),
    /// The node refused.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// The kernel gives us nothing to wait with.
    #[error("cannot start: {0}; raise the limit on open files (ulimit -n)")]
    Runtime(#[source] std::io::Error),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The running agent gives no usable answer.
    #[error(transparent)]
    AgentQuery(#[from] status::error::AgentQueryError),
    /// A bundle cannot be gathered.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The built-in catalog is broken.
    #[error(transparent)]
    Catalog(#[from] crate::config::CatalogError),
}

impl Failure {
    /// What went wrong, a line for each mistake.
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Config(errors) => errors.all().iter().map(ToString::to_string).collect(),
            Self::Conflist(lines) => lines.clone(),
            other => vec![other.to_string()],
        }
    }

    const fn exit(&self) -> Exit {
        match self {
            Self::NoConfig(_)
            | Self::NotText(_)
            | Self::Config(_)
            | Self::Conflist(_)
            | Self::HostRoot(_)
            | Self::Reconcile(ReconcileError::Moved { .. }) => Exit::Usage,
            Self::Reconcile(_)
            | Self::Runtime(_)
            | Self::Bind(_)
            | Self::AgentQuery(_)
            | Self::Bundle(_)
            | Self::Catalog(_) => Exit::Failed,
        }
    }
}

/// Runs a command to its end and says how it ended; errors are on stderr by then, and where a JSON
/// document was asked for, stdout has one that holds them.
pub fn run(cli: &Cli) -> Exit {
    telemetry::init(cli.global.log_level, cli.global.log_format);
    let log = cli.global.log_format;
    let exit = match to_its_end(cli) {
        Ok(exit) => exit,
        Err(failure) => {
            match &failure {
                Failure::Config(errors) => {
                    for error in errors.all() {
                        output::complaint(log, &error.to_string());
                    }
                }
                Failure::Conflist(lines) => {
                    lines.iter().for_each(|line| output::complaint(log, line));
                }
                failure => output::error(log, failure),
            }
            if cli.command.output() == Some(Output::Json) {
                output::json(&json!({ "errors": failure.lines() }));
            }
            failure.exit()
        }
    };
    match output::broken() {
        // A truncated answer with exit 0 would be taken for a whole one.
        Some(error) => {
            output::complaint(log, &format!("cannot write to stdout: {error}"));
            Exit::Failed
        }
        None => exit,
    }
}

fn to_its_end(cli: &Cli) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            // A command that ends by a signal as it should says so itself.
            biased;
            outcome = dispatch(cli) => outcome,
            // The agent comes to its own end.
            () = signal(), if !matches!(cli.command, Command::Run) => Err(ReconcileError::Stopped.into()),
        }
    });
    // What is being published is finished by its own thread, unless that hangs.
    runtime.shutdown_timeout(GRACE);
    outcome
}

async fn dispatch(cli: &Cli) -> Result<Exit, Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Run => run::run(global).await,
        Command::Install { offline, format } => install::run(global, *offline, format.output).await,
        Command::Plan { format } => plan::run(global, format.output).await,
        Command::Verify { format } => verify::run(global, format.output).await,
        Command::Status {
            address,
            watch,
            format,
        } => status::run(global, *address, *watch, format.output).await,
        Command::Render => render::run(global).await,
        Command::Validate { file, format } => validate::run(global, file.as_deref(), format.output),
        Command::Uninstall { stay, format } => uninstall::run(global, *stay, format.output).await,
        Command::Bundle {
            output_dir,
            arch,
            output,
        } => bundle::run(global, output_dir, arch, *output).await,
        Command::Catalog { format } => catalog::run(format.output),
    }
}

/// Ends with the first SIGTERM or SIGINT.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        // Without a handler the kernel's own way of ending us stands, which is as safe.
        Err(_) => std::future::pending().await,
    }
}

/// Reads and checks the configuration.
fn declaration(global: &Global, file: &Path) -> Result<LoadedConfig, Failure> {
    declaration_for(global, file, None)
}

/// The same for an architecture that need not be this machine's.
fn declaration_for(
    global: &Global,
    file: &Path,
    arch: Option<Arch>,
) -> Result<LoadedConfig, Failure> {
    let absolute = std::path::absolute(file)
        .map_err(|error| no_config(HostError::new("find", file, error)))?;
    let machine = Host::open(Path::new("/")).map_err(no_config)?;
    let bytes = machine
        .read_file(&absolute, LARGEST_CONFIG)
        .map_err(no_config)?;
    let text =
        String::from_utf8(bytes).map_err(|_| Failure::NotText(file.display().to_string()))?;
    let seeds = global.seeds.iter().map(std::path::absolute).collect();
    let seeds: Result<_, std::io::Error> = seeds;
    let overrides = Overrides {
        bin_dir: global.bin_dir.clone(),
        conf_dir: global.conf_dir.clone(),
        state_dir: global.state_dir.clone(),
        seeds: seeds.map_err(|error| no_config(HostError::new("find", file, error)))?,
        arch,
    };
    Ok(load(&text, file, &overrides)?)
}

/// Whether it is the operator's to name another file, or the machine's to have descriptors left.
fn no_config(error: HostError) -> Failure {
    match error.is_the_machines() {
        true => ReconcileError::Host(error).into(),
        false => Failure::NoConfig(error),
    }
}

/// The declaration, and the node that it is for.
fn node(global: &Global) -> Result<(Host, LoadedConfig), Failure> {
    let loaded = declaration(global, &global.config)?;
    let host = Host::open(&global.host_root).map_err(Failure::HostRoot)?;
    if !host.is_root() {
        let owner = host.owner();
        tracing::warn!(
            "not running as root: files will belong to {}:{}, which a real node's runtime should not trust",
            owner.uid,
            owner.gid
        );
    }
    Ok((host, loaded))
}

/// Brings the declaration and the node together.
fn keeper(global: &Global) -> Result<(Context, LoadedConfig), Failure> {
    let (host, loaded) = node(global)?;
    let keeper = Context::new(loaded.settings.clone(), host, global.node_name.clone());
    Ok((keeper, loaded))
}

/// The same with what the Kubernetes API says of the node, where the conflist depends on that; what it said before
/// does where it says nothing.
async fn informed(global: &Global) -> Result<(Context, LoadedConfig), Failure> {
    let (keeper, loaded) = keeper(global)?;
    if !keeper.needs_node_facts() {
        return Ok((keeper, loaded));
    }
    let name = keeper.node_name();
    let api = KubeClient::new(
        loaded.settings.kubernetes.clone(),
        name.clone(),
        kube::RequestLog::default(),
    );
    let known = KnownNode::default();
    known.record_answer(match api.get_node(RequestPurpose::NodeFacts).await {
        Ok(node) => Ok(node.into_facts(name.unwrap_or_default())),
        Err(error) => Err(error.to_string()),
    });
    Ok((keeper.with_node(known), loaded))
}

/// Puts file and line before what the conflist rules found.
fn located(loaded: &LoadedConfig, error: ReconcileError) -> Failure {
    match error {
        ReconcileError::Conflist(findings) => {
            let lines = findings
                .iter()
                .map(|finding| {
                    show::finding(
                        loaded,
                        &finding.at,
                        &format!("{}; {}", finding.problem, finding.fix),
                    )
                })
                .collect();
            Failure::Conflist(lines)
        }
        ReconcileError::Render(error) => {
            let lines = error
                .problems
                .iter()
                .map(|problem| show::problem(loaded, problem))
                .collect();
            Failure::Conflist(lines)
        }
        other => other.into(),
    }
}
