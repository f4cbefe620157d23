//! The `cni-keeper` program: arguments → command → exit code.

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use cni_keeper::cli::Cli;
use cni_keeper::commands::{self, Exit};

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => commands::run(&cli).into(),
        Err(answer) => {
            // Nothing is left to be done where stdout or stderr is closed.
            let _ = answer.print();
            match answer.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done.into(),
                _ => Exit::Usage.into(),
            }
        }
    }
}
