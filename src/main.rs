//! The `smolt` binary: arguments to command to exit code.

use std::io::Write;
use std::process::ExitCode;

use smolt::cli;

fn main() -> ExitCode {
    match cli::parse().and_then(|cli| cli::execute(&cli)) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            let (exit, hint) = (error.exit(), error.hint());
            report(&anyhow::Error::from(error), hint);
            ExitCode::from(exit as u8)
        }
    }
}

/// Prints an error with its causes, and what to do about it. If nobody listens, the exit code must do.
fn report(error: &anyhow::Error, hint: Option<String>) {
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Some messages hold their cause already.
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    let hint = hint.map_or(String::new(), |hint| format!("\nhint: {hint}"));
    let _ = writeln!(std::io::stderr(), "smolt: {message}{hint}");
}
