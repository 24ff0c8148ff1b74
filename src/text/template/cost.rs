//! What looking into a value costs, and the filters that make a template pay for it before it is done.
//!
//! The fuel is that of the engine: one pays for one instruction, or for 64 bytes. A list, a dictionary or anything
//! else that holds values is paid for with all it holds, as often as it holds it, so that no value that holds
//! itself or another many times takes longer than the fuel lasts. [`super::guard`] writes these filters into templates.

use std::fmt::{self, Write};

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};
use minijinja_contrib::globals;

/// Pays for all that a value holds.
pub(super) const WEIGHED: &str = "weighed";
/// As [`WEIGHED`], and for comparing its items with each other.
pub(super) const SORTED: &str = "weighed_sort";
/// As [`WEIGHED`], for what is done once per item of something else: refuses large values.
pub(super) const SMALL: &str = "weighed_small";
/// Pays for the characters, items or keys of a value, not for what they hold.
pub(super) const SHALLOW: &str = "shallow";
/// Makes a list of one that is lazy.
pub(super) const EAGER: &str = "eager";
/// Refuses a list that is too long, while it is still lazy.
pub(super) const BOUNDED: &str = "bounded";
/// What may be put into a namespace: neither another nor anything too deep.
pub(super) const KEPT: &str = "kept";
/// The text of a list or a dictionary.
pub(super) const WRITTEN: &str = "written";

/// Nesting of values.
pub(super) const MAX_DEPTH: usize = 128;
/// Items of a list that was added, sliced or repeated.
const MAX_ITEMS: usize = 1 << 16;
/// What something may cost that is done once per item, in units.
const MAX_SMALL: u64 = 1 << 12;
/// Units of a fuel.
const UNITS: u64 = 64;
/// Units for one value that is looked at.
const NODE: u64 = 64;
/// Units for one value that is walked past, and for one that lies deeper than those of a conversation that grows.
const PASSED: u64 = 4;
const PASSED_DEEP: u64 = 32;
const DEEP: usize = 3;
/// Units for one byte of the text of a list or a dictionary.
const WRITTEN_BYTE: u64 = 16;

/// Adds and replaces filters and functions.
pub(super) fn install(environment: &mut Environment<'static>) {
    environment.add_filter(WEIGHED, |state: &State<'_, '_>, value: &Value| {
        weigh(state, value).map(|()| value.clone())
    });
    environment.add_filter(SORTED, |state: &State<'_, '_>, value: &Value| {
        let mut walk = Walk::new(state, NODE);
        walk.value(value, 0)?;
        let rounds = u64::from(value.len().unwrap_or(1).max(1).ilog2());
        pay(state, walk.paid.saturating_mul(rounds)).map(|()| value.clone())
    });
    environment.add_filter(SMALL, |state: &State<'_, '_>, value: &Value| {
        let mut walk = Walk { limit: MAX_SMALL, ..Walk::new(state, NODE) };
        walk.value(value, 0).map(|()| value.clone())
    });
    environment.add_filter(SHALLOW, |state: &State<'_, '_>, value: &Value| {
        shallow(state, value).map(|()| value.clone())
    });
    environment.add_filter(KEPT, |state: &State<'_, '_>, value: &Value| {
        let mut walk = Walk { holds: Holds::Callers, ..Walk::new(state, PASSED) };
        walk.value(value, 0).map(|()| value.clone())
    });
    environment.add_filter(WRITTEN, |state: &State<'_, '_>, value: &Value| match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            let mut text = String::new();
            write(state, value, &mut text)?;
            Ok::<_, Error>(Value::from(text))
        }
        _ => Ok(value.clone()),
    });
    environment.add_filter(EAGER, eager);
    // Sums stay lazy up to a depth that is bounded.
    environment.add_filter(BOUNDED, |value: &Value| bounded(value).map(|()| value.clone()));
    environment.add_filter("sum", sum);
    // Their texts say all that they hold: neither holds another.
    environment.add_function("cycler", |state: &State<'_, '_>, items: Rest<Value>| {
        items.iter().try_for_each(|item| hold(state, item))?;
        globals::cycler(items.0)
    });
    environment.add_function("joiner", |state: &State<'_, '_>, separator: Option<Value>| {
        separator.iter().try_for_each(|separator| hold(state, separator))?;
        Ok::<_, Error>(globals::joiner(separator))
    });
    // Jinja2 has neither.
    environment.remove_filter("chain");
    environment.remove_global("debug");
}

/// Pays for all that a value holds.
pub(super) fn weigh(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    Walk::new(state, NODE).value(value, 0)
}

