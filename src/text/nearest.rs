//! What a misspelt word may have meant.

/// Finds the name that is most like `found`, if it is like it: with few other letters, or one that `found` is the start of.
pub fn nearest<'a>(found: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_by_hand() {
        for (a, b, expected) in
            [("", "ab", 2), ("top_p", "top_k", 1), ("kitten", "sitting", 3), ("a", "a", 0)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn what_is_like_nothing_means_nothing() {
        let near = |found| nearest(found, ["temperature", "top_k", "stop"].into_iter());
        assert_eq!(
            (near("tempe"), near("top_p"), near("stpo")),
            (Some("temperature"), Some("top_k"), Some("stop"))
        );
        assert_eq!((near("messages"), near("")), (None, None));
    }
}
