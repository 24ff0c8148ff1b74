//! `smolt stats`: what was counted.

use std::fmt::Write;
use std::path::PathBuf;

use super::counting::file;
use super::error::{CliError, Exit};
use super::output;
use crate::generate::{FIRST_TOKEN_MS, RATES};
use crate::stats::Stats;

/// Arguments of `smolt stats`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Nothing is counted unless SMOLT_STATS names a file, or a store is used. Then run, chat, batch, eval and serve add to it
when they end, and serve every five minutes: how often they started, how they ended, how many answers and tokens there
were, and how fast. The file holds numbers alone, at most 4 KiB, and goes nowhere. Whoever wants to begin anew removes it.

Examples:
  SMOLT_STATS=stats smolt run \"What time do you open?\"
  smolt stats stats
  smolt stats --json stats"
)]
pub struct StatsArgs {
    /// The file [default: that of SMOLT_STATS]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Shows what was counted.
pub(super) fn execute(args: &StatsArgs) -> Result<Exit, CliError> {
    let file = args.file.clone().or_else(file).ok_or(CliError::NoStats)?;
    let stats = Stats::read(&file)?;
    match args.json {
        true => output::write_json(&stats)?,
        false => output::table(&table(&stats))?,
    }
    Ok(Exit::Ok)
}

fn table(stats: &Stats) -> String {
    let Stats { starts, ends, answers } = stats;
    let mut out = String::new();
    let mut row = |name: &str, counts: &[(&str, u64)]| {
        let counts: Vec<String> = counts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        let counts = if counts.is_empty() { "-".to_owned() } else { counts.join(", ") };
        // A String takes all that is written.
        _ = writeln!(out, "{name:<12} {counts}");
    };
    row(
        "starts",
        &[
            ("run", starts.run),
            ("chat", starts.chat),
            ("batch", starts.batch),
            ("eval", starts.eval),
            ("serve", starts.serve),
        ],
    );
    row(
        "ends",
        &[
            ("done", ends.done),
            ("failed", ends.failed),
            ("wrong usage", ends.usage),
            ("without model", ends.model),
            ("without memory", ends.memory),
            ("below a bound", ends.threshold),
            ("unfinished form", ends.unfinished),
            ("stopped", ends.stopped),
            ("other", ends.other),
        ],
    );
    row(
        "answers",
        &[
            ("whole", answers.stop),
            ("cut at a limit", answers.length),
            ("in circles", answers.loops),
            ("not wanted any more", answers.cancelled),
        ],
    );
    row(
        "tokens",
        &[
            ("read", answers.read_tokens),
            ("in the cache", answers.cached_tokens),
            ("written", answers.tokens),
        ],
    );
    buckets(&mut out, "first token", "ms", &FIRST_TOKEN_MS, &answers.first_token);
    buckets(&mut out, "speed", "tokens/s", &RATES, &answers.rate);
    out
}

/// A row of how many were up to each bound, and above the last.
fn buckets(out: &mut String, name: &str, unit: &str, bounds: &[u64], counts: &[u64]) {
    let below = bounds.iter().map(|bound| format!("up to {bound} {unit}"));
    let above = bounds.last().map(|bound| format!("above {bound} {unit}"));
    let shown: Vec<String> = below
        .chain(above)
        .zip(counts)
        .filter(|(_, count)| **count > 0)
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    let shown = if shown.is_empty() { "-".to_owned() } else { shown.join(", ") };
    // A String takes all that is written.
    _ = writeln!(out, "{name:<12} {shown}");
}
