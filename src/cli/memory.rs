//! Sizes as people write them, and the plan of all memory of this program.

use super::error::CliError;
use crate::eval::probe::program_bytes;
use crate::gguf::GgufFile;
use crate::kernels::Kernels;
use crate::load::MemoryPlan;
use crate::model::RunOptions;

pub(super) use crate::load::show_bytes;

const UNITS: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// Reads `200M`: a whole number, then K, M or G for powers of 1024, then `iB` or `B` for who likes it.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let upper = text.trim().to_ascii_uppercase();
    let short = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(letter, unit)| Some((short.strip_suffix(*letter)?, *unit)))
        .unwrap_or((short, 1));
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    bytes.filter(|&n| n > 0).ok_or_else(|| "expected a size such as 200M or 1G".to_owned())
}

/// Plans this process with one session of the model in `file`, from its header.
///
/// # Errors
/// If the file does not hold a model that can be run.
pub(super) fn plan(file: &GgufFile, kernels: &Kernels, options: &RunOptions) -> Result<MemoryPlan, CliError> {
    Ok(MemoryPlan::new(file, kernels, options, program_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in
            [("200M", 200 << 20), ("1g", 1 << 30), ("64KiB", 64 << 10), ("5mb", 5 << 20), ("77", 77)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "0", "-1", "1.5G", "10X", "99999999999G", "1 M M"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
