//! `smolt-quantize`: converts and quantizes small language models.

use std::process::ExitCode;

use clap::Parser;
use smolt_quantize::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.exit_code();
            eprintln!("error: {:#}", anyhow::Error::new(error));
            ExitCode::from(code)
        }
    }
}
