//! Which of a repository's files.

/// Quantizations that files are named after and that run here, the one to take first. Types of the same number of bits
/// are in the order of speed; more bits come later, and last those of fewer bits, which lose much.
const PREFERRED: &[&str] = &[
    "Q4_0", "IQ4_NL", "Q4_K_M", "Q4_K_S", "IQ4_XS", "Q4_1", "MXFP4", "NVFP4", "Q5_K_M", "Q5_K_S", "Q5_0",
    "Q5_1", "Q6_K", "Q8_0", "F16", "BF16", "F32", "Q3_K_L", "Q3_K_M", "IQ3_M", "IQ3_S", "Q3_K_S", "IQ3_XS",
    "IQ3_XXS", "Q2_K", "Q2_K_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "Q2_0", "TQ2_0", "TQ1_0", "IQ1_M",
    "IQ1_S", "Q1_0",
];

/// What a file's name says of its quantization.
pub(super) fn label(file: &str) -> Option<&'static str> {
    let name = file.rsplit('/').next().unwrap_or(file);
    let stem = strip_extension(name).unwrap_or(name).to_ascii_uppercase();
    PREFERRED.iter().copied().find(|label| {
        let before = stem.strip_suffix(label);
        before.is_some_and(|before| before.is_empty() || before.ends_with(['-', '.', '_']))
    })
}

/// Without `.gguf`, in any case.
pub(super) fn strip_extension(file: &str) -> Option<&str> {
    let at = file.len().checked_sub(5)?;
    file.get(at..).filter(|end| end.eq_ignore_ascii_case(".gguf")).map(|_| &file[..at])
}

/// Whether a file is a model by itself: GGUF, no part of one, no image encoder, no importance matrix.
#[cfg(feature = "pull")]
pub(super) fn is_model(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file).to_ascii_lowercase();
    let is_other = ["mmproj", "imatrix"].iter().any(|part| name.contains(part));
    strip_extension(&name).is_some() && !is_other && !is_part(file)
}

/// Whether a file is one of several of a model.
#[cfg(feature = "pull")]
pub(super) fn is_part(file: &str) -> bool {
    let number = |part: &str| part.len() == 5 && part.bytes().all(|byte| byte.is_ascii_digit());
    strip_extension(file).and_then(|stem| stem.rsplit_once("-of-")).is_some_and(|(_, count)| number(count))
}

/// The place of the file that `wanted` means: a path, a file's name, or a quantization of which there is one file.
#[cfg(feature = "pull")]
pub(super) fn named(files: &[String], wanted: &str) -> Option<usize> {
    let exact = files.iter().position(|file| file == wanted);
    exact.or_else(|| {
        let mut fit = (0..files.len()).filter(|i| {
            let file = &files[*i];
            label(file).is_some_and(|label| label.eq_ignore_ascii_case(wanted))
                || file.rsplit('/').next() == Some(wanted)
                || strip_extension(file) == Some(wanted)
        });
        fit.next().filter(|_| fit.next().is_none())
    })
}

/// The place of the file to take if none was asked for: the only one, or the first of [`PREFERRED`].
#[cfg(feature = "pull")]
pub(super) fn best(files: &[String]) -> Option<usize> {
    if files.len() == 1 {
        return Some(0);
    }
    PREFERRED.iter().find_map(|wanted| files.iter().position(|file| label(file) == Some(wanted)))
}
