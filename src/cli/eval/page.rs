//! Results as one HTML page that needs nothing else: no scripts, no letters or pictures from elsewhere.
//!
//! All texts come from documents and models and are escaped; the page's own policy forbids scripts and requests.

use std::fmt::Write;
use std::path::Path;

use super::report::{Report, Shown, metric, number, verdict};
use crate::eval::html::escape;
use crate::eval::tasks::{Comparison, Metric, Outcome};
use crate::files::{WriteError, check_own};

/// Documents of a task and filter whose texts are shown.
const SHOWN_DOCUMENTS: usize = 200;
/// Width of charts, in units of their own.
const WIDTH: f64 = 400.0;
/// Standard errors to either side of a value: 95 %.
const ERRORS: f64 = 1.96;

/// What every page begins with, and by which it is known.
const START: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";

const STYLE: &str = "
body{font:16px/1.5 system-ui,sans-serif;color:#1b1b1b;background:#fff;margin:0}
main{max-width:60rem;margin:0 auto;padding:1rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ccc;vertical-align:middle}
td.n{text-align:right;font-variant-numeric:tabular-nums}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f3f3f3;padding:.5rem;margin:.2rem 0}
details{border-bottom:1px solid #ddd;padding:.3rem 0}
svg{display:block;max-width:100%;height:auto}
.wide{overflow-x:auto}
@media (prefers-color-scheme:dark){body{color:#eee;background:#161616}pre{background:#262626}}
";

/// Refuses to replace what is no such page.
pub(super) fn check(path: &Path) -> Result<(), WriteError> {
    check_own(path, START.len(), |first| first == START.as_bytes())
}

/// Makes the page.
pub(super) fn page(report: &Report) -> String {
    let mut body = String::from("<h1>Evaluation</h1>\n");
    for model in &report.models {
        let (name, file) = (escape(&model.name), escape(&model.file));
        let _ = writeln!(body, "<p><bdi>{name}</bdi> (<bdi>{file}</bdi>), {:.1} s</p>", model.seconds);
    }
    if !report.comparisons.is_empty() {
        comparisons(report, &mut body);
    }
    results(&report.results, &mut body);
    documents(report, &mut body);
    format!(
        "{START}<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Evaluation</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

fn results(results: &[Outcome], out: &mut String) {
    out.push_str("<h2>Results</h2>\n<div class=\"wide\"><table>\n<thead><tr><th>task</th><th>metric</th><th>value</th><th>standard error</th><th>documents</th><th>value with its 95 % interval</th></tr></thead>\n<tbody>\n");
    for result in results {
        let stderr = result.stderr.map_or_else(|| "\u{2013}".to_owned(), number);
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{stderr}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            escape(&result.task),
            escape(&metric(result.metric, &result.filter)),
            number(result.value),
            result.documents,
            bar(result)
        );
    }
    out.push_str("</tbody>\n</table></div>\n");
}

/// A bar with whiskers; nothing for metrics without a greatest value.
fn bar(result: &Outcome) -> String {
    let whole = match result.metric {
        "bleu" => 100.0,
        _ if result.higher_is_better => 1.0,
        _ => return String::new(),
    };
    let at = |value: f64| (value / whole).clamp(0.0, 1.0) * WIDTH;
    let error = ERRORS * result.stderr.unwrap_or(0.0);
    let (value, low, high) = (at(result.value), at(result.value - error), at(result.value + error));
    let label = format!("{} {}", result.metric, number(result.value));
    format!(
        "<svg viewBox=\"0 0 {WIDTH} 20\" width=\"{WIDTH}\" height=\"20\" role=\"img\" aria-label=\"{label}\">\
         <rect width=\"{WIDTH}\" height=\"20\" fill=\"#8883\"/><rect width=\"{value:.1}\" height=\"20\" fill=\"#2a78b5\"/>\
         <path d=\"M{low:.1} 10H{high:.1}M{low:.1} 4v12M{high:.1} 4v12\" stroke=\"#d97706\" stroke-width=\"2\"/></svg>"
    )
}

fn comparisons(report: &Report, out: &mut String) {
    out.push_str("<h2>Second against first</h2>\n<ul>\n");
    for found in &report.comparisons {
        let _ = writeln!(out, "<li>{}{}</li>", escape(&verdict(found)), interval(found));
    }
    out.push_str("</ul>\n");
}

/// The interval of a difference around 0.
fn interval(found: &Comparison) -> String {
    let widest =
        found.interval.iter().chain([&found.difference]).fold(1e-9, |most: f64, end| most.max(end.abs()));
    let at = |value: f64| (0.5 + 0.45 * value / widest) * WIDTH;
    let [low, high] = found.interval.map(at);
    let (middle, value) = (WIDTH / 2.0, at(found.difference));
    format!(
        "<svg viewBox=\"0 0 {WIDTH} 20\" width=\"{WIDTH}\" height=\"20\" role=\"img\" aria-label=\"interval of the difference\">\
         <path d=\"M{middle} 0v20\" stroke=\"#888\"/>\
         <path d=\"M{low:.1} 10H{high:.1}\" stroke=\"#2a78b5\" stroke-width=\"4\"/><circle cx=\"{value:.1}\" cy=\"10\" r=\"5\" fill=\"#d97706\"/></svg>"
    )
}

/// The documents of every task: an overview, then texts, those that went wrong first.
fn documents(report: &Report, out: &mut String) {
    let mut left: Vec<&Shown> = report.documents.iter().collect();
    while let Some(first) = left.first().copied() {
        let is_same = |shown: &&Shown| shown.task == first.task && shown.filter == first.filter;
        let (mut group, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(is_same);
        left = rest;
        let _ = writeln!(out, "<h2>{}</h2>", escape(&metric(&first.task, &first.filter)));
        overview(&group, out);
        group.sort_by(|a, b| score(a).total_cmp(&score(b)));
        for shown in group.iter().take(SHOWN_DOCUMENTS) {
            document(shown, out);
        }
        if group.len() > SHOWN_DOCUMENTS {
            let _ = writeln!(out, "<p>and {} more</p>", group.len() - SHOWN_DOCUMENTS);
        }
    }
}

/// How well a document went: its first metric, more is better.
fn score(shown: &Shown) -> f64 {
    shown.excerpt.values.first().map_or(0.0, |(name, value)| {
        if Metric::named(name).is_some_and(|metric| metric.higher_is_better) { *value } else { -value }
    })
}

/// A cell for every document, in order, the darker the worse.
fn overview(group: &[&Shown], out: &mut String) {
    const COLUMNS: usize = 50;
    let scores: Vec<f64> = group.iter().map(|shown| score(shown)).collect();
    let (low, high) =
        scores.iter().fold((0.0f64, 1.0f64), |(low, high), score| (low.min(*score), high.max(*score)));
    let rows = group.len().div_ceil(COLUMNS);
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 {} {}\" width=\"{}\" role=\"img\" aria-label=\"documents in order, red where wrong\">",
        COLUMNS * 12,
        rows * 12,
        COLUMNS * 12
    );
    for (at, score) in scores.iter().enumerate() {
        let share = if low < high { (score - low) / (high - low) } else { 1.0 };
        let (x, y) = (at % COLUMNS * 12, at / COLUMNS * 12);
        let hue = 140.0 * share;
        let _ = write!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"10\" height=\"10\" fill=\"hsl({hue:.0},60%,45%)\"><title>{}</title></rect>",
            group[at].doc_id
        );
    }
    out.push_str("</svg>\n");
}

fn document(shown: &Shown, out: &mut String) {
    let values = shown.excerpt.values.iter().map(|(name, value)| format!("{name} {}", number(*value)));
    let values = escape(&values.collect::<Vec<_>>().join(", "));
    let [prompt, target, answer] =
        [&shown.excerpt.prompt, &shown.excerpt.target, &shown.excerpt.answer].map(|text| escape(text));
    let _ = writeln!(
        out,
        "<details><summary>{}: {values}</summary>prompt<pre>{prompt}</pre>expected<pre>{target}</pre>answered<pre>{answer}</pre></details>",
        shown.doc_id
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_become_markup() {
        assert_eq!(escape("<b a=\"'\">&\u{1b}"), "&lt;b a=&quot;&#39;&quot;&gt;&amp;\u{fffd}");
    }
}
