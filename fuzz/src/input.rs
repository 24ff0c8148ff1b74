//! How an input is cut into the things that a target reads.

/// What stands between the parts of an input.
const SEPARATOR: &[u8] = b"\xFF\xFE\n\n";

/// Parts of an input, by separators of four bytes that text does not hold.
pub(crate) fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut rest = data;
    std::array::from_fn(|_| {
        let at = rest.windows(4).position(|window| window == SEPARATOR);
        let part = at.map_or(rest, |at| &rest[..at]);
        rest = at.map_or(&[], |at| &rest[at + 4..]);
        part
    })
}
