//! `smolt plan`: what a model needs, before loading it.

use serde::Serialize;

use super::args::{LookupArgs, ModelArgs, ResourceArgs};
use super::constrain::GrammarArgs;
use super::error::{CliError, Exit};
use super::held;
use super::load::{self, Planned};
use super::memory::show_bytes;
use super::output;
use crate::kernels::Held;
use crate::load::MemoryPlan;
use crate::model::MAX_SLOTS;

/// Arguments of `smolt plan`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
With --max-memory the exit code is 4 if the model does not fit.

Example:
  smolt plan -m model.gguf -c 2048 --max-memory 200M"
)]
pub struct PlanArgs {
    /// The model, as with -m
    #[arg(value_name = "MODEL")]
    pub(super) named: Option<std::path::PathBuf>,

    #[command(flatten)]
    pub(super) model: ModelArgs,

    #[command(flatten)]
    resources: ResourceArgs,

    /// Answers at once, as with smolt batch and smolt eval
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=MAX_SLOTS as i64))]
    parallel: u16,

    #[command(flatten)]
    lookup: LookupArgs,

    #[command(flatten)]
    grammar: GrammarArgs,

    /// Print one line of JSON; sizes are in bytes
    #[arg(long)]
    json: bool,
}

/// The plan in machine-readable form.
#[derive(Serialize)]
struct Report {
    model: String,
    architecture: &'static str,
    file_bytes: u64,
    #[serde(flatten)]
    memory: MemoryPlan,
    context: usize,
    parallel: usize,
    trained_context: usize,
    threads: usize,
    isa: &'static str,
    kv: &'static str,
    /// How the weights of each quantized type are held.
    #[serde(serialize_with = "held::serialize")]
    held: Vec<Held>,
}

impl Report {
    fn new(planned: &Planned) -> Report {
        Report {
            model: planned.name(),
            architecture: planned.spec().family.architecture,
            file_bytes: planned.file().file_bytes(),
            memory: *planned.plan(),
            context: planned.options().context,
            parallel: planned.options().slots,
            trained_context: planned.spec().trained_context,
            threads: planned.options().threads,
            isa: planned.kernels().name,
            kv: planned.options().kv.name(),
            held: held::types(planned.file().tensors()),
        }
    }

    fn table(&self) -> String {
        let memory = &self.memory;
        let answers =
            if self.parallel > 1 { format!(", {} answers at once", self.parallel) } else { String::new() };
        let mut table = format!(
            "model      {} ({}, {} in the file)\nkernels    {}, {} threads\ncontext    {} of {} trained, KV cache in {}{answers}\n\n",
            self.model,
            self.architecture,
            show_bytes(self.file_bytes),
            self.isa,
            self.threads,
            self.context,
            self.trained_context,
            self.kv,
        );
        for (purpose, bytes) in [
            ("weights", memory.weights),
            ("KV cache", memory.kv_cache),
            ("scratch", memory.scratch),
            ("tokenizer", memory.tokenizer),
            ("grammar", memory.grammar),
            ("program", memory.program),
            ("total", memory.total),
        ] {
            table += &format!("{purpose:<10} {bytes:>14} bytes {:>12}\n", show_bytes(bytes));
        }
        for held in self.held.iter().filter(|held| !held.block_type.is_written()) {
            table += &format!("held       {held}\n");
        }
        table
    }
}

/// Prints the plan, then refuses it if it is above the limit.
pub(super) fn execute(args: &PlanArgs) -> Result<Exit, CliError> {
    let mut planned = load::plan(&args.model, &args.resources, args.lookup.logit_rows(), &args.grammar)?;
    planned.file().read_to_end()?;
    planned.set_slots(usize::from(args.parallel))?;
    let report = Report::new(&planned);
    if args.json {
        output::write_json(&report)?;
    } else {
        output::table(&report.table())?;
    }
    planned.check()?;
    Ok(Exit::Ok)
}
