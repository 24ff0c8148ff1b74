//! Whether files hold versions of one model.

use smolt::gguf::{GgufError, GgufFile};
use smolt::model::Spec;

use super::CompareError;

/// Metadata key of the tokens' texts.
const TOKENS_KEY: &str = "tokenizer.ggml.tokens";

/// Checks that each of `others` has the vocabulary and the shape of `base`, and returns that.
pub(super) fn versions(base: &GgufFile, others: &[GgufFile]) -> Result<Spec, CompareError> {
    let spec = Spec::read(base)?;
    for other in others {
        let other_spec = Spec::read(other)?;
        if other_spec.vocab != spec.vocab {
            let (base, other) = (base.name().to_owned(), other.name().to_owned());
            let (expected, found) = (spec.vocab, other_spec.vocab);
            return Err(CompareError::Vocabulary { base, other, expected, found });
        }
        tokens(base, other)?;
        shape((base, &spec), (other, &other_spec))?;
    }
    Ok(spec)
}

/// A file without a tokenizer is taken to have the base's.
fn tokens(base: &GgufFile, other: &GgufFile) -> Result<(), CompareError> {
    let failed = |error: GgufError| CompareError::Model(error.into());
    let expected = base.str_array(TOKENS_KEY).map_err(failed)?;
    let found = other.str_array(TOKENS_KEY).map_err(failed)?;
    let (Some(expected), Some(found)) = (expected, found) else { return Ok(()) };
    if expected.len() != found.len() {
        let (base, other) = (base.name().to_owned(), other.name().to_owned());
        let (expected, found) = (expected.len(), found.len());
        return Err(CompareError::Vocabulary { base, other, expected, found });
    }
    match expected.iter_str().zip(found.iter_str()).enumerate().find(|(_, (base, other))| base != other) {
        None => Ok(()),
        Some((token, (expected, found))) => Err(CompareError::Token {
            base: base.name().to_owned(),
            other: other.name().to_owned(),
            token,
            expected: expected.to_owned(),
            found: found.to_owned(),
        }),
    }
}

fn shape(
    (base, base_spec): (&GgufFile, &Spec),
    (other, other_spec): (&GgufFile, &Spec),
) -> Result<(), CompareError> {
    let fields = |spec: &Spec| {
        [
            ("the architecture", spec.family.architecture.to_owned()),
            ("the number of layers", spec.layers.to_string()),
            ("the width", spec.dim.to_string()),
            ("the number of heads", spec.heads.to_string()),
            ("the number of KV heads", spec.kv_heads.to_string()),
            ("the width of a head", spec.head_dim.to_string()),
            ("the width of the feed-forward layers", spec.hidden.to_string()),
        ]
    };
    let mut pairs = fields(base_spec).into_iter().zip(fields(other_spec));
    match pairs.find(|(expected, found)| expected != found) {
        None => Ok(()),
        Some(((what, expected), (_, found))) => Err(CompareError::Shape {
            base: base.name().to_owned(),
            other: other.name().to_owned(),
            what,
            expected,
            found,
        }),
    }
}
