//! Kinds of tasks.

/// What the model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputType {
    /// Which of several continuations is the most likely.
    MultipleChoice,
    /// How likely one continuation is.
    Loglikelihood,
    /// How likely a whole text is.
    LoglikelihoodRolling,
    /// An answer.
    GenerateUntil,
}

impl OutputType {
    pub(super) const ALL: [(OutputType, &str); 4] = [
        (OutputType::MultipleChoice, "multiple_choice"),
        (OutputType::Loglikelihood, "loglikelihood"),
        (OutputType::LoglikelihoodRolling, "loglikelihood_rolling"),
        (OutputType::GenerateUntil, "generate_until"),
    ];
}
