//! What safe code can have of the kernels is of a set that the processor has.

use smolt::blocks::BlockType;
use smolt::kernels::trial::Product;
use smolt::kernels::{KernelError, Kernels};

/// Every set that this project has, on any machine.
const SETS: [&str; 8] = ["avx512vnni", "avxvnni", "avx2", "sse41", "i8mm", "dotprod", "neon", "scalar"];

#[test]
fn sets_are_had_only_where_the_processor_has_them() {
    let available: Vec<&str> = Kernels::available().map(|kernels| kernels.name).collect();
    assert_eq!(available.last(), Some(&"scalar"), "the specification runs everywhere");
    for name in SETS {
        match Kernels::named(name) {
            Ok(kernels) => assert!(available.contains(&kernels.name)),
            Err(KernelError::UnknownIsa { known, .. }) => assert!(!known.contains(name), "{name}: {known}"),
            Err(KernelError::MissingIsa { name: missing, .. }) => assert!(!available.contains(&missing)),
            Err(error) => panic!("{error}"),
        }
    }
    let unknown =
        SETS.iter().filter(|name| matches!(Kernels::named(name), Err(KernelError::UnknownIsa { .. })));
    assert!((3..=4).contains(&unknown.count()), "some of these are of another family of processors");
}

#[test]
fn every_set_that_is_had_runs_with_any_length() {
    for kernels in Kernels::available() {
        for len in [0, 1, 31, 32, 33, 64, 100] {
            let mut row: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            let before = row.clone();
            kernels.round_activations(&mut row);
            let worst = row.iter().zip(&before).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 1.0 / 127.0, "{} {len}: {worst}", kernels.name);
        }
        let mut row = [f32::NAN; 40];
        kernels.round_activations(&mut row);
    }
}

#[test]
fn products_of_impossible_sizes_are_refused() {
    let Some(kernels) = Kernels::available().next() else { panic!("no kernels") };
    for sizes in
        [[0, 32, 1], [32, 0, 1], [32, 32, 0], [usize::MAX, 32, 1], [32, usize::MAX - 31, 1], [1, 33, 1]]
    {
        assert!(Product::new(kernels, BlockType::Q4_0, sizes, &mut || 1.0).is_err(), "{sizes:?}");
    }
    let mut product = Product::new(kernels, BlockType::F32, [3, 32, 2], &mut || 0.5).unwrap();
    assert_eq!(product.run(2), [8.0; 6]);
    let more = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| product.run(3).len()));
    assert!(more.is_err(), "there are two inputs");
}
