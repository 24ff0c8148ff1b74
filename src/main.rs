//! The `smolt` binary: arguments to command to exit code.

use std::process::ExitCode;

use smolt::runtime::{EndingAllocator, end_in_order};
use smolt::{cli, console};

#[global_allocator]
static ALLOCATOR: EndingAllocator = EndingAllocator;

fn main() -> ExitCode {
    end_in_order();
    console::report_panics("smolt");
    match cli::parse().and_then(|cli| cli::execute(&cli)) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            cli::complain(&error);
            ExitCode::from(error.exit() as u8)
        }
    }
}
