//! Regular expressions: what is wrong with one, in words that need no library.

use llguidance::derivre::RegexBuilder;
use llguidance::panic_utils::catch_unwind;
use llguidance::regex_to_lark;

use super::shorten;

/// Why text cannot be held to a pattern of a schema, if it cannot.
pub(super) fn problem(pattern: &str) -> Option<String> {
    if let Some(problem) = look_around(pattern) {
        return Some(problem);
    }
    let built = catch_unwind(std::panic::AssertUnwindSafe(|| {
        RegexBuilder::new().mk_regex_for_serach(&regex_to_lark(pattern, "dw")).map(|_| ())
    }));
    let error = format!("{:#}", built.err()?);
    if error.contains("lookarounds not supported") {
        return Some("word boundaries, and ^ or $ elsewhere than at its ends, cannot be followed".to_owned());
    }
    Some(describe(&error))
}

/// What an expression asks for that only engines that go back over the text can do.
pub(super) fn look_around(pattern: &str) -> Option<String> {
    let (mut is_escaped, mut is_class) = (false, false);
    for (index, c) in pattern.char_indices() {
        let rest = &pattern[index..];
        let found = match c {
            '1'..='9' if is_escaped && !is_class => Some(("back references", format!("\\{c}"))),
            _ if is_escaped => None,
            '[' => {
                is_class = true;
                None
            }
            ']' => {
                is_class = false;
                None
            }
            '(' if !is_class => ["(?=", "(?!", "(?<=", "(?<!"]
                .into_iter()
                .find(|start| rest.starts_with(start))
                .map(|start| ("look-around", start.to_owned())),
            _ => None,
        };
        if let Some((what, shown)) = found {
            let number = pattern[..index].chars().count() + 1;
            return Some(format!("{what} ({shown} at character {number}) cannot be followed"));
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    None
}

/// What a regular expression's error says, with the place in it, on one line. The library shows the expression, marks
/// below it and the reason.
pub(super) fn describe(error: &str) -> String {
    let reason = error.lines().rev().find_map(|line| line.trim().strip_prefix("error: "));
    let Some(reason) = reason else {
        let line = error.lines().map(str::trim).find(|line| !line.is_empty());
        return shorten(line.unwrap_or("it cannot be read").trim_end_matches(':'));
    };
    let is_mark = |line: &&str| line.contains('^') && line.chars().all(|c| c == ' ' || c == '^');
    // The expression is indented by four.
    let place = error.lines().find(is_mark).and_then(|line| line.find('^')?.checked_sub(3));
    shorten(&place.map_or(reason.to_owned(), |number| format!("{reason} (at character {number})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_back_over_the_text_is_named_with_its_place() {
        for (pattern, part) in [
            (r"^(?!\.)a", "look-around ((?! at character 2)"),
            (r"ab(?=c)", "look-around ((?= at character 3)"),
            (r"é(?<!x)y", "look-around ((?<! at character 2)"),
            (r"(a)\1", "back references (\\1 at character 5)"),
        ] {
            let problem = problem(pattern).unwrap();
            assert!(problem.contains(part) && problem.ends_with("cannot be followed"), "{problem}");
        }
        for pattern in [r"\(?=a", r"[(?=]", r"(?:a)(b)", r"\\[1]", r"[\]\1]?", "^a$", r"\d{3}-\w+"] {
            assert_eq!(look_around(pattern), None, "{pattern}");
        }
        assert_eq!(problem(r"^[a-z]+(-\d+)?$"), None);
        assert!(problem(r"\bfoo").unwrap().starts_with("word boundaries"));
    }

    #[test]
    fn errors_are_one_line_with_a_place() {
        for pattern in ["a(", "[b-a]", "x{5,3}", "ab[", "(?P<n>a)(?P<n>b)"] {
            let problem = problem(pattern).unwrap();
            assert!(!problem.contains('\n') && problem.contains("at character"), "{pattern}: {problem}");
        }
    }
}
