//! Names and numbers for people.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;

use super::{Estimate, Verdict};

/// A short name for each file, no longer than `most` characters: its own name, with folders in front as far as names
/// would be equal, the middle left out of long ones. All are different, even if a file is named twice.
pub(super) fn short_names(files: &[&str], most: usize) -> Vec<String> {
    // The root is an empty part: it is the slash that follows.
    let part = |part: &OsStr| printable(part.to_string_lossy().trim_start_matches('/'));
    let parts: Vec<Vec<String>> =
        files.iter().map(|file| Path::new(file).iter().map(part).collect()).collect();
    let deepest = parts.iter().map(Vec::len).max().unwrap_or(0);
    let tail = |parts: &[String], count: usize| parts[parts.len() - count.min(parts.len())..].join("/");
    let names: Vec<String> = parts
        .iter()
        .map(|own| {
            let alone = |count: &usize| {
                let name = tail(own, *count);
                parts.iter().all(|other| other == own || tail(other, *count) != name)
            };
            shorten(&tail(own, (1..=deepest).find(alone).unwrap_or(deepest)), most)
        })
        .collect();
    let mut seen = HashMap::<&str, usize>::new();
    names
        .iter()
        .map(|name| {
            let count = seen.entry(name).or_default();
            *count += 1;
            if *count == 1 { name.clone() } else { shorten(&format!("{name} ({count})"), most) }
        })
        .collect()
}

/// Leaves the middle out of a long text. More of the end is kept, where file names have their type.
pub(super) fn shorten(text: &str, most: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= most {
        return text.to_owned();
    }
    let start = most.saturating_sub(1) / 3;
    let end = most.saturating_sub(1) - start;
    chars[..start].iter().chain(&['…']).chain(&chars[chars.len() - end..]).collect()
}

/// The text without characters that steer a terminal or turn text around.
pub(super) fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| if steers(c) || matches!(c, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { c })
        .collect()
}

/// A number with `digits` significant digits, without an exponent unless it is very small or large.
pub(super) fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.abs().to_string();
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-6..6).contains(&magnitude) {
        return format!("{value:.0$e}", (digits - 1).max(0) as usize);
    }
    format!("{value:.0$}", (digits - 1 - magnitude).max(0) as usize)
}

/// A number with two significant digits in at most six characters, if it is from 1e-99 to 1000.
pub(super) fn compact(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:.1e}") } else { significant(value, 2) }
}

/// `±` and a standard error; nothing if it is not known.
pub(super) fn plus_minus(error: Option<f64>) -> String {
    error.map_or_else(String::new, |error| format!("±{}", significant(error, 2)))
}

/// Bytes in units of 10^6, with three decimals.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.3}", bytes as f64 / 1e6)
}

/// A share in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// What a verdict says of file `a` beside file `b`.
pub(super) fn sentence(verdict: Verdict, a: &str, b: &str) -> String {
    match verdict {
        Verdict::Better => format!("{a} is better than {b}"),
        Verdict::Worse => format!("{a} is worse than {b}"),
        Verdict::Unclear => format!("{a} and {b} cannot be told apart"),
        Verdict::Mixed => format!("{a} is neither better nor worse than {b}: the measures disagree"),
    }
}

/// A verdict on one measure in a word or two.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Unclear => "unclear",
        Verdict::Mixed => "mixed",
    }
}

/// An estimate and its interval, each value times `scale`, and `unit` after the estimate.
pub(super) fn estimate(one: &Estimate, show: impl Fn(f64) -> String, unit: &str) -> [String; 2] {
    let interval = match (one.low, one.high) {
        (Some(low), Some(high)) => format!("{} to {}", show(low), show(high)),
        _ => String::new(),
    };
    [format!("{}{unit}", show(one.estimate)), interval]
}

/// The three measures of a comparison of two files: name, estimate, interval, verdict.
pub(super) fn measures(against: &super::Against) -> [[String; 4]; 3] {
    let ratio = |value: f64| if value < 1000.0 { format!("{value:.3}") } else { format!("{value:.1e}") };
    let row = |name: &str, one: &Estimate, show: &dyn Fn(f64) -> String, unit: &str| {
        let [value, interval] = estimate(one, show, unit);
        [name.to_owned(), value, interval, word(one.verdict).to_owned()]
    };
    let signed = |value: f64| format!("{value:+.5}");
    let points = |value: f64| format!("{:+.2}", value * 100.0);
    [
        row("mean KL", &against.kl_ratio, &ratio, " times"),
        row("ln PPL", &against.ln_ppl_difference, &signed, ""),
        row("same top-1", &against.same_top_difference, &points, " points"),
    ]
}

/// Equally spaced layers, the first and the last included, at most `most`.
pub(super) fn some_layers(layers: usize, most: usize) -> Vec<usize> {
    let Some(last) = layers.checked_sub(1) else { return Vec::new() };
    let steps = last.min(most.saturating_sub(1));
    let mut some: Vec<usize> = (0..=steps).map(|i| i * last / steps.max(1)).collect();
    some.dedup();
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_different() {
        let names = short_names(&["a/x/m.gguf", "b/x/m.gguf", "c/other.gguf"], 30);
        assert_eq!(names, ["a/x/m.gguf", "b/x/m.gguf", "other.gguf"]);
        assert_eq!(short_names(&["d/m.gguf", "d/m.gguf"], 30), ["m.gguf", "m.gguf (2)"]);
        assert_eq!(short_names(&["/m.gguf", "m.gguf"], 30), ["/m.gguf", "m.gguf"]);
        let long = format!("{}-Q4_0.gguf", "model".repeat(20));
        assert_eq!(short_names(&[&long], 20), ["modelm…del-Q4_0.gguf"]);
        let pair = short_names(&[&long, &format!("{}-Q4_0.gguf", "model".repeat(21))], 20);
        assert!(pair[0] != pair[1] && pair.iter().all(|name| name.chars().count() <= 20), "{pair:?}");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(short_names(&["a\x1b[2J\u{202e}\n.gguf"], 30), ["a\u{fffd}[2J\u{fffd}\u{fffd}.gguf"]);
    }

    #[test]
    fn digits_that_count() {
        let cases = [(0.0, "0"), (0.007_076_4, "0.007076"), (0.000_237_1, "0.0002371"), (117.262, "117.3")];
        for (value, text) in cases {
            assert_eq!(significant(value, 4), text);
        }
        assert_eq!(significant(-0.012_34, 2), "-0.012");
        assert_eq!(significant(1.234e-9, 3), "1.23e-9");
        assert_eq!(significant(123_456.7, 2), "123457");
        assert_eq!(significant(1.5e12, 2), "1.5e12");
        assert_eq!(significant(-0.0, 2), "0");
    }

    #[test]
    fn layers_from_first_to_last() {
        assert_eq!(some_layers(30, 7), [0, 4, 9, 14, 19, 24, 29]);
        assert_eq!(some_layers(6, 7), [0, 1, 2, 3, 4, 5]);
        assert_eq!(some_layers(1, 7), [0]);
        assert_eq!(some_layers(0, 7), [0; 0]);
    }
}
