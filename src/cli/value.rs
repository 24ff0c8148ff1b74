//! What an option's value may be.

use std::any::TypeId;

use clap::error::ErrorKind;
use clap::{Arg, Command};

/// Numbers beyond every range.
const BEYOND: [&str; 2] = ["-9223372036854775808", "9223372036854775807"];

/// Whether an option is on or off.
pub(super) fn is_switch(arg: &Arg) -> bool {
    !arg.get_action().takes_values()
}

/// Whether an option's value is a number, perhaps with a unit.
pub(super) fn is_number(arg: &Arg) -> bool {
    let types = [
        TypeId::of::<i64>(),
        TypeId::of::<usize>(),
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<f32>(),
        TypeId::of::<f64>(),
    ];
    types.into_iter().any(|id| arg.get_value_parser().type_id() == id)
}

/// What was expected instead of a value, if the option's parser does not take it.
pub(super) fn refusal(arg: &Arg, text: &str) -> Option<String> {
    let problem = problem(arg, text)?;
    let choices = arg.get_possible_values();
    if !choices.is_empty() {
        let names: Vec<&str> = choices.iter().map(|choice| choice.get_name()).collect();
        return Some(format!("one of {}", names.join(", ")));
    }
    let range = BEYOND.iter().find_map(|number| range(&self::problem(arg, number)?));
    let is = |id: TypeId| arg.get_value_parser().type_id() == id;
    Some(match (problem.as_str(), range) {
        (_, Some((low, high))) => format!("a whole number from {low} to {high}"),
        ("invalid float literal" | "cannot parse float from empty string", _) => "a number".to_owned(),
        _ if is_standard(&problem) && (is(TypeId::of::<f32>()) || is(TypeId::of::<f64>())) => {
            "a number".to_owned()
        }
        _ if is_standard(&problem) => "a whole number, 0 or more".to_owned(),
        ("", _) => "a value".to_owned(),
        (problem, _) => {
            let said = problem.strip_prefix("expected ").or_else(|| problem.strip_prefix("not "));
            said.map_or_else(|| format!("a valid value ({problem})"), str::to_owned)
        }
    })
}

/// Whether it is what the standard library says of a text that is no number.
fn is_standard(problem: &str) -> bool {
    ["invalid digit", "number too", "cannot parse integer"].iter().any(|start| problem.starts_with(start))
}

/// The bounds of `x is not in 1..=256`.
fn range(problem: &str) -> Option<(String, String)> {
    let (low, high) = problem.split_once(" is not in ")?.1.split_once("..=")?;
    Some((low.to_owned(), high.to_owned()))
}

/// What the option's parser has against a value.
fn problem(arg: &Arg, text: &str) -> Option<String> {
    let long = arg.get_long().unwrap_or("value");
    // Alone: without its variable, and without the arguments that it has to do with.
    let alone = Arg::new("value").long(long.to_owned()).allow_hyphen_values(true);
    let alone = alone.value_parser(arg.get_value_parser().clone());
    let command = Command::new("smolt").no_binary_name(true).disable_help_flag(true).arg(alone);
    let error = command.try_get_matches_from([format!("--{long}={text}")]).err()?;
    Some(match error.kind() {
        ErrorKind::InvalidValue => String::new(),
        _ => std::error::Error::source(&error).map_or_else(String::new, ToString::to_string),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_is_said_in_words() {
        let arg = |parser: clap::builder::ValueParser| Arg::new("x").long("x").value_parser(parser);
        let ranged = arg(clap::value_parser!(i64).range(1..=256).into());
        for text in ["0", "-1", "two", "1.5", "", "99999999999999999999"] {
            assert_eq!(refusal(&ranged, text).as_deref(), Some("a whole number from 1 to 256"), "{text}");
        }
        assert_eq!(refusal(&ranged, "256"), None);
        let small = arg(clap::value_parser!(u16).range(0..=31).into());
        assert_eq!(refusal(&small, "-1").as_deref(), Some("a whole number from 0 to 31"));
        let count = arg(clap::value_parser!(usize).into());
        assert_eq!(refusal(&count, "-1").as_deref(), Some("a whole number, 0 or more"));
        let number = arg(clap::value_parser!(f32).into());
        assert_eq!(refusal(&number, "hot").as_deref(), Some("a number"));
        let own = arg(clap::builder::ValueParser::new(|_: &str| Err::<u8, _>("not a size, e.g. 2M")));
        assert_eq!(refusal(&own, "x").as_deref(), Some("a size, e.g. 2M"));
        let names = arg(clap::builder::PossibleValuesParser::new(["f16", "q8_0"]).into());
        assert_eq!(refusal(&names, "q3").as_deref(), Some("one of f16, q8_0"));
    }
}
