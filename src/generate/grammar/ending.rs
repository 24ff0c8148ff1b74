//! How an answer that nears its limit ends. See [`Ending`].

use crate::text::Tokenizer;

use super::closing::{Broken, Closer};
use super::scan::Scan;

/// With this many tokens left beside twice those of an end, ends are looked for at every token.
const NEAR: usize = 128;
/// Tokens after which it is looked how far the end is.
const PERIOD: usize = 16;
/// Searches without result after which there are no more.
const MAX_MISSES: usize = 3;

/// What an end must keep to besides the grammar.
pub(super) struct Rules<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) scan: Option<&'a Scan>,
}

impl Rules<'_> {
    /// Whether `piece` and an end may follow.
    fn allow(&self, piece: &[u8], end: &[u32]) -> bool {
        let bytes = end.iter().flat_map(|id| self.tokenizer.piece(*id));
        self.scan.is_none_or(|scan| !scan.repeats_key(piece.iter().chain(bytes)))
    }
}

/// Knows tokens that end the answer so far, and keeps the answer where such an end fits into what may follow.
#[derive(Clone)]
pub(super) struct Ending {
    /// Nothing after it failed.
    closer: Option<Closer>,
    /// What was taken and the closer has not read.
    unread: Vec<u8>,
    /// Tokens that end the answer so far, if they are known.
    end: Option<Vec<u32>>,
    /// Tokens of the last end that was known.
    last: usize,
    /// Tokens since then.
    since: usize,
    misses: usize,
}

impl Ending {
    /// Looks for the first end.
    pub(super) fn new(closer: Closer) -> Ending {
        let closer = Some(closer);
        let mut ending = Ending { closer, unread: vec![], end: None, last: 0, since: 0, misses: 0 };
        ending.find(None);
        ending
    }

    /// Tokens of the end that was last known.
    pub(super) fn len(&self) -> usize {
        self.last
    }

    /// The token that comes next on the way to the end.
    pub(super) fn next(&mut self, rules: &Rules<'_>) -> Option<u32> {
        self.find(Some(rules));
        self.end.as_ref()?.first().copied()
    }

    /// The token to take in place of `token`, after which `room` may follow.
    pub(super) fn settle(&mut self, token: u32, room: usize, rules: &Rules<'_>) -> u32 {
        self.since += 1;
        let is_near = room < NEAR + 2 * self.last;
        if self.closer.is_none() || !is_near && self.since < PERIOD {
            return token;
        }
        self.find(Some(rules));
        let after = self.after(token, rules);
        if let Some(end) = &after {
            (self.last, self.since) = (end.len(), 0);
            if end.len() <= room {
                self.keep(token, end.clone());
                return token;
            }
        }
        match self.end.as_deref() {
            // The token leads too far: the way to the end is taken while it fits.
            Some([first, rest @ ..]) if rest.len() <= room && is_near => {
                let (first, rest) = (*first, rest.to_vec());
                self.last = rest.len();
                self.keep(first, rest);
                first
            }
            // The answer is whole: what follows cannot be completed.
            Some([]) if is_near => rules.tokenizer.end_ids().first().copied().unwrap_or(token),
            _ => token,
        }
    }

    /// Remembers the end after a token that is about to be accepted.
    fn keep(&mut self, token: u32, mut end: Vec<u32>) {
        end.insert(0, token);
        self.end = Some(end);
    }

    /// Learns the token that was taken.
    pub(super) fn accept(&mut self, token: u32, piece: &[u8]) {
        if self.closer.is_some() {
            self.unread.extend_from_slice(piece);
        }
        self.end = self.end.take().filter(|end| end.first() == Some(&token)).map(|end| end[1..].to_vec());
    }

    /// Makes an end known, if there is one.
    fn find(&mut self, rules: Option<&Rules<'_>>) {
        if self.end.is_none() {
            let end = self.ask(|closer| closer.end(b""));
            self.end = end.filter(|end| rules.is_none_or(|rules| rules.allow(&[], end)));
            self.last = self.end.as_ref().map_or(self.last, Vec::len);
        }
    }

    /// Tokens that end the answer after `token`.
    fn after(&mut self, token: u32, rules: &Rules<'_>) -> Option<Vec<u32>> {
        if let Some(end) = self.end.as_ref().filter(|end| end.first() == Some(&token)) {
            return Some(end[1..].to_vec());
        }
        let (known, piece) = (self.end.clone(), rules.tokenizer.piece(token));
        let end = self.ask(|closer| match known {
            // Within a text the same end fits on and on.
            Some(end) if closer.ends(piece, &end)? => Ok(Some(end)),
            _ => closer.end(piece),
        });
        end.filter(|end| rules.allow(piece, end))
    }

    fn ask(
        &mut self,
        question: impl FnOnce(&mut Closer) -> Result<Option<Vec<u32>>, Broken>,
    ) -> Option<Vec<u32>> {
        let closer = self.closer.as_mut()?;
        let unread = std::mem::take(&mut self.unread);
        let answer = closer.read(&unread).and_then(|()| question(closer));
        match &answer {
            Ok(Some(_)) => self.misses = 0,
            Ok(None) => self.misses += 1,
            Err(Broken) => self.misses = MAX_MISSES,
        }
        if self.misses >= MAX_MISSES {
            self.closer = None;
        }
        answer.ok().flatten()
    }
}
