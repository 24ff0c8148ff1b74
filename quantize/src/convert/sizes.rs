//! Sizes of a model, from the rows of its family and config.json.

use smolt::gguf::GgufWriter;

use super::ConvertError;
use super::family::{AXES, Absent, Axis, Count, Extent, Family, Shrunk};
use super::json::Object;

/// Largest of the sizes but the context.
const MAX_SIZE: u64 = 1 << 20;

/// Sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes([u64; AXES]);

impl Sizes {
    /// 0 where the family does not have the axis.
    pub(super) fn get(&self, axis: Axis) -> u64 {
        self.0[axis as usize]
    }

    /// At most the square of [`MAX_SIZE`].
    pub(super) fn extent(&self, extent: Extent) -> u64 {
        match extent {
            Extent::Of(axis) => self.get(axis),
            Extent::InHeads(axis) => self.get(axis) * self.get(Axis::HeadDim),
        }
    }

    /// Reads and checks the sizes of a model.
    pub(super) fn read(family: &Family, root: &Object<'_>) -> Result<Self, ConvertError> {
        let mut sizes = Self([0; AXES]);
        for count in family.counts {
            let most = match count.axis {
                Axis::Context | Axis::Positions => u64::from(u32::MAX),
                _ => MAX_SIZE,
            };
            let key = root.first_of(count.config);
            let value = root.count(key, most)?.or_else(|| sizes.absent(count.absent));
            let expected = || root.bad(key, format!("an integer from 1 to {most}"));
            sizes.0[count.axis as usize] = value.filter(|n| (1..=most).contains(n)).ok_or_else(expected)?;
        }
        if let Some(shrunk) = &family.shrunk {
            sizes.shrink(shrunk, root)?;
        }
        sizes.check_heads(family, root)?;
        Ok(sizes)
    }

    /// The value of an absent key; all others are within their caps.
    fn absent(&self, absent: Absent) -> Option<u64> {
        match absent {
            Absent::Refused => None,
            Absent::Is(value) => Some(value),
            Absent::Sum(terms, more) => {
                Some(terms.iter().map(|(times, axis)| times * self.get(*axis)).sum::<u64>() + more)
            }
            Absent::Product(a, b) => Some(self.get(a) * self.get(b)),
            Absent::Quotient(a, b) => self.get(a).checked_div(self.get(b)),
        }
    }

    /// The width of the feed-forward layer that follows from the given one.
    fn shrink(&mut self, shrunk: &Shrunk, root: &Object<'_>) -> Result<(), ConvertError> {
        if !root.is(shrunk.when)? {
            return Ok(());
        }
        let factor = root.positive(shrunk.factor)?.unwrap_or(1.0);
        let multiple = root.count(shrunk.multiple, MAX_SIZE)?.unwrap_or(shrunk.absent);
        // Rounded down, then the product again, then up to a whole multiple.
        let width = (factor * (2 * self.get(Axis::Hidden) / 3) as f64) as u64;
        let width = width.min(MAX_SIZE + 1).next_multiple_of(multiple);
        if !(1..=MAX_SIZE).contains(&width) {
            let expected = format!("a factor with which the feed-forward layer has a width up to {MAX_SIZE}");
            return Err(root.bad(shrunk.factor, expected));
        }
        self.0[Axis::Hidden as usize] = width;
        Ok(())
    }

    fn check_heads(&self, family: &Family, root: &Object<'_>) -> Result<(), ConvertError> {
        let key =
            |axis| family.counts.iter().find(|count| count.axis == axis).map_or("", |c| key_of(c, root));
        let (heads, kv_heads) = (self.get(Axis::Heads), self.get(Axis::KvHeads));
        if !heads.is_multiple_of(kv_heads) {
            return Err(root.bad(key(Axis::KvHeads), format!("a divisor of the {heads} heads")));
        }
        let by_width =
            family.counts.iter().any(|count| count.axis == Axis::HeadDim && count.config.is_empty());
        if by_width && heads * self.get(Axis::HeadDim) != self.get(Axis::Width) {
            let expected = format!("a divisor of the width {}", self.get(Axis::Width));
            return Err(root.bad(key(Axis::Heads), expected));
        }
        let odd = family.rotary.is_some() && !self.get(Axis::HeadDim).is_multiple_of(2);
        if odd || heads * self.get(Axis::HeadDim) > MAX_SIZE {
            let expected = format!("an even number, with {heads} heads of it at most {MAX_SIZE}");
            return Err(root.bad(key(Axis::HeadDim), expected));
        }
        Ok(())
    }

    /// Sets the keys of the sizes. Layers count as often as they are used.
    pub(super) fn describe(&self, family: &Family, uses: u64, writer: &mut GgufWriter) {
        for count in family.counts {
            let value = self.get(count.axis);
            if count.usual.is_some_and(|axis| value == self.get(axis)) {
                continue;
            }
            let value = if count.axis == Axis::Layers { value * uses } else { value };
            for name in count.gguf {
                // Within u32 by the caps.
                writer.set(format!("{}.{name}", family.architecture), value as u32);
            }
        }
    }
}

fn key_of(count: &Count, root: &Object<'_>) -> &'static str {
    root.first_of(count.config)
}
