//! Guessing the next tokens from what followed the same tokens before (prompt lookup).
//!
//! The model reads several tokens at once for less than it reads them one after the other. An answer that
//! repeats parts of its prompt, or of itself, can be guessed: the place where the last [`LONGEST`] tokens, else
//! the last [`SHORTEST`], occurred before is searched backwards, and what followed there is the draft
//! (Saxena 2023, "Prompt Lookup Decoding"). The model reads the draft with the last token;
//! a session chooses a token from each row of logits as it would without a draft, and stops at the first that differs.
//!
//! Drafts are paid for, so that text that cannot be guessed costs little: see [`Lookup`].

use super::OptionError;

/// Tokens of a draft at most.
pub const MAX_LOOKUP: usize = 31;

/// Tokens that must have occurred before; more of them are tried first.
const LONGEST: usize = 3;
const SHORTEST: usize = 2;
/// Tokens that are searched, from the end.
const WINDOW: usize = 1 << 15;

/// What a drafted token costs.
const PRICE: usize = 32;
/// What a drafted token that was right gives back.
const REWARD: usize = 2 * PRICE;
/// What every step of the model gives.
const INCOME: usize = 1;
/// Drafted tokens that a request can pay for at its start.
const START: usize = 2;
/// Drafts of full length that can be saved for.
const SAVINGS: usize = 2;

/// Drafts and the budget that pays for them.
///
/// A drafted token costs [`PRICE`], one that was right gives [`REWARD`], every step of the model gives
/// [`INCOME`]; a draft is as long as the budget allows. While at least half of the tokens drafted are right,
/// drafts keep their full length; while none are, there is one drafted token in `PRICE / INCOME` steps.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    /// Tokens of a draft at most; 0 for no drafts.
    limit: usize,
    budget: usize,
    draft: [u32; MAX_LOOKUP],
    len: usize,
    /// Tokens drafted.
    drafted: usize,
    /// Those of them that were right.
    accepted: usize,
}

impl Lookup {
    /// Prepares for a request whose drafts have `limit` tokens at most. The model gives `rows` rows of logits.
    pub(super) fn start(&mut self, limit: usize, rows: usize) -> Result<(), OptionError> {
        let most = MAX_LOOKUP.min(rows.saturating_sub(1));
        if limit > most {
            return Err(OptionError::new("lookup", limit, format_args!("0 to {most}")));
        }
        *self = Lookup { limit, budget: START.min(limit) * PRICE, ..Lookup::default() };
        Ok(())
    }

    /// Guesses at most `room` tokens after `tokens`, and none from the first on that `ends` the answer.
    pub(super) fn draft(&mut self, tokens: &[u32], room: usize, ends: impl Fn(u32) -> bool) -> &[u32] {
        self.len = 0;
        let most = self.limit.min(self.budget / PRICE).min(room);
        if most > 0
            && let Some(source) = source(&tokens[tokens.len().saturating_sub(WINDOW)..])
        {
            // Where the source runs into the end, it goes on with the draft itself: a loop is unrolled.
            for i in 0..most {
                let token = source.get(i).copied().unwrap_or_else(|| self.draft[i - source.len()]);
                if ends(token) {
                    break;
                }
                self.draft[i] = token;
                self.len += 1;
            }
        }
        self.budget -= self.len * PRICE;
        self.drafted += self.len;
        &self.draft[..self.len]
    }

    /// Whether token `index` of the draft is `id`; counts it if so.
    pub(super) fn accept(&mut self, index: usize, id: u32) -> bool {
        let is_right = self.draft[..self.len].get(index) == Some(&id);
        if is_right {
            self.accepted += 1;
            self.budget += REWARD;
        }
        is_right
    }

    /// Tokens drafted, and those of them that were right.
    pub(super) fn counts(&self) -> [usize; 2] {
        [self.drafted, self.accepted]
    }

    /// The model has made a step.
    pub(super) fn step(&mut self) {
        self.budget = (self.budget + INCOME).min(SAVINGS * self.limit * PRICE);
    }
}

