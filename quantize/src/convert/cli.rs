//! The command `convert`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Conversion, ConvertOptions, ConvertedTensor, FloatType};
use crate::QuantizeError;
use crate::cli::{bar, print_json, print_line, say};

/// Arguments of `convert`.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Folder with config.json, safetensors files and tokenizer.json.
    #[arg(value_name = "HF_DIR")]
    folder: PathBuf,
    /// GGUF file to write; it appears when it is complete.
    output: PathBuf,
    /// Type of matrices; vectors are F32.
    #[arg(long = "type", value_name = "TYPE", default_value = "f16")]
    float: FloatType,
    /// Name of the pre-tokenizer, where tokenizer.json has one that is not known.
    #[arg(long, value_name = "NAME")]
    pre: Option<String>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What was written.
#[derive(Serialize)]
struct Report<'a> {
    output: String,
    architecture: &'a str,
    weights: u64,
    file_bytes: u64,
    notes: &'a [String],
    tensors: Vec<ConvertedTensor>,
}

impl ConvertArgs {
    pub(crate) fn run(self) -> Result<(), QuantizeError> {
        let options = ConvertOptions { float: self.float, pre: self.pre };
        let conversion = Conversion::open(&self.folder, &options)?;
        for note in conversion.notes() {
            say(format_args!("warning: {note}"));
        }
        let bar = bar(conversion.source_bytes(), "{wide_bar} {bytes} of {total_bytes}, {eta} left");
        let written = conversion.write(&self.output, &mut |bytes| bar.inc(bytes));
        bar.finish_and_clear();
        written?;
        let report = Report {
            output: self.output.display().to_string(),
            architecture: conversion.architecture(),
            weights: conversion.weights(),
            file_bytes: conversion.file_bytes(),
            notes: conversion.notes(),
            tensors: conversion.tensors().collect(),
        };
        if self.json {
            let json = serde_json::to_string_pretty(&report);
            return print_json(&json.map_err(|error| QuantizeError::Stdout(error.into()))?);
        }
        let Report { output, weights, file_bytes, tensors, .. } = &report;
        print_line(&format_args!(
            "{output}: {} tensors, {weights} weights, {file_bytes} bytes",
            tensors.len()
        ))
    }
}
