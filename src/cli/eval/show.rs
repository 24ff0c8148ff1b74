//! Results as a table or JSON.

use std::path::Path;

use super::page;
use super::report::{Report, metric, number, verdict};
use crate::cli::error::CliError;
use crate::cli::output;
use crate::files::write_whole;

impl Report {
    /// To standard output, and to a page if there shall be one.
    pub(super) fn write(&self, json: bool, page: Option<&Path>) -> Result<(), CliError> {
        if let Some(path) = page {
            page::check(path)?;
            write_whole(path, page::page(self).as_bytes())?;
        }
        if json {
            return output::write_json(self);
        }
        let text = if self.comparisons.is_empty() { self.table() } else { self.verdicts() };
        // Names of tasks and filters come from files.
        let lines = text.lines().map(|line| output::printable(line).into_owned() + "\n");
        output::table(&lines.collect::<String>())
    }

    fn table(&self) -> String {
        let head = ["task", "metric", "value", "stderr", "documents"].map(str::to_owned);
        let rows = self.results.iter().map(|result| {
            let stderr = result.stderr.map_or_else(|| "-".to_owned(), number);
            [
                result.task.clone(),
                metric(result.metric, &result.filter),
                number(result.value),
                stderr,
                result.documents.to_string(),
            ]
        });
        columns(std::iter::once(head).chain(rows).collect())
    }

    fn verdicts(&self) -> String {
        let lines: Vec<String> = self.comparisons.iter().map(verdict).collect();
        lines.join("\n") + "\n"
    }
}

/// Columns, the numbers to the right.
fn columns(rows: Vec<[String; 5]>) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).enumerate().map(|(at, (cell, width))| {
            if at < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
