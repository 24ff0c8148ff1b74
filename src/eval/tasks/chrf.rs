//! Corpus chrF (Popović 2015) as sacrebleu computes it by default: n-grams of up to 6 characters without white space,
//! recall counts twice as much as precision, the mean over the lengths that occur (signature
//! `case:mixed|eff:yes|nc:6|nw:0|space:no`).

use std::collections::HashMap;

/// Characters of the longest n-gram.
const ORDER: usize = 6;
/// The square of how much more recall counts.
const BETA_SQUARED: f64 = 4.0;

/// Counts of one answer, or summed over many: by length the n-grams of the answer, of the reference, and of both.
pub(super) type Counts = [f64; 3 * ORDER];

/// The counts of an answer against the reference that is the most like it.
pub(super) fn counts(answer: &str, references: &[&str]) -> Counts {
    let answer = ngrams(answer);
    let mut best = ([0.0; 3 * ORDER], -1.0);
    for reference in references {
        let found = pair(&answer, &ngrams(reference));
        let score = score(&found);
        if score > best.1 {
            best = (found, score);
        }
    }
    best.0
}

type Ngrams = [HashMap<Vec<char>, u32>; ORDER];

fn ngrams(text: &str) -> Ngrams {
    let chars: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let mut found = Ngrams::default();
    for (at, found) in found.iter_mut().enumerate() {
        chars.windows(at + 1).for_each(|ngram| *found.entry(ngram.to_vec()).or_default() += 1);
    }
    found
}

fn pair(answer: &Ngrams, reference: &Ngrams) -> Counts {
    let mut counts = [0.0; 3 * ORDER];
    for (at, (answer, reference)) in answer.iter().zip(reference).enumerate() {
        let total =
            |ngrams: &HashMap<Vec<char>, u32>| ngrams.values().map(|count| f64::from(*count)).sum::<f64>();
        let common = answer.iter().map(|(ngram, count)| (*count).min(*reference.get(ngram).unwrap_or(&0)));
        // Where the reference has none of this length, those of the answer do not count.
        counts[3 * at] = if reference.is_empty() { 0.0 } else { total(answer) };
        counts[3 * at + 1] = total(reference);
        counts[3 * at + 2] = common.map(f64::from).sum();
    }
    counts
}

/// The score, 0 to 100, of summed counts.
pub(super) fn score(counts: &Counts) -> f64 {
    let (mut precision, mut recall, mut lengths) = (0.0, 0.0, 0.0);
    for of in counts.chunks(3).filter(|of| of[0] > 0.0 && of[1] > 0.0) {
        precision += of[2] / of[0];
        recall += of[2] / of[1];
        lengths += 1.0;
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / lengths, recall / lengths);
    100.0 * (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are those of sacrebleu 2.6 (`corpus_chrf`).
    #[test]
    fn scores_are_those_of_sacrebleu() {
        let corpus = |pairs: &[(&str, &[&str])]| {
            let mut sums = [0.0; 3 * ORDER];
            for (answer, references) in pairs {
                sums.iter_mut().zip(counts(answer, references)).for_each(|(sum, count)| *sum += count);
            }
            score(&sums)
        };
        type Pairs = &'static [(&'static str, &'static [&'static str])];
        let cases: [(Pairs, f64); 5] = [
            (&[("the cat sat on the mat", &["the cat is on the mat"])], 64.5779420625287),
            (&[("The door is locked.", &["The door is locked."])], 100.0),
            (&[("abc", &["xyz"])], 0.0),
            (&[("ab", &["abcdefgh"]), ("a longer answer", &["a longer reference text"])], 25.773429789980305),
            (
                &[("Über den Wolken", &["Über dem Meer"]), ("x", &["xy"]), ("", &["nothing"])],
                27.11890586429653,
            ),
        ];
        for (pairs, expected) in cases {
            let found = corpus(pairs);
            assert!((found - expected).abs() < 1e-9, "{pairs:?}: {found}, expected {expected}");
        }
    }
}
