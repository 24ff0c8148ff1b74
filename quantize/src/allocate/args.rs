//! Arguments that ask for a size.

use clap::Args;
use smolt::blocks::BlockType;

use super::MENU;
use crate::Plan;

/// How large the output may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Budget {
    /// Bytes of the whole file.
    File(u64),
    /// Bits of tensor data per weight.
    BitsPerWeight(f64),
}

impl Budget {
    /// Bytes of the whole file; `plan` tells the number of weights and what is not tensor data.
    pub(super) fn bytes(self, plan: &Plan<'_>) -> u64 {
        match self {
            Self::File(bytes) => bytes,
            Self::BitsPerWeight(bits) => {
                let data: u64 = plan.tensors().iter().map(|tensor| tensor.bytes).sum();
                let weights: usize = plan.tensors().iter().map(|tensor| tensor.source.elements()).sum();
                plan.file_bytes().saturating_sub(data) + (weights as f64 * bits / 8.0) as u64
            }
        }
    }
}

/// Arguments that take the place of `--type`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BudgetArgs {
    /// Largest size of the output, e.g. 86M (million bytes), 82MiB or 86000000. Each tensor then gets the type with
    /// which the model's predictions on the calibration text change least for its bytes. What is measured for that is
    /// kept in OUTPUT.sensitivity until the output is complete.
    #[arg(long, value_name = "BYTES", value_parser = bytes, requires = "calibration")]
    size: Option<u64>,
    /// The same in bits per weight, e.g. 4.6, all tensors included.
    #[arg(long, value_name = "BITS", value_parser = bits, conflicts_with = "size", requires = "calibration")]
    bpw: Option<f64>,
    /// Types to choose from for a size, separated by commas [default: all].
    #[arg(long, value_name = "TYPES", value_delimiter = ',', value_parser = menu_type, requires = "calibration")]
    mix: Vec<BlockType>,
}

impl BudgetArgs {
    pub(crate) fn budget(&self) -> Option<Budget> {
        self.size.map(Budget::File).or(self.bpw.map(Budget::BitsPerWeight))
    }

    /// The types to choose from.
    pub(crate) fn menu(&self) -> Vec<BlockType> {
        if self.mix.is_empty() { MENU.to_vec() } else { self.mix.clone() }
    }
}

fn menu_type(text: &str) -> Result<BlockType, String> {
    let found = BlockType::to_write(text.trim())?;
    if MENU.contains(&found) { Ok(found) } else { Err(format!("{found} is not a quantized type")) }
}

fn bits(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(bits) if bits.is_finite() && bits > 0.0 && bits <= 32.0 => Ok(bits),
        _ => Err("expected bits per weight from 0 to 32, e.g. 4.6".to_owned()),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 11] = [
        ("KiB", 1024.0),
        ("MiB", 1048576.0),
        ("GiB", 1073741824.0),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("K", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("B", 1.0),
        ("", 1.0),
    ];
    let expected = || "expected a number of bytes, e.g. 86M or 82MiB".to_owned();
    let lower = text.trim().to_ascii_lowercase();
    let unit = UNITS.iter().find_map(|(unit, factor)| {
        Some((lower.strip_suffix(&unit.to_ascii_lowercase())?.trim_end().to_owned(), *factor))
    });
    let (number, factor) = unit.ok_or_else(expected)?;
    let value = number.parse::<f64>().map_err(|_| expected())? * factor;
    if value.is_finite() && value >= 1.0 { Ok(value as u64) } else { Err(expected()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_and_without_units() {
        for (text, expected) in [
            ("86M", 86_000_000),
            ("86 MB", 86_000_000),
            ("82MiB", 82 << 20),
            ("1.5g", 1_500_000_000),
            ("12345", 12345),
            ("7kib", 7168),
            ("9B", 9),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for wrong in ["", "M", "-1M", "1e999", "nan", "4.6 bits", "0"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(bits("4.6"), Ok(4.6));
        assert!(["0", "-1", "33", "nan", "x"].iter().all(|wrong| bits(wrong).is_err()));
        assert!(menu_type("q4_0").is_ok() && menu_type("f16").is_err());
    }
}
