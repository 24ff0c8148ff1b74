//! A comparison for the terminal, no wider than 100 columns.

use super::bootstrap::FEWEST_CHUNKS;
use super::show::{
    compact, measures, megabytes, percent, plus_minus, printable, sentence, short_names, shorten,
    significant, some_layers,
};
use super::{Compared, Comparison};

/// Widest name of a file.
const NAME: usize = 36;
/// Most layers of the table of errors by layer.
const LAYERS: usize = 6;

/// Lines of cells; the first column to the left, others to the right except those that start with a sign.
fn lines(rows: &[Vec<String>], left: &[usize]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if left.contains(&column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn cells<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

/// Tables of the files, each beside the first one, the errors by layer, and the `worst` tensors of each file.
pub fn table(comparison: &Comparison, worst: usize) -> String {
    let files: Vec<&str> = comparison.files.iter().map(|one| one.file.as_str()).collect();
    let names = short_names(&files, NAME);
    let Comparison { n_ctx, chunks, scored_tokens, .. } = comparison;
    let text = short_names(&[&comparison.text], 40).join("");
    let mut out = vec![format!("{text}: {chunks} chunks of {n_ctx} tokens, {scored_tokens} tokens scored")];
    out.push(String::new());
    out.extend(sizes(comparison, &names));
    out.push(String::new());
    out.extend(divergences(&comparison.files, &names));
    out.extend(verdicts(comparison, &names));
    out.push(String::new());
    out.extend(layers(&comparison.files, &names));
    for (one, name) in comparison.files.iter().zip(&names) {
        out.extend(worst_tensors(one, name, worst));
    }
    out.join("\n")
}

fn sizes(comparison: &Comparison, names: &[String]) -> Vec<String> {
    let base = &comparison.base;
    let base_name = shorten(&short_names(&[&base.file], NAME).join(""), NAME - 7) + " (base)";
    let mut rows = vec![cells(["file", "MB", "bits/w", "perplexity", "", "ln PPL ratio", ""])];
    let bits = |bits: f64| format!("{bits:.3}");
    let ppl = |ppl: f64| format!("{ppl:.3}");
    let mut row = vec![base_name, megabytes(base.bytes), bits(base.bits_per_weight), ppl(base.ppl)];
    row.push(plus_minus(base.ppl_stderr));
    rows.push(row);
    for (one, name) in comparison.files.iter().zip(names) {
        let s = &one.summary;
        rows.push(vec![
            name.clone(),
            megabytes(one.bytes),
            bits(one.bits_per_weight),
            ppl(s.ppl),
            plus_minus(s.ppl_stderr),
            format!("{:+.5}", s.ln_ppl_ratio),
            plus_minus(s.ln_ppl_ratio_stderr),
        ]);
    }
    lines(&rows, &[0, 4, 6])
}

fn divergences(files: &[Compared], names: &[String]) -> Vec<String> {
    let mut rows = vec![cells(["file", "mean KL", "", "median", "99 %", "same top-1", ""])];
    for (one, name) in files.iter().zip(names) {
        let s = &one.summary;
        rows.push(vec![
            name.clone(),
            significant(s.mean_kl, 4),
            plus_minus(s.mean_kl_stderr),
            significant(s.median_kl, 3),
            significant(s.kl_99, 3),
            percent(s.same_top),
            plus_minus(s.same_top_stderr.map(|error| error * 100.0)),
        ]);
    }
    lines(&rows, &[0, 2, 6])
}

fn verdicts(comparison: &Comparison, names: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    let Some(first) = names.first() else { return out };
    for (one, name) in comparison.files.iter().zip(names) {
        let Some(against) = &one.against_first else { continue };
        out.push(String::new());
        if comparison.chunks < FEWEST_CHUNKS {
            let read = comparison.chunks;
            out.push(format!("{name} against {first}:"));
            out.push(format!("(no verdict: it takes {FEWEST_CHUNKS} chunks, {read} were read)"));
        } else {
            out.push(format!("{}:", sentence(against.verdict, name, first)));
        }
        let rows = measures(against).map(|[measure, value, interval, verdict]| {
            let interval = if interval.is_empty() { interval } else { format!("95 %: {interval}") };
            let verdict = if interval.is_empty() { String::new() } else { verdict };
            vec![format!("  {measure}"), value, interval, verdict]
        });
        out.extend(lines(&rows, &[0, 2, 3]));
    }
    out
}

fn layers(files: &[Compared], names: &[String]) -> Vec<String> {
    let count = files.iter().map(|one| one.layer_errors.len()).max().unwrap_or(0);
    let some = some_layers(count, LAYERS);
    let mut rows = vec![vec!["error after layer".to_owned(), "embedding".to_owned()]];
    rows[0].extend(some.iter().map(usize::to_string));
    for (one, name) in files.iter().zip(names) {
        let mut row = vec![name.clone(), compact(one.embedding_error)];
        row.extend(some.iter().filter_map(|layer| one.layer_errors.get(*layer)).map(|e| compact(*e)));
        rows.push(row);
    }
    lines(&rows, &[0])
}

fn worst_tensors(one: &Compared, name: &str, worst: usize) -> Vec<String> {
    let tensors = one.tensors.iter().filter(|tensor| tensor.relative_square > 0.0).take(worst);
    let rows: Vec<Vec<String>> = tensors
        .map(|tensor| {
            let error = significant(tensor.relative_square, 3);
            vec![format!("  {}", shorten(&printable(&tensor.name), 60)), tensor.block_type.to_owned(), error]
        })
        .collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let mut out = vec![String::new(), format!("largest errors of weights in {name}:")];
    out.extend(lines(&rows, &[0, 1]));
    out
}
