//! A comparison as one HTML page that needs nothing else: no scripts, no letters or pictures from elsewhere.
//!
//! The page is well-formed XML too. All names come from files and are escaped; the page's own policy forbids scripts
//! and requests.

use super::bootstrap::{FEWEST_CHUNKS, RESAMPLES};
use super::chart;
use super::show::{measures, megabytes, percent, plus_minus, printable, sentence, short_names, significant};
use super::{Compared, Comparison};

/// Longest name of a file.
const NAME: usize = 60;

/// Text for HTML and XML, also in quoted attributes, on one line.
pub(super) fn escape(text: &str) -> String {
    smolt::eval::html::escape(&printable(text))
}

/// The page: files, charts, each file beside the first one, the `worst` tensors of each file, how it was measured.
pub fn page(comparison: &Comparison, worst: usize) -> String {
    let files: Vec<&str> = comparison.files.iter().map(|one| one.file.as_str()).collect();
    let names = short_names(&files, NAME);
    let base = escape(&short_names(&[&comparison.base.file], NAME).join(""));
    let parts = [
        summary(comparison, &base),
        files_table(comparison, &names, &base),
        charts(&comparison.files, &names),
        verdicts(comparison, &names),
        worst_tensors(&comparison.files, &names, worst),
        method(comparison),
    ];
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<title>Quantized versions of {base}</title>
<style>
{}</style>
</head>
<body>
<main>
{}</main>
</body>
</html>
"#,
        include_str!("style.css"),
        parts.concat()
    )
}

fn summary(comparison: &Comparison, base: &str) -> String {
    let Comparison { text, chunks, n_ctx, scored_tokens, .. } = comparison;
    let text = escape(&short_names(&[text], NAME).join(""));
    format!(
        "<h1>Quantized versions of <bdi>{base}</bdi></h1>\n<p>Text: <bdi>{text}</bdi>, {chunks} chunks of {n_ctx} tokens, {scored_tokens} tokens scored.</p>\n"
    )
}

/// A cell with its heading, which is shown in front of it where the screen is narrow.
fn cell(heading: &str, value: &str, error: &str) -> String {
    let error = if error.is_empty() { String::new() } else { format!(" <span class=\"se\">{error}</span>") };
    match value {
        "" => "<td></td>".to_owned(),
        _ => format!("<td data-label=\"{heading}\"><span>{value}{error}</span></td>"),
    }
}

fn row(head: &str, cells: &[String]) -> String {
    format!("<tr><th scope=\"row\">{head}</th>{}</tr>\n", cells.concat())
}

const HEADINGS: [&str; 8] = [
    "MB",
    "bits per weight",
    "perplexity",
    "ln PPL ratio",
    "mean KL",
    "median KL",
    "99 % of KL",
    "same top\u{2011}1",
];

fn files_table(comparison: &Comparison, names: &[String], base_name: &str) -> String {
    let base = &comparison.base;
    let sizes = |bytes: u64, bits: f64| [megabytes(bytes), format!("{bits:.3}")];
    let cells = |values: [(String, String); 8]| -> Vec<String> {
        HEADINGS.iter().zip(values).map(|(heading, (value, error))| cell(heading, &value, &error)).collect()
    };
    let none = || (String::new(), String::new());
    let [mb, bits] = sizes(base.bytes, base.bits_per_weight).map(|value| (value, String::new()));
    let ppl = (format!("{:.3}", base.ppl), plus_minus(base.ppl_stderr));
    let mut rows = row(
        &format!("<bdi>{base_name}</bdi> (base)"),
        &cells([mb, bits, ppl, none(), none(), none(), none(), none()]),
    );
    for (series, (one, name)) in comparison.files.iter().zip(names).enumerate() {
        let s = &one.summary;
        let [mb, bits] = sizes(one.bytes, one.bits_per_weight).map(|value| (value, String::new()));
        rows += &row(
            &format!("{}<bdi>{}</bdi>", chart::key(series), escape(name)),
            &cells([
                mb,
                bits,
                (format!("{:.3}", s.ppl), plus_minus(s.ppl_stderr)),
                (format!("{:+.5}", s.ln_ppl_ratio), plus_minus(s.ln_ppl_ratio_stderr)),
                (significant(s.mean_kl, 4), plus_minus(s.mean_kl_stderr)),
                (significant(s.median_kl, 3), String::new()),
                (significant(s.kl_99, 3), String::new()),
                (percent(s.same_top), plus_minus(s.same_top_stderr.map(|error| error * 100.0))),
            ]),
        );
    }
    let headings = HEADINGS.map(|heading| format!("<th scope=\"col\">{heading}</th>")).concat();
    format!(
        "<table class=\"cards\">\n<thead><tr><th scope=\"col\">file</th>{headings}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n"
    )
}

