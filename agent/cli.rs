//! The command line: every flag and environment variable. What they do is in `commands`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::model::Arch;

/// Installs a node's CNI plugins and conflist, verified and atomically.
#[derive(Debug, Parser)]
#[command(name = "cni-keeper", version, max_term_width = 100)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes. A flag overrides its environment variable, which overrides the file.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The configuration file, or - for stdin (not with run)
    #[arg(
        long,
        global = true,
        env = "CNI_KEEPER_CONFIG",
        value_name = "FILE",
        default_value = "/etc/cni-keeper/config.yaml"
    )]
    pub config: PathBuf,
    /// Where the host's root is mounted; put in front of binDir, confDir, stateDir, envFiles and file gates
    #[arg(
        long,
        global = true,
        env = "CNI_KEEPER_HOST_ROOT",
        value_name = "DIR",
        default_value = "/"
    )]
    pub host_root: PathBuf,
    /// Overrides paths.binDir
    #[arg(long, global = true, env = "CNI_KEEPER_BIN_DIR", value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Overrides paths.confDir
    #[arg(long, global = true, env = "CNI_KEEPER_CONF_DIR", value_name = "DIR")]
    pub conf_dir: Option<PathBuf>,
    /// Overrides paths.stateDir
    #[arg(long, global = true, env = "CNI_KEEPER_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// A directory with artifacts by digest, as bundle makes it; read before any source is asked; may be repeated
    #[arg(
        long = "seed",
        global = true,
        env = "CNI_KEEPER_SEEDS",
        value_name = "DIR",
        value_delimiter = ':'
    )]
    pub seeds: Vec<PathBuf>,
    /// The node's name in Kubernetes and the fact node.name [default: the machine's host name]
    #[arg(long, global = true, env = "CNI_KEEPER_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// How much to log: error, warn, info, debug or trace [default: warn on a terminal, else info]
    #[arg(
        long,
        global = true,
        env = "CNI_KEEPER_LOG_LEVEL",
        value_name = "LEVEL"
    )]
    pub log_level: Option<tracing::Level>,
    /// The form of log lines
    #[arg(
        long,
        global = true,
        env = "CNI_KEEPER_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,
}

/// How log lines on stderr look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is written to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// Where a command takes its output format from.
#[derive(Debug, Args)]
pub struct OutputFormat {
    /// The form of what is written to stdout
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run as an agent: install, watch for drift, fix it, and serve health, metrics and a page (exit 0: it was asked to stop)
    Run,
    /// Fetch, verify and install what is declared, once (exit 0: everything is as declared)
    Install {
        /// Use no network: only what the store, seeds and file:// sources hold
        #[arg(long, env = "CNI_KEEPER_OFFLINE", value_parser = BoolishValueParser::new())]
        offline: bool,
        /// Output.
        #[command(flatten)]
        format: OutputFormat,
    },
    /// Show what install would change, and change nothing (exit 0: nothing to do, 1: changes)
    Plan {
        /// Output.
        #[command(flatten)]
        format: OutputFormat,
    },
    /// Compare the disk with the declaration (exit 0: clean, 1: drift)
    Verify {
        /// Output.
        #[command(flatten)]
        format: OutputFormat,
    },
    /// Ask the running agent whether the node is ready (exit 0: ready, 1: not ready, 2: no answer)
    Status {
        /// Where the agent listens [default: http.listen of the configuration]
        #[arg(long, env = "CNI_KEEPER_STATUS_ADDRESS", value_name = "IP:PORT")]
        address: Option<SocketAddr>,
        /// Ask again every second until ^C; show only changes if stdout is no terminal
        #[arg(long, short)]
        watch: bool,
        /// Output.
        #[command(flatten)]
        format: OutputFormat,
    },
    /// Print the conflist that install would write
    Render,
    /// Check a configuration file; no node is needed
    Validate {
        /// The file to check, or - for stdin, instead of --config
        file: Option<PathBuf>,
        /// Output.
        #[command(flatten)]
        format: OutputFormat,
    },
    /// Remove the conflist, then the plugins, as far as they are still what was installed
    Uninstall {
        /// Then wait for SIGTERM, since Kubernetes restarts a DaemonSet's pod that ends
        #[arg(long)]
        stay: bool,
        /// Output.
        #[command(flatten)]
        format: OutputFormat,
    },
    /// Collect everything that the configuration needs in a directory, for nodes without network (see --seed)
    Bundle {
        /// The directory; files that it already holds are verified and not fetched again
        #[arg(long, short = 'o', value_name = "DIR")]
        output_dir: PathBuf,
        /// The architectures that it is for, such as amd64,arm64 [default: this machine's]
        #[arg(long, value_name = "ARCH", value_delimiter = ',')]
        arch: Vec<Arch>,
        /// The form of what is written to stdout
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        output: Output,
    },
    /// List the built-in profiles and the pinned upstream digests
    Catalog {
        /// Output.
        #[command(flatten)]
        format: OutputFormat,
    },
}

impl Command {
    /// The output format; `None` for a command that has only one.
    #[must_use]
    pub const fn output(&self) -> Option<Output> {
        match self {
            Self::Install { format, .. }
            | Self::Plan { format }
            | Self::Verify { format }
            | Self::Status { format, .. }
            | Self::Validate { format, .. }
            | Self::Uninstall { format, .. }
            | Self::Catalog { format } => Some(format.output),
            Self::Bundle { output, .. } => Some(*output),
            Self::Run | Self::Render => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_work_after_the_command() {
        let cli =
            Cli::try_parse_from(["cni-keeper", "install", "--host-root", "/host", "--offline"])
                .unwrap();
        assert_eq!(cli.global.host_root, PathBuf::from("/host"));
        assert!(matches!(
            cli.command,
            Command::Install { offline: true, .. }
        ));
    }
}
