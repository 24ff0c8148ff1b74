//! One grammar being followed. See [`Constraint`].

use std::sync::Arc;

use llguidance::{Matcher, TokenParser};

use crate::generate::{FilterError, LogitFilter};
use crate::text::{Detokenizer, TokenKind, Tokenizer};

use super::GrammarError;
use super::closing::Closer;
use super::ending::{Ending, Rules};
use super::error::message;
use super::scan::Scan;

/// Allows exactly the tokens that continue a text of the grammar, and end tokens where such a text is complete.
///
/// Where only so many tokens may follow that the text can just be completed, it is: see [`LogitFilter::settle`].
///
/// It serves one request. A clone of one that was not used yet starts at the beginning and shares what both
/// learn about the grammar, so a grammar is compiled once and cloned for every request.
#[derive(Clone)]
pub struct Constraint {
    what: &'static str,
    matcher: Matcher,
    tokenizer: Arc<Tokenizer>,
    ending: Ending,
    /// Of a schema.
    scan: Option<Scan>,
    /// Whether the detokenizer takes a space off the first token after an added one.
    strips: bool,
    /// Whether it does so at the next token.
    strips_next: bool,
    /// An end token was chosen.
    is_ended: bool,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").field("what", &self.what).finish_non_exhaustive()
    }
}

impl Constraint {
    /// Starts at the beginning of the grammar, whose first mask is computed here.
    pub(super) fn new(
        what: &'static str,
        mut parser: TokenParser,
        scan: Option<Scan>,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<Constraint, GrammarError> {
        if parser.is_fresh() {
            parser.start_without_prompt();
        }
        let closer = Closer::new(&parser.parser, parser.token_env.clone());
        let mut matcher = Matcher::new(Ok(parser));
        let refused = |error: &dyn std::fmt::Display| GrammarError::Refused { what, reason: message(&error) };
        matcher.compute_mask_or_eos().map_err(|error| refused(&error))?;
        let strips = strips_spaces(&tokenizer);
        let ending = Ending::new(closer);
        Ok(Constraint { what, matcher, tokenizer, ending, scan, strips, strips_next: false, is_ended: false })
    }

    /// Whether the text so far is complete.
    pub fn is_accepting(&mut self) -> bool {
        self.is_ended || self.matcher.is_accepting().unwrap_or(false)
    }

    fn stuck(&self, error: &dyn std::fmt::Display) -> FilterError {
        GrammarError::Stuck { what: self.what, reason: message(&error) }.into()
    }

    /// Takes out the tokens that break a rule. A number that may not end yet goes the shortest way to its end.
    fn apply_rules(&mut self, logits: &mut [f32]) {
        let Some(scan) = &self.scan else { return };
        let removed = scan.apply(&self.tokenizer, logits);
        if removed.is_empty() || logits.iter().any(|logit| *logit > f32::NEG_INFINITY) {
            return;
        }
        let next = self.ending.next(&Rules { tokenizer: &self.tokenizer, scan: Some(scan) });
        for (id, logit) in removed.into_iter().filter(|(id, _)| next.is_none_or(|next| next == *id)) {
            logits[id as usize] = logit;
        }
    }
}

impl LogitFilter for Constraint {
    fn start(&mut self, prompt: &[u32]) {
        let last = prompt.last().map(|id| self.tokenizer.kind(*id));
        self.strips_next = self.strips && last.is_none_or(is_added);
    }

    fn apply(&mut self, logits: &mut [f32]) -> Result<(), FilterError> {
        let mask = self.matcher.compute_mask_or_eos().map_err(|error| self.stuck(&error))?;
        let words = mask.as_slice();
        for (index, block) in logits.chunks_mut(u32::BITS as usize).enumerate() {
            match words.get(index).copied().unwrap_or(0) {
                0 => block.fill(f32::NEG_INFINITY),
                word => {
                    let forbidden = block.iter_mut().enumerate().filter(|(bit, _)| word >> bit & 1 == 0);
                    forbidden.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
                }
            }
        }
        if self.strips_next {
            // Such a token would give other text than the trie says.
            let ids = (0u32..).zip(&mut *logits);
            let stripped = ids.filter(|(id, _)| loses_space(&self.tokenizer, *id));
            stripped.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
        }
        self.apply_rules(logits);
        Ok(())
    }

    /// Takes the token if a text can be completed after it with the tokens that may follow, else the next of those
    /// that complete it from here. Far from the end nothing is asked; where no end is known, any token is taken.
    fn settle(&mut self, token: u32, room: usize) -> Result<u32, FilterError> {
        if self.tokenizer.is_end(token) {
            return Ok(token);
        }
        let Constraint { ending, tokenizer, strips_next, scan, .. } = self;
        let settled = ending.settle(token, room, &Rules { tokenizer, scan: scan.as_ref() });
        Ok(if *strips_next && loses_space(tokenizer, settled) { token } else { settled })
    }

    fn accept(&mut self, token: u32) -> Result<(), FilterError> {
        if self.tokenizer.is_end(token) {
            self.is_ended = true;
            return Ok(());
        }
        self.strips_next = self.strips && is_added(self.tokenizer.kind(token));
        let piece = self.tokenizer.piece(token);
        self.ending.accept(token, piece);
        if let Some(scan) = &mut self.scan {
            scan.take(piece);
        }
        self.matcher.consume_token(token).map_err(|error| self.stuck(&error))
    }

    fn is_done(&self) -> bool {
        self.is_ended || self.matcher.stop_reason().is_ok() && self.matcher.is_stopped()
    }

    fn is_whole(&mut self) -> bool {
        self.is_accepting()
    }

    fn least_tokens(&self) -> usize {
        self.ending.len()
    }
}

/// Whether the encoder treats what follows such a token as the start of a text.
fn is_added(kind: Option<TokenKind>) -> bool {
    matches!(kind, Some(TokenKind::Control | TokenKind::UserDefined))
}

/// Whether a token has a space that the detokenizer may take off.
fn loses_space(tokenizer: &Tokenizer, id: u32) -> bool {
    tokenizer.kind(id) == Some(TokenKind::Normal) && tokenizer.piece(id).first() == Some(&b' ')
}

/// Whether the text of a token at the start lacks the space that its piece starts with.
fn strips_spaces(tokenizer: &Tokenizer) -> bool {
    let is_word = |id: &u32| tokenizer.piece(*id).get(1).is_some_and(u8::is_ascii_alphanumeric);
    let sample = (0..tokenizer.vocab_size() as u32).find(|id| loses_space(tokenizer, *id) && is_word(id));
    sample.is_some_and(|id| !Detokenizer::new(tokenizer, &[], true).push(tokenizer, id).starts_with(' '))
}
