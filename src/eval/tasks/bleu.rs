//! Corpus BLEU (Papineni et al. 2002) as sacrebleu computes it by default: `13a` tokens, exponential smoothing, case
//! kept, n-grams of up to 4 tokens (signature `case:mixed|eff:no|tok:13a|smooth:exp`).

use std::collections::HashMap;

/// Tokens of the longest n-gram.
const ORDER: usize = 4;

/// Counts of one answer, or summed over many: tokens of the answer, tokens of the closest reference, matching n-grams
/// by length, n-grams by length.
pub(super) type Counts = [f64; 2 + 2 * ORDER];

/// The counts of an answer against its references.
pub(super) fn counts(answer: &str, references: &[&str]) -> Counts {
    let answer = tokens(answer);
    let references: Vec<Vec<String>> = references.iter().map(|text| tokens(text)).collect();
    let mut most: HashMap<&[String], usize> = HashMap::new();
    for reference in &references {
        for (ngram, count) in ngrams(reference) {
            let most = most.entry(ngram).or_default();
            *most = count.max(*most);
        }
    }
    let lengths = references.iter().map(Vec::len);
    let closest = lengths.min_by_key(|length| (length.abs_diff(answer.len()), *length)).unwrap_or(0);
    let mut counts = [0.0; 2 + 2 * ORDER];
    counts[0] = answer.len() as f64;
    counts[1] = closest as f64;
    for (ngram, count) in ngrams(&answer) {
        let matching = most.get(ngram).map_or(0, |most| count.min(*most));
        counts[1 + ngram.len()] += matching as f64;
        counts[1 + ORDER + ngram.len()] += count as f64;
    }
    counts
}

/// The score, 0 to 100, of summed counts.
pub(super) fn score(counts: &Counts) -> f64 {
    let (answer, reference) = (counts[0], counts[1]);
    let (correct, total) = counts[2..].split_at(ORDER);
    if correct.iter().all(|count| *count == 0.0) {
        return 0.0;
    }
    let brevity = if answer < reference { (1.0 - reference / answer).exp() } else { 1.0 };
    let mut smoothing = 1.0;
    let mut logs = 0.0;
    for (correct, total) in correct.iter().zip(total) {
        if *total == 0.0 {
            return 0.0;
        }
        let precision = if *correct == 0.0 {
            smoothing *= 2.0;
            100.0 / (smoothing * total)
        } else {
            100.0 * correct / total
        };
        logs += precision.ln();
    }
    brevity * (logs / ORDER as f64).exp()
}

fn ngrams(tokens: &[String]) -> HashMap<&[String], usize> {
    let mut found = HashMap::new();
    for ngram in (1..=ORDER).flat_map(|order| tokens.windows(order)) {
        *found.entry(ngram).or_default() += 1;
    }
    found
}

/// The tokens of `mteval-v13a`, in the order in which it replaces.
fn tokens(text: &str) -> Vec<String> {
    let mut line = text.trim_end().replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    if line.contains('&') {
        line = line.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    }
    let chars: Vec<char> = format!(" {line} ").chars().collect();
    let spaced = |c: char| if is_symbol(c) { vec![' ', c, ' '] } else { vec![c] };
    let chars: Vec<char> = chars.into_iter().flat_map(spaced).collect();
    let is_mark = |c: char| matches!(c, '.' | ',');
    let chars =
        pairs(&chars, |first, second| !first.is_ascii_digit() && is_mark(second), [false, true, true]);
    let chars =
        pairs(&chars, |first, second| is_mark(first) && !second.is_ascii_digit(), [true, true, false]);
    let chars = pairs(&chars, |first, second| first.is_ascii_digit() && second == '-', [false, true, true]);
    let line: String = chars.into_iter().collect();
    line.split_whitespace().map(str::to_owned).collect()
}

/// ASCII punctuation but `'`, `,`, `-` and `.`.
fn is_symbol(c: char) -> bool {
    matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/')
}

/// Puts spaces before, between and behind pairs, from left to right, none overlapping.
fn pairs(
    chars: &[char],
    found: impl Fn(char, char) -> bool,
    [before, between, behind]: [bool; 3],
) -> Vec<char> {
    let mut out = Vec::with_capacity(chars.len());
    let mut at = 0;
    while at < chars.len() {
        match chars.get(at + 1) {
            Some(&second) if found(chars[at], second) => {
                out.extend(before.then_some(' '));
                out.push(chars[at]);
                out.extend(between.then_some(' '));
                out.push(second);
                out.extend(behind.then_some(' '));
                at += 2;
            }
            _ => {
                out.push(chars[at]);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected tokens are sacrebleu's.
    #[test]
    fn tokens_are_those_of_13a() {
        for (text, expected) in [
            ("Hello, world! It's 3.5-inch, ok.", "Hello , world ! It's 3.5 - inch , ok ."),
            ("a-b (c) \"d\" &amp; e/f", "a-b ( c ) \" d \" & e / f"),
            ("1,000.50 .5 5. x..y", "1,000.50 . 5 5 . x . . y"),
            ("new-\nline <skipped>two", "newline two"),
        ] {
            assert_eq!(tokens(text).join(" "), expected, "{text:?}");
        }
    }

    #[test]
    fn equal_texts_score_100_and_foreign_ones_0() {
        let same = "the cat sat on the mat";
        assert!((score(&counts(same, &[same])) - 100.0).abs() < 1e-9);
        assert_eq!(score(&counts("dog", &[same])), 0.0);
        assert_eq!(score(&counts("", &[same])), 0.0);
        assert_eq!(score(&counts("the cat", &[same])), 0.0);
    }
}
