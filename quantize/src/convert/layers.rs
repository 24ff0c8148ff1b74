//! How the layers of a model differ.

use serde_json::Value;
use smolt::gguf::{GgufWriter, OwnedValue};

use super::ConvertError;
use super::family::{Axis, Family, Kind, Layers, Listed};
use super::json::Object;
use super::sizes::Sizes;

/// Reads the kind of every layer; none where the family's layers are alike or differ in the one known way.
pub(super) fn read(family: &Family, sizes: &Sizes, root: &Object<'_>) -> Result<Vec<Kind>, ConvertError> {
    let layers = sizes.get(Axis::Layers) as usize;
    match family.layers {
        Layers::Alike => Ok(Vec::new()),
        Layers::Every { interval, intervals, list } => {
            check_interval(root, interval, intervals)?;
            check_list(root, interval, list, layers).map(|()| Vec::new())
        }
        Layers::Mixed { list, names, full } => match root.list(list)? {
            Some(found) => {
                let kinds: Option<Vec<Kind>> = found.iter().map(|entry| named(names, entry)).collect();
                let kinds = kinds.filter(|kinds| kinds.len() == layers);
                kinds.ok_or_else(|| root.bad(list, format!("{layers} of {}", listed(names))))
            }
            None => by_number(root, full, layers),
        },
        Layers::Repeated { list, names, .. } => {
            let expected =
                || root.bad(list, format!("{layers} of {} as [[[kind, ...], times], ...]", listed(names)));
            let found = root.list(list)?.ok_or_else(expected)?;
            repeated(found, names, layers).ok_or_else(expected)
        }
    }
}

/// Sets the keys that tell the layers apart.
pub(super) fn describe(family: &Family, sizes: &Sizes, kinds: &[Kind], writer: &mut GgufWriter) {
    let key = |name: &str| format!("{}.{name}", family.architecture);
    match family.layers {
        Layers::Alike | Layers::Every { .. } => {}
        Layers::Mixed { .. } => {
            let heads = sizes.get(Axis::KvHeads) as i32;
            let heads = kinds.iter().map(|kind| if *kind == Kind::Full { heads } else { 0 });
            writer.set(key("attention.head_count_kv"), heads.collect::<Vec<i32>>());
        }
        Layers::Repeated { gguf, .. } => {
            let local = kinds.iter().map(|kind| *kind == Kind::Local).collect();
            writer.set(key(gguf), OwnedValue::BoolArray(local));
        }
    }
}

fn check_interval(root: &Object<'_>, interval: u64, keys: &[&'static str]) -> Result<(), ConvertError> {
    let key = root.first_of(keys);
    match root.get(key) {
        Some(found) if found.as_u64() != Some(interval) => Err(root.bad(key, interval.to_string())),
        _ => Ok(()),
    }
}

fn check_list(root: &Object<'_>, interval: u64, list: Listed, layers: usize) -> Result<(), ConvertError> {
    let (key, most, other): (_, Value, Value) = match list {
        Listed::Texts(key, most, other) => (key, most.into(), other.into()),
        Listed::Numbers(key, most, other) => (key, most.into(), other.into()),
    };
    let Some(found) = root.list(key)? else { return Ok(()) };
    let expected = |i: usize| if (i as u64 + 1).is_multiple_of(interval) { &other } else { &most };
    if found.len() == layers && found.iter().enumerate().all(|(i, entry)| entry == expected(i)) {
        return Ok(());
    }
    Err(root.bad(key, format!("{layers} entries, {other} for every {interval}th and {most} for the others")))
}

/// Kinds from the numbers of the layers with full attention.
fn by_number(root: &Object<'_>, key: &str, layers: usize) -> Result<Vec<Kind>, ConvertError> {
    let expected = || root.bad(key, format!("a list of numbers of layers below {layers}"));
    let mut kinds = vec![Kind::Convolution; layers];
    for number in root.list(key)?.ok_or_else(expected)? {
        let number = number.as_u64().and_then(|number| usize::try_from(number).ok());
        *number.and_then(|number| kinds.get_mut(number)).ok_or_else(expected)? = Kind::Full;
    }
    Ok(kinds)
}

/// `[[[kind, ...], times], ...]` in full, if that gives so many layers.
fn repeated(found: &[Value], names: &[(&str, Kind)], layers: usize) -> Option<Vec<Kind>> {
    let mut kinds = Vec::new();
    for part in found {
        let (order, times) = match part.as_array()?.as_slice() {
            [order, times] => (order.as_array()?, usize::try_from(times.as_u64()?).ok()?),
            _ => return None,
        };
        if order.len().checked_mul(times)?.checked_add(kinds.len())? > layers {
            return None;
        }
        for _ in 0..if order.is_empty() { 0 } else { times } {
            for entry in order {
                kinds.push(named(names, entry)?);
            }
        }
    }
    (kinds.len() == layers).then_some(kinds)
}

fn named(names: &[(&str, Kind)], entry: &Value) -> Option<Kind> {
    names.iter().find(|(name, _)| entry.as_str() == Some(name)).map(|(_, kind)| *kind)
}

fn listed(names: &[(&str, Kind)]) -> String {
    names.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(" and ")
}
