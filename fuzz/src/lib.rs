//! The fuzz targets, but for the entry points of libFuzzer. The same code reads the seeds, and changes of them, in the
//! normal tests: `tests/fuzz.rs` and `quantize/tests/fuzz.rs`.

mod bodies;
#[cfg(feature = "convert")]
mod convert;
mod input;
mod models;
mod package;
mod scratch;
mod signature;

pub use self::bodies::{batch, gguf, grammar, load, session, task, template, tokenizer};
#[cfg(feature = "convert")]
pub use self::convert::convert;
pub use self::models::mend;
pub use self::package::package;
pub use self::signature::signature;
