//! `smolt pack`: weights packed ahead of time, for a fast start.

use serde::Serialize;

use super::args::ModelArgs;
use super::error::{CliError, Exit};
use super::load;
use super::memory::show_bytes;
use super::opened::Opened;
use super::output;
use crate::kernels::Kernels;
use crate::model::{write_pack, write_verified_pack};

/// Arguments of `smolt pack`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Every start brings the weights into the order that the processor reads fastest. A pack holds them in that
order, in a file beside the model named MODEL.ISA.pack. Other commands find and use it, and load faster and
into memory that the system can share and take back. It belongs to this model on this kind of processor:
when the model changes it is no longer used. Answers are the same with and without it. To remove it, delete
the file.

Example:
  smolt pack -m model.gguf"
)]
pub struct PackArgs {
    /// The model, as with -m
    #[arg(value_name = "MODEL")]
    pub(super) named: Option<std::path::PathBuf>,

    #[command(flatten)]
    pub(super) model: ModelArgs,

    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// What was written, in machine-readable form.
#[derive(Serialize)]
struct Report {
    pack: String,
    bytes: u64,
    isa: &'static str,
}

/// Packs and writes.
pub(super) fn execute(args: &PackArgs) -> Result<Exit, CliError> {
    let kernels = Kernels::detect()?;
    let Opened { file, verified } = load::open(&args.model)?;
    let (path, bytes) = match &verified {
        None => write_pack(&file, kernels)?,
        Some(verified) => write_verified_pack(&file, kernels, verified)?,
    };
    let report = Report { pack: path.display().to_string(), bytes, isa: kernels.name };
    if args.json {
        output::write_json(&report)?;
    } else {
        output::write(format!("{} ({})\n", report.pack, show_bytes(report.bytes)).as_bytes())?;
    }
    Ok(Exit::Ok)
}