fn verdicts(comparison: &Comparison, names: &[String]) -> String {
    let Some(first) = names.first().filter(|_| names.len() > 1) else { return String::new() };
    let mut out = format!("<h2>Against <bdi>{}</bdi></h2>\n", escape(first));
    let is_sampled = comparison.chunks >= FEWEST_CHUNKS;
    if !is_sampled {
        let read = comparison.chunks;
        out += &format!("<p>No verdicts: they take {FEWEST_CHUNKS} chunks, {read} were read.</p>\n");
    }
    out += "<div class=\"columns\">\n";
    for (one, name) in comparison.files.iter().zip(names) {
        let Some(against) = &one.against_first else { continue };
        let title = if is_sampled { sentence(against.verdict, name, first) } else { name.clone() };
        let rows = measures(against).map(|[measure, value, interval, verdict]| {
            let verdict = if is_sampled { verdict } else { String::new() };
            format!("<tr><th scope=\"row\">{measure}</th><td>{value}</td><td>{interval}</td><td class=\"left\">{verdict}</td></tr>\n")
        });
        out += &format!(
            "<section>\n<h3>{}</h3>\n<table>\n<thead><tr><th scope=\"col\">measure</th><th scope=\"col\">difference</th><th scope=\"col\">95 % interval</th><th scope=\"col\"></th></tr></thead>\n<tbody>\n{}</tbody>\n</table>\n</section>\n",
            escape(&title),
            rows.concat()
        );
    }
    out + "</div>\n"
}

fn charts(files: &[Compared], names: &[String]) -> String {
    let figure = |caption: &str, chart: Option<String>, nothing: &str| match chart {
        Some(chart) => format!("<figure>\n<figcaption>{caption}</figcaption>\n{chart}</figure>\n"),
        None => format!(
            "<figure>\n<figcaption>{caption}</figcaption>\n<p class=\"soft\">{nothing}</p>\n</figure>\n"
        ),
    };
    let keys = names
        .iter()
        .enumerate()
        .map(|(series, name)| format!("<li>{}<bdi>{}</bdi></li>\n", chart::key(series), escape(name)));
    format!(
        "<h2>Size and damage</h2>\n<ul class=\"legend\">\n{}</ul>\n<div class=\"charts\">\n{}{}</div>\n<p class=\"soft\">Both scales of damage are logarithmic; a file or layer without damage is not on them.</p>\n",
        keys.collect::<String>(),
        figure(
            "Mean KL divergence in nats by size of the file",
            chart::sizes(files, names),
            "No file's predictions differ from the base's."
        ),
        figure(
            "Relative squared error after each layer",
            chart::layers(files),
            "No file's residual stream differs from the base's."
        )
    )
}

fn worst_tensors(files: &[Compared], names: &[String], worst: usize) -> String {
    let mut out = String::new();
    for (one, name) in files.iter().zip(names) {
        let tensors = one.tensors.iter().filter(|tensor| tensor.relative_square > 0.0).take(worst);
        let rows: String = tensors
            .map(|tensor| {
                let (name, error) = (escape(&tensor.name), significant(tensor.relative_square, 3));
                let block_type = tensor.block_type;
                format!("<tr><th scope=\"row\">{name}</th><td class=\"left\">{block_type}</td><td>{error}</td></tr>\n")
            })
            .collect();
        if !rows.is_empty() {
            out += &format!(
                "<section>\n<h3><bdi>{}</bdi></h3>\n<table>\n<thead><tr><th scope=\"col\">tensor</th><th scope=\"col\" class=\"left\">type</th><th scope=\"col\">relative error</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</section>\n",
                escape(name)
            );
        }
    }
    if out.is_empty() {
        return out;
    }
    format!("<h2>Largest errors of weights</h2>\n<div class=\"columns\">\n{out}</div>\n")
}

fn method(comparison: &Comparison) -> String {
    let layer_chunks = comparison.layer_chunks;
    format!(
        "<h2>How it was measured</h2>\n<p>Each model read the same chunks of the text with an empty cache, and at the positions with at least half a chunk before them its perplexity (± standard error) and the Kullback-Leibler divergence of its next-token probabilities from the base's were taken; intervals are 95 % of {RESAMPLES} paired resamples of the chunks. The error after a layer is the squared difference of both residual streams as a share of the base's square, the mean over the tokens of the first {layer_chunks} chunks, and the relative error of weights is the like, after undoing the exact powers of two that calibration folds between adjacent matrices.</p>\n"
    )
}