/// Pays for the characters, items or keys of a value.
pub(super) fn shallow(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let items = || value.len().unwrap_or(0) as u64;
    let units = match value.kind() {
        ValueKind::String => value.as_str().map_or(0, str::len) as u64,
        ValueKind::Seq => items(),
        ValueKind::Map | ValueKind::Iterable => items().saturating_mul(PASSED),
        _ => 0,
    };
    pay(state, units)
}

/// Writes a value as minijinja does, and pays for its text as it grows.
pub(super) fn write(state: &State<'_, '_>, value: &Value, out: &mut dyn Write) -> Result<(), Error> {
    weigh(state, value)?;
    written(state, value, out).map(drop)
}

/// Writes the text of a value as far as the fuel lasts; how many bytes it has.
fn written(state: &State<'_, '_>, value: &Value, out: &mut dyn Write) -> Result<u64, Error> {
    let left = state.fuel_levels().map_or(u64::MAX, |(_, left)| left).saturating_mul(UNITS / WRITTEN_BYTE);
    let mut writer = Limited { out, left, is_over: false };
    let written = write!(writer, "{value}");
    match writer.is_over {
        true => Err(Error::from(ErrorKind::OutOfFuel)),
        false => written.map_err(Error::from).map(|()| left - writer.left),
    }
}

/// Refuses what a cycler or a joiner may not hold.
fn hold(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    Walk { holds: Holds::Values, ..Walk::new(state, PASSED) }.value(value, 0)
}

fn pay(state: &State<'_, '_>, units: u64) -> Result<(), Error> {
    if units < UNITS { Ok(()) } else { state.consume_fuel(units / UNITS) }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// A writer that ends with the fuel.
struct Limited<'w> {
    out: &'w mut dyn Write,
    left: u64,
    is_over: bool,
}

impl Write for Limited<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match self.left.checked_sub(text.len() as u64) {
            Some(left) => self.left = left,
            None => {
                self.is_over = true;
                return Err(fmt::Error);
            }
        }
        self.out.write_str(text)
    }
}

/// A writer that forgets.
struct Nothing;

impl Write for Nothing {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        Ok(())
    }
}

/// What a value may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    All,
    /// No namespaces.
    Callers,
    /// Neither namespaces nor cyclers and joiners.
    Values,
}

/// Goes through all that a value holds.
struct Walk<'s, 'env, 'template> {
    state: &'s State<'env, 'template>,
    /// Units for each value.
    node: u64,
    /// Units that may be spent.
    limit: u64,
    holds: Holds,
    /// Units in all, and those of them that fuel was not yet taken for.
    paid: u64,
    owed: u64,
}

