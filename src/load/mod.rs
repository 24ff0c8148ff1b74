//! From a file to a model that answers: the front door of the library.
//!
//! # Design
//!
//! ```text
//! load        open, plan, check and load, in one call
//!   options   LoadOptions: what a session may take of the computer
//!   prepared  Prepared: a file whose header was read; what it will take is known, nothing is loaded
//!   loaded    Loaded: weights and tokenizer, shared by its sessions
//!   self_test what a model says where it works
//!   memory    MemoryPlan: bytes by purpose, the largest context that fits
//! error       everything that can go wrong
//! ```
//!
//! ```
//! use smolt::generate::Request;
//! use std::ops::ControlFlow;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let path = "src/cli/demo.gguf";
//! let model = smolt::load(path, &smolt::LoadOptions::default())?;
//! let prompt = model.prompt("What time do you open?")?;
//! let mut session = model.session()?;
//! let request = Request { sampler: model.sampling().clone(), ..Request::new(&prompt) };
//! let outcome = session.generate(request, &mut |event| {
//!     print!("{}", event.text);
//!     ControlFlow::Continue(())
//! })?;
//! assert!(!outcome.text.is_empty());
//! # Ok(())
//! # }
//! ```

mod bytes;
mod error;
mod loaded;
mod memory;
mod options;
mod prepared;
mod self_test;

#[doc(hidden)]
pub use self::bytes::show_bytes;
pub use self::error::{DoesNotFit, LoadError};
pub use self::loaded::Loaded;
pub use self::memory::MemoryPlan;
pub use self::options::{LoadOptions, MAX_LOGIT_ROWS, MAX_THREADS, USUAL_CONTEXT, usual_threads};
pub use self::prepared::{Prepared, tokenizer};
pub use self::self_test::Continued;

use std::path::Path;

/// Opens the model at `path`, plans its memory, refuses what is above the limit, and loads it.
///
/// # Errors
/// If there is no model that can be run, an option is out of range, or memory is short.
pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Loaded, LoadError> {
    Prepared::open(path, options)?.load()
}
