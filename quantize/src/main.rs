//! `smolt-quantize`: converts and quantizes small language models.

use std::process::ExitCode;

use clap::Parser;
use smolt_quantize::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let (code, hint) = (error.exit_code(), error.hint());
            eprintln!("error: {:#}", anyhow::Error::new(error));
            if let Some(hint) = hint {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(code)
        }
    }
}
