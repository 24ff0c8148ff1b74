//! What a misspelt word may have meant.

/// The name that is most like `found`, if it is like it: with few other letters, or one that `found` is the start of.
pub(super) fn nearest<'a>(found: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let close = |name: &&str| {
        if name.starts_with(found) && !found.is_empty() { 1 } else { distance(found, name) }
    };
    let most = found.len().min(8).div_ceil(3).max(1);
    names.min_by_key(close).filter(|name| close(name) <= most)
}

/// Letters to insert, remove or replace (Levenshtein 1966).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(128).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = before + usize::from(from != to);
            before = row[j + 1];
            row[j + 1] = replaced.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
