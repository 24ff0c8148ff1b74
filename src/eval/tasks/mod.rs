//! Tasks: documents, what the model is asked about each, and how its answers are judged.
//!
//! # Design
//!
//! ```text
//! task        Task: a task file and its documents, ready to be asked
//!   output_type  what kind of task it is
//!   yaml      a task file with those that it includes
//!   config    the YAML of lm-evaluation-harness that needs no Python
//!   documents lines of JSON
//!   field     from a document to texts: a field, a template, a constant
//!   literal   lists as Python writes them
//!   filters   what becomes of an answer before it is judged
//! prompt      a document with the examples before it, as text or as messages
//!   random    Python's random numbers, so that the examples are the same
//! ask         one document: what is asked, and how what is said is judged
//! score       log-likelihoods and answers of the model, by the one generation session
//! metrics     the table of metrics; what a document adds to each
//!   bleu      corpus BLEU
//!   chrf      corpus chrF
//! run         Evaluation: all tasks, document by document, to a file of samples that can be gone on with
//! sample      a line of that file, with the keys of lm-evaluation-harness
//! merge       files of samples read again: of shards, of an earlier run
//! aggregate   from samples to results with standard errors
//! compare     two runs, document by document
//! error       why an evaluation cannot begin or go on
//! ```
//!
//! Names, defaults and definitions are those of lm-evaluation-harness 0.4.13, so that a task file gives the same prompts
//! and, from equal log-likelihoods and answers, the same figures there and here; `scripts/lm_eval_golden.py` makes the
//! figures that tests compare with. What is not supported is refused by name.
//!
//! A sample holds all that results are made of. A run that was stopped, one in shards and one in a single piece give the
//! same samples, and so the same results.

mod aggregate;
mod ask;
mod bleu;
mod chrf;
mod compare;
mod config;
mod documents;
mod error;
mod field;
mod filters;
mod literal;
mod merge;
mod metrics;
mod output_type;
mod prompt;
mod random;
mod run;
mod sample;
mod score;
mod task;
mod yaml;

pub use self::aggregate::{Outcome, aggregate};
pub use self::compare::{Comparison, Verdict, compare};
pub use self::documents::{Document, MAX_DOCUMENTS, MAX_FILE_BYTES};
pub use self::error::TaskError;
pub use self::field::MAX_CHOICES;
pub use self::merge::{MergedLine, merge, read_samples};
pub use self::metrics::{Aggregation, METRICS, Metric, Sums};
pub use self::output_type::OutputType;
pub use self::prompt::Chat;
pub use self::run::{Evaluation, EvaluationOptions, EvaluationProgress, Finished};
pub use self::sample::{Excerpt, Sample};
pub use self::score::LOGIT_ROWS;
pub use self::task::{MAX_EXAMPLES, Task};
