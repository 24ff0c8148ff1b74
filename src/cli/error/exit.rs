//! How a process ends.

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// It failed while running; also if weights turn out to be damaged.
    Runtime = 1,
    /// Arguments or input that make no sense.
    Usage = 2,
    /// The model is missing, unreadable or not supported.
    Model = 3,
    /// It does not fit into the memory there is or is allowed, or into the context.
    DoesNotFit = 4,
    /// A result of an evaluation is not what `--min` or `--max` ask for.
    Threshold = 5,
    /// An answer did not reach the end of the form it was to have.
    Unfinished = 6,
    /// Something is not what was signed, or not by whom is trusted.
    Untrusted = 7,
    /// What is signed is not for this store: old, expired, or another model.
    Refused = 8,
    /// Another process changes the store.
    Busy = 9,
    /// There is no space on the disk of the store.
    NoSpace = 10,
    /// No version of the store may run.
    NoVersion = 11,
    /// A new version failed its trial.
    TrialFailed = 12,
    /// SIGHUP: the terminal is gone.
    HungUp = 129,
    /// Ctrl-C.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}