impl<'s, 'env, 'template> Walk<'s, 'env, 'template> {
    fn new(state: &'s State<'env, 'template>, node: u64) -> Walk<'s, 'env, 'template> {
        Walk { state, node, limit: u64::MAX, holds: Holds::All, paid: 0, owed: 0 }
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid(format!("a value is nested more than {MAX_DEPTH} levels deep")));
        }
        let kind = value.kind();
        // Texts that are only passed cost nothing more.
        let bytes = if self.node == NODE { value.as_str().map_or(0, str::len) as u64 } else { 0 };
        let node = if self.node == PASSED && depth > DEEP { PASSED_DEEP } else { self.node };
        self.pay(node + bytes)?;
        match kind {
            ValueKind::Seq | ValueKind::Iterable => {
                for item in value.try_iter()? {
                    self.value(&item, depth + 1)?;
                }
            }
            ValueKind::Map => {
                if self.holds != Holds::All && is_a(value, &["Namespace"]) {
                    return Err(invalid("a namespace cannot be put into a namespace".to_owned()));
                }
                for key in value.try_iter()? {
                    self.value(&key, depth + 1)?;
                    self.value(&value.get_item(&key)?, depth + 1)?;
                }
            }
            ValueKind::Plain if self.holds == Holds::Values && is_a(value, &["Cycler", "Joiner"]) => {
                return Err(invalid("a cycler or joiner cannot be put into another".to_owned()));
            }
            // It is compared by its text, which says what it holds.
            ValueKind::Plain if self.node == NODE => {
                let written = written(self.state, value, &mut Nothing)?;
                self.pay(written.saturating_mul(WRITTEN_BYTE))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn pay(&mut self, units: u64) -> Result<(), Error> {
        self.paid = self.paid.saturating_add(units);
        if self.paid > self.limit {
            let message = "what a filter over a list is given for each of its items is too large";
            return Err(invalid(message.to_owned()));
        }
        self.owed += units;
        if self.owed >= UNITS {
            self.state.consume_fuel(self.owed / UNITS)?;
            self.owed %= UNITS;
        }
        Ok(())
    }
}

/// Whether a value is a list: minijinja has sums of lists, which stay lazy, as what can be iterated only, and keeps their
/// type to itself.
pub(super) fn is_list(value: &Value) -> bool {
    let is_sum = || value.as_object().is_some_and(|object| object.type_name().ends_with("::MergeSeq"));
    value.kind() == ValueKind::Seq || (value.kind() == ValueKind::Iterable && is_sum())
}

/// Whether a value is of one of these types, which minijinja keeps to itself.
fn is_a(value: &Value, types: &[&str]) -> bool {
    let of = |object: &minijinja::value::DynObject| {
        object.type_name().rsplit("::").next().unwrap_or_default().to_owned()
    };
    value.as_object().map(of).is_some_and(|name| types.contains(&name.as_str()))
}

fn too_long(items: usize) -> Error {
    invalid(format!("a list of {items} items is made, the limit is {MAX_ITEMS}"))
}

fn bounded(value: &Value) -> Result<(), Error> {
    match (value.kind(), value.len()) {
        (ValueKind::Seq | ValueKind::Iterable, Some(items)) if items > MAX_ITEMS => Err(too_long(items)),
        _ => Ok(()),
    }
}

/// Makes a list of what is lazy.
pub(super) fn eager(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    bounded(value)?;
    if value.kind() != ValueKind::Iterable {
        return Ok(value.clone());
    }
    let mut list = vec![];
    for item in value.try_iter()? {
        if list.len() == MAX_ITEMS {
            return Err(too_long(list.len() + 1));
        }
        if list.len() % UNITS as usize == 0 {
            state.consume_fuel(1)?;
        }
        list.push(item);
    }
    Ok(Value::from(list))
}

/// The `sum` filter, for numbers: it would join lists as well.
fn sum(
    state: &State<'_, '_>,
    values: Value,
    attribute: Option<&str>,
    start: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let start = start.or(kwargs.get::<Option<Value>>("start")?);
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if start.as_ref().is_some_and(is_list) {
        return Err(invalid("sum adds numbers, not lists".to_owned()));
    }
    let attribute = attribute.or(kwargs.get::<Option<&str>>("attribute")?);
    kwargs.assert_all_used()?;
    filters::sum(state, values, attribute, start, Kwargs::from_iter([] as [(&str, Value); 0]))
}

/// How large a value is: of all values in it, and of all bytes in its texts.
pub(super) fn size(value: &Value) -> (u64, u64) {
    let (mut values, mut bytes) = (0, 0);
    count(value, 0, &mut values, &mut bytes);
    (values, bytes)
}

fn count(value: &Value, depth: usize, values: &mut u64, bytes: &mut u64) {
    *values += 1;
    *bytes += value.as_str().map_or(0, str::len) as u64;
    if depth > MAX_DEPTH || !matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        return;
    }
    for item in value.try_iter().into_iter().flatten() {
        if value.kind() == ValueKind::Map {
            count(&value.get_item(&item).unwrap_or_default(), depth + 1, values, bytes);
        }
        count(&item, depth + 1, values, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pays = fn(&State<'_, '_>, &Value) -> Result<(), Error>;

    /// Fuel that is taken for a value, given as an expression.
    fn paid(pays: Pays, value: &str) -> u64 {
        let mut environment = Environment::new();
        environment.set_fuel(Some(1 << 20));
        environment.add_function("paid", move |state: &State<'_, '_>, value: &Value| {
            let before = state.fuel_levels().expect("there is fuel").0;
            pays(state, value)?;
            Ok::<_, Error>(state.fuel_levels().expect("there is fuel").0 - before)
        });
        environment.render_str(&format!("{{{{ paid({value}) }}}}"), ()).unwrap().parse().unwrap()
    }

    /// Each value costs one, and so do 64 bytes of its texts; what is left of them is paid for with the next ones.
    #[test]
    fn all_that_a_value_holds_is_paid_for() {
        for (value, fuel) in [
            ("1", 1),
            ("'x' * 63", 1),
            ("'x' * 64", 2),
            ("'x' * 640", 11),
            ("'x' * 1000", 16),
            ("[1, 2, 3]", 4),
            ("['x' * 63] * 100", 199),
            ("[[1, 2], ['x' * 128]]", 8),
            ("{'x' * 32: 'x' * 32}", 4),
            ("range(1000)", 1001),
        ] {
            assert_eq!(paid(weigh, value), fuel, "{value}");
        }
    }

    #[test]
    fn the_items_of_a_value_are_paid_for() {
        for (value, fuel) in [
            ("'x' * 63", 0),
            ("'x' * 640", 10),
            ("range(640) | list", 10),
            ("dict(a=1)", 0),
            ("range(640)", 40),
        ] {
            assert_eq!(paid(shallow, value), fuel, "{value}");
        }
    }
}