/// What followed the last occurrence of the longest end of `tokens` that occurred before; never empty.
fn source(tokens: &[u32]) -> Option<&[u32]> {
    let (&last, before) = tokens.split_last()?;
    let mut found = None;
    let mut longest = SHORTEST - 1;
    for at in (0..before.len()).rev().filter(|&at| before[at] == last) {
        // `tokens[..=at]` and `tokens` have this many tokens in common at their ends.
        let pairs = tokens[..=at].iter().rev().zip(tokens.iter().rev()).take(LONGEST);
        let common = pairs.take_while(|(a, b)| a == b).count();
        if common > longest {
            longest = common;
            found = Some(&tokens[at + 1..]);
            if longest == LONGEST {
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_occurrence_of_the_longest_end_is_found() {
        let cases: [(&[u32], Option<&[u32]>); 8] = [
            (&[], None),
            (&[7], None),
            (&[7, 7], None),
            (&[1, 2, 9, 2], None),
            (&[1, 2, 9, 1, 2], Some(&[9, 1, 2])),
            (&[1, 2, 8, 1, 2, 9, 1, 2], Some(&[9, 1, 2])),
            (&[5, 1, 2, 8, 4, 1, 2, 9, 5, 1, 2], Some(&[8, 4, 1, 2, 9, 5, 1, 2])),
            (&[7, 7, 7], Some(&[7])),
        ];
        for (tokens, expected) in cases {
            assert_eq!(source(tokens), expected, "{tokens:?}");
        }
    }

    fn ready(limit: usize) -> Lookup {
        let mut lookup = Lookup::default();
        lookup.start(limit, limit + 1).unwrap();
        lookup.budget = limit * PRICE;
        lookup
    }

    #[test]
    fn loops_are_unrolled_and_ends_respected() {
        let mut lookup = ready(7);
        assert_eq!(lookup.draft(&[1, 2, 3, 1, 2], 100, |_| false), [3, 1, 2, 3, 1, 2, 3]);
        assert_eq!(ready(7).draft(&[1, 2, 3, 1, 2], 2, |_| false), [3, 1]);
        assert_eq!(ready(7).draft(&[1, 2, 3, 1, 2], 0, |_| false), [0u32; 0]);
        assert_eq!(ready(7).draft(&[1, 2, 3, 4, 1, 2], 100, |id| id == 4), [3]);
        assert_eq!(ready(0).draft(&[1, 2, 3, 1, 2], 100, |_| false), [0u32; 0]);
    }

    #[test]
    fn rows_of_the_model_limit_the_draft() {
        assert!(Lookup::default().start(7, 8).is_ok());
        let error = Lookup::default().start(8, 8).unwrap_err();
        assert_eq!(error.to_string(), "lookup is 8, allowed is 0 to 7");
        assert!(Lookup::default().start(0, 0).is_ok());
        assert!(Lookup::default().start(MAX_LOOKUP + 1, 1000).is_err());
    }

    /// Tokens drafted in `steps` steps of which all or none are right.
    fn drafted(lookup: &mut Lookup, steps: usize, is_right: bool) -> usize {
        let before = lookup.drafted;
        for _ in 0..steps {
            let draft = lookup.draft(&[1, 2, 1, 2], usize::MAX, |_| false).to_vec();
            let told = draft.iter().enumerate().take_while(|(i, id)| is_right && lookup.accept(*i, **id));
            assert_eq!(told.count(), if is_right { draft.len() } else { 0 });
            lookup.step();
        }
        lookup.drafted - before
    }

    #[test]
    fn wrong_drafts_become_rare_and_right_ones_long_again() {
        let mut lookup = ready(7);
        assert_eq!(drafted(&mut lookup, 10, true), 70);
        assert!(drafted(&mut lookup, 10, false) <= SAVINGS * 7);
        let steps = 100 * PRICE / INCOME;
        assert_eq!(drafted(&mut lookup, steps, false), 100);
        // One token, then two, four, seven.
        drafted(&mut lookup, PRICE / INCOME + 3, true);
        assert_eq!(drafted(&mut lookup, 10, true), 70);
        assert_eq!(lookup.accepted + 100 + SAVINGS * 7, lookup.drafted);
    }

    #[test]
    fn a_request_starts_with_a_short_draft() {
        let mut lookup = Lookup::default();
        lookup.start(7, 8).unwrap();
        let mut next = || drafted(&mut lookup, 1, true);
        assert_eq!([next(), next(), next(), next()], [START, 2 * START, 7, 7]);
    }

    #[test]
    fn a_wrong_token_is_not_counted() {
        let mut lookup = ready(7);
        lookup.draft(&[1, 2, 3, 1, 2], 3, |_| false);
        assert!(lookup.accept(0, 3) && !lookup.accept(1, 3) && !lookup.accept(3, 3));
        assert_eq!((lookup.drafted, lookup.accepted), (3, 1));
    }
}
