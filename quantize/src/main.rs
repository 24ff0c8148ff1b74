//! `smolt-quantize`: converts and quantizes small language models.

use std::process::ExitCode;

use smolt::console::{self, Screen};
use smolt::runtime::{EndingAllocator, end_in_order};
use smolt_quantize::cli;

#[global_allocator]
static ALLOCATOR: EndingAllocator = EndingAllocator;

fn main() -> ExitCode {
    end_in_order();
    console::report_panics("smolt-quantize");
    match cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let (code, hint) = (error.exit_code(), error.hint());
            let message = format!("error: {:#}\n", anyhow::Error::new(error));
            let hint = hint.map_or(String::new(), |hint| format!("hint: {hint}\n"));
            Screen::new().text(&message).text(&hint).say();
            ExitCode::from(code)
        }
    }
}
