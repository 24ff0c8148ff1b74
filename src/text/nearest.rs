//! What a misspelt word may have meant.

/// Finds the name that is most like `found`, if it is like it: with few other letters, or one that `found` is the start of.
pub fn nearest<'a>(found: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let close = |name: &&str| {
        if name.starts_with(found) && !found.is_empty() { 1 } else { distance(found, name) }
    };
    let most = (found.len().min(8) / 3).max(1);
    names.min_by_key(close).filter(|name| close(name) <= most)
}

/// Letters to insert, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(128).collect();
    // `[letters of a][letters of b]`
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let least = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                let is_swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if is_swapped { least.min(table[i - 2][j - 2] + 1) } else { least }
            };
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_by_hand() {
        for (a, b, expected) in [
            ("", "ab", 2),
            ("top_p", "top_k", 1),
            ("kitten", "sitting", 3),
            ("a", "a", 0),
            ("stpo", "stop", 1),
        ] {
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
        assert_eq!((near("messages"), near(""), near("step!")), (None, None, None));
    }
}
