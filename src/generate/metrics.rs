//! How long a request took.

use std::time::{Duration, Instant};

/// Times and counts of one request, by the wall clock. The caller's own time in the callback is included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Prompt tokens fed to the model; tokens kept from the request before are not.
    pub fed_tokens: usize,
    /// From the start until the prompt was fed.
    pub prompt: Duration,
    /// From the start until the first token was chosen; `None` if none was.
    pub first_token: Option<Duration>,
    /// Tokens chosen, an end token included.
    pub sampled_tokens: usize,
    /// Tokens that were guessed ahead.
    pub drafted_tokens: usize,
    /// Those of them that were chosen.
    pub accepted_tokens: usize,
    /// From the first token chosen to the last.
    pub decode: Duration,
    /// From the start to the end.
    pub total: Duration,
}

impl Timings {
    /// Prompt tokens per second; `None` without any or without time.
    pub fn prompt_tokens_per_second(&self) -> Option<f64> {
        rate(self.fed_tokens, self.prompt)
    }

    /// Tokens per second after the first; `None` if there is only one or none.
    pub fn decode_tokens_per_second(&self) -> Option<f64> {
        rate(self.sampled_tokens.saturating_sub(1), self.decode)
    }
}

fn rate(tokens: usize, time: Duration) -> Option<f64> {
    (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}

/// Collects [`Timings`] while a request runs.
#[derive(Debug)]
pub(super) struct Stopwatch {
    start: Instant,
    timings: Timings,
}

impl Stopwatch {
    pub(super) fn start(now: Instant) -> Stopwatch {
        Stopwatch { start: now, timings: Timings::default() }
    }

    /// The prompt was fed, `tokens` of it now; calls after the first change nothing.
    pub(super) fn prompt_fed(&mut self, tokens: usize, now: Instant) {
        if self.timings.fed_tokens == 0 {
            self.timings.fed_tokens = tokens;
            self.timings.prompt = now - self.start;
        }
    }

    /// A token was chosen.
    pub(super) fn sampled(&mut self, now: Instant) {
        let since_start = now - self.start;
        let first = *self.timings.first_token.get_or_insert(since_start);
        self.timings.decode = since_start - first;
        self.timings.sampled_tokens += 1;
    }

    /// The request ended, with this many tokens guessed ahead and chosen of them.
    pub(super) fn stop(self, now: Instant, drafted_tokens: usize, accepted_tokens: usize) -> Timings {
        Timings { total: now - self.start, drafted_tokens, accepted_tokens, ..self.timings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_from_times() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut watch = Stopwatch::start(start);
        watch.prompt_fed(100, at(500));
        watch.sampled(at(510));
        watch.prompt_fed(1, at(530));
        watch.sampled(at(560));
        watch.sampled(at(610));
        let timings = watch.stop(at(700), 9, 4);
        let expected = Timings {
            fed_tokens: 100,
            prompt: Duration::from_millis(500),
            first_token: Some(Duration::from_millis(510)),
            sampled_tokens: 3,
            drafted_tokens: 9,
            accepted_tokens: 4,
            decode: Duration::from_millis(100),
            total: Duration::from_millis(700),
        };
        assert_eq!(timings, expected);
        assert_eq!(timings.prompt_tokens_per_second(), Some(200.0));
        assert_eq!(timings.decode_tokens_per_second(), Some(20.0));
    }

    #[test]
    fn rates_without_tokens_are_unknown() {
        let start = Instant::now();
        let mut watch = Stopwatch::start(start);
        watch.prompt_fed(3, start);
        watch.sampled(start + Duration::from_secs(1));
        let timings = watch.stop(start + Duration::from_secs(1), 0, 0);
        assert_eq!(timings.prompt_tokens_per_second(), None);
        assert_eq!(timings.decode_tokens_per_second(), None);
    }
}
