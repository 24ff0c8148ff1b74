//! The command `report`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use smolt::eval::perplexity::{CHUNK, PerplexityOptions};
use smolt::gguf::GgufFile;

use super::{CompareError, CompareOptions, Comparison, Text, compare, page, table, write};
use crate::QuantizeError;
use crate::cli::{bar, print_line, threads};

/// Longest text.
const MAX_TEXT_BYTES: u64 = 256 << 20;

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
            write::check(html, &inputs.collect::<Vec<_>>())?;
        }
        let comparison = self.measure()?;
        // Measuring takes minutes: what it gave is printed even if the page cannot be written.
        let written =
            self.html.as_ref().map_or(Ok(()), |html| write::write(html, &page(&comparison, self.worst)));
        if self.json {
            let json = serde_json::to_string_pretty(&comparison);
            print_line(&json.map_err(|error| QuantizeError::Stdout(error.into()))?)?;
        } else {
            print_line(&table(&comparison, self.worst))?;
        }
        Ok(written?)
    }

    fn measure(&self) -> Result<Comparison, QuantizeError> {
        let open = |path: &PathBuf| GgufFile::open(path).map_err(QuantizeError::Input);
        let base = open(&self.base)?;
        let quantized = self.quantized.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let name = self.text.display().to_string();
        let content = read_text(&self.text, &name)?;
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

fn read_text(path: &Path, name: &str) -> Result<String, CompareError> {
    let failed = |source| CompareError::ReadText { file: name.to_owned(), limit: MAX_TEXT_BYTES, source };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    let bytes = file.take(MAX_TEXT_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if bytes as u64 > MAX_TEXT_BYTES { Err(failed(io::ErrorKind::FileTooLarge.into())) } else { Ok(text) }
}
