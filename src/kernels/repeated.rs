//! Work for `scripts/count_instructions.sh`: one product, repeated.

use super::conformance::{Case, bits};
use super::*;

/// `SMOLT_REPEAT` is "type tokens times". Counts of instructions for `times` and for twice as many differ by
/// those of `times` products of a matrix of [`ROWS`] rows and [`COLS`] columns.
#[test]
#[ignore = "it tests nothing that others do not; it is run for its instructions to be counted"]
fn repeated_product() {
    const ROWS: usize = 64;
    const COLS: usize = 768;
    let wish = std::env::var("SMOLT_REPEAT").unwrap_or_else(|_| "Q4_0 1 1".to_owned());
    let [name, tokens, times] = wish.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let block_type = *BlockType::ALL.iter().find(|t| t.to_string() == name).unwrap();
    let kernels = Kernels::detect().unwrap();
    let case = Case::new(1, block_type, kernels.packing, (ROWS, COLS, tokens.parse().unwrap()));
    let acts = case.acts(kernels);
    let mut out = vec![0.0; case.tokens * ROWS];
    for _ in 0..times.parse().unwrap() {
        case.multiply(kernels, &acts, &mut out, false);
    }
    assert_eq!(bits(&out), bits(&case.specified(kernels, false)), "{} {block_type}", kernels.name);
}
