//! The command `report`.

use std::path::PathBuf;

use clap::Args;
use smolt::eval::perplexity::{CHUNK, PerplexityOptions};
use smolt::files::{read_text, write_whole};
use smolt::gguf::GgufFile;

use super::{CompareError, CompareOptions, Comparison, Text, compare, page, table, target};
use crate::QuantizeError;
use crate::cli::{bar, print_json, print_line, threads};
use crate::files::MAX_TEXT_BYTES;

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The original.
    base: PathBuf,
    /// Quantized files of the same model; each is compared with the original and with the first of them.
    #[arg(required = true)]
    quantized: Vec<PathBuf>,
    /// Text to measure on; it should not be the one used for calibration.
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Tokens of a chunk.
    #[arg(short, long, value_name = "N", default_value_t = CHUNK)]
    context: usize,
    /// Read at most this many chunks.
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
    /// Tensors to list of each file.
    #[arg(long, value_name = "N", default_value_t = 5)]
    worst: usize,
    /// Write a page with tables and charts, complete in one file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Threads [default: all processors].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl ReportArgs {
    pub(crate) fn run(self) -> Result<(), QuantizeError> {
        let inputs = self.quantized.iter().chain([&self.base, &self.text]).map(PathBuf::as_path);
        if let Some(html) = &self.html {
            target::check(html, &inputs.collect::<Vec<_>>())?;
        }
        let comparison = self.measure()?;
        // Measuring takes minutes: what it gave is printed even if the page cannot be written.
        let write = |html: &PathBuf| write_whole(html, page(&comparison, self.worst).as_bytes());
        let written = self.html.as_ref().map_or(Ok(()), write);
        if self.json {
            let json = serde_json::to_string_pretty(&comparison);
            print_json(&json.map_err(|error| QuantizeError::Stdout(error.into()))?)?;
        } else {
            print_line(&table(&comparison, self.worst))?;
        }
        written.map_err(|error| QuantizeError::Output(error.into()))
    }

    fn measure(&self) -> Result<Comparison, QuantizeError> {
        let open = |path: &PathBuf| GgufFile::open(path).map_err(QuantizeError::Input);
        let base = open(&self.base)?;
        let quantized = self.quantized.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let name = self.text.display().to_string();
        let failed = |source| CompareError::ReadText { file: name.clone(), limit: MAX_TEXT_BYTES, source };
        let content = read_text(&self.text, MAX_TEXT_BYTES).map_err(failed)?;
        let text = PerplexityOptions { n_ctx: self.context, chunks: self.chunks };
        let options = CompareOptions { text, threads: threads(self.threads) };
        let bar = bar(0, "{wide_bar} chunk {pos} of {len}, {eta} left");
        let text = Text { name: &name, content: &content };
        let comparison = compare(&base, &quantized, text, &options, &mut |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        Ok(comparison?)
    }
}
