//! Rules for JSON that the grammar of a schema does not hold: digits are bounded, and no key comes twice.

use std::collections::HashSet;
use std::sync::Arc;

use crate::text::Tokenizer;

/// Digits of the whole part of a number. All integers of 15 digits are exact in readers of JSON; of 16 most are.
const MAX_DIGITS: usize = 16;
/// Digits behind the point.
const MAX_FRACTION_DIGITS: usize = 16;
/// Digits of an exponent: with the bounds above no number is too large for a reader.
const MAX_EXPONENT_DIGITS: usize = 2;

/// The tokens of a vocabulary that may break a rule.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// With a quote in them.
    quotes: Vec<u32>,
    /// That begin with a digit.
    digits: Vec<u32>,
    /// Digits that one of them begins with, at most.
    longest: usize,
    /// With digits behind something else, more than an exponent may have.
    inner: Vec<u32>,
}

impl Suspects {
    pub(super) fn of(tokenizer: &Tokenizer) -> Suspects {
        let mut suspects = Suspects::default();
        for id in 0..tokenizer.vocab_size() as u32 {
            let piece = tokenizer.piece(id);
            if piece.contains(&b'"') {
                suspects.quotes.push(id);
            }
            let leading = piece.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if leading > 0 {
                suspects.digits.push(id);
                suspects.longest = suspects.longest.max(leading);
            }
            let runs = piece[leading..].split(|byte| !byte.is_ascii_digit());
            if runs.map(<[u8]>::len).max() > Some(MAX_EXPONENT_DIGITS) {
                suspects.inner.push(id);
            }
        }
        suspects
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Between and within everything else.
    Other,
    Whole,
    Fraction,
    Exponent,
    Text {
        is_key: bool,
        is_escaped: bool,
    },
}

#[derive(Clone)]
enum Open {
    List,
    /// With the keys so far, as they are written.
    Object(Arc<HashSet<Vec<u8>>>),
}

/// Where in its JSON an answer is.
#[derive(Clone)]
pub(super) struct Scan {
    suspects: Arc<Suspects>,
    /// Whether keys that the schema does not name are possible; those that it names come once anyway.
    has_free_keys: bool,
    open: Vec<Open>,
    state: State,
    /// Digits of this part of a number.
    digits: usize,
    /// Whether a string that begins here is a key.
    wants_key: bool,
    key: Vec<u8>,
}

impl Scan {
    /// At the beginning.
    pub(super) fn new(suspects: Arc<Suspects>, has_free_keys: bool) -> Scan {
        Scan {
            suspects,
            has_free_keys,
            open: vec![],
            state: State::Other,
            digits: 0,
            wants_key: false,
            key: vec![],
        }
    }

    /// Reads bytes that the grammar allows; false at the first that breaks a rule.
    pub(super) fn read(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| self.push(*byte))
    }

    /// Reads bytes that were taken, whatever rules they break.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.push(*byte);
        }
    }

    /// Whether `bytes` write a key again.
    pub(super) fn repeats_key<'a>(&self, bytes: impl Iterator<Item = &'a u8>) -> bool {
        if !self.has_free_keys {
            return false;
        }
        let mut scan = self.clone();
        let mut bytes = bytes;
        bytes.any(|byte| {
            let is_key = matches!(scan.state, State::Text { is_key: true, .. });
            !scan.push(*byte) && is_key
        })
    }

    fn push(&mut self, byte: u8) -> bool {
        match (self.state, byte) {
            (State::Text { is_key, is_escaped }, _) => return self.push_text(is_key, is_escaped, byte),
            (State::Other, b'0'..=b'9') => (self.state, self.digits) = (State::Whole, 1),
            (_, b'0'..=b'9') => self.digits += 1,
            (State::Whole, b'.') => (self.state, self.digits) = (State::Fraction, 0),
            (State::Whole | State::Fraction, b'e' | b'E') => (self.state, self.digits) = (State::Exponent, 0),
            (State::Exponent, b'+' | b'-') => {}
            _ => {
                self.state = State::Other;
                self.push_mark(byte);
            }
        }
        self.digits <= self.limit()
    }

    /// Digits that this part of a number may have.
    fn limit(&self) -> usize {
        match self.state {
            State::Whole => MAX_DIGITS,
            State::Fraction => MAX_FRACTION_DIGITS,
            State::Exponent => MAX_EXPONENT_DIGITS,
            _ => usize::MAX,
        }
    }

    fn push_text(&mut self, is_key: bool, is_escaped: bool, byte: u8) -> bool {
        if byte == b'"' && !is_escaped {
            self.state = State::Other;
            if is_key && let Some(Open::Object(keys)) = self.open.last_mut() {
                return Arc::make_mut(keys).insert(std::mem::take(&mut self.key));
            }
            return true;
        }
        if is_key {
            self.key.push(byte);
        }
        self.state = State::Text { is_key, is_escaped: byte == b'\\' && !is_escaped };
        true
    }

    fn push_mark(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.state = State::Text { is_key: self.wants_key, is_escaped: false };
                self.wants_key = false;
                self.key.clear();
            }
            b'{' => {
                self.open.push(Open::Object(Arc::default()));
                self.wants_key = true;
            }
            b'[' => {
                self.open.push(Open::List);
                self.wants_key = false;
            }
            b'}' | b']' => {
                self.open.pop();
                self.wants_key = false;
            }
            b',' => self.wants_key = matches!(self.open.last(), Some(Open::Object(_))),
            _ => {}
        }
    }

    /// Sets the logits of tokens that break a rule to negative infinity, and returns them with what they were.
    pub(super) fn apply(&self, tokenizer: &Tokenizer, logits: &mut [f32]) -> Vec<(u32, f32)> {
        let mut removed = vec![];
        let mut check = |ids: &[u32]| {
            for id in ids {
                let Some(logit) = logits.get_mut(*id as usize) else { continue };
                if *logit > f32::NEG_INFINITY && !self.clone().read(tokenizer.piece(*id)) {
                    removed.push((*id, *logit));
                    *logit = f32::NEG_INFINITY;
                }
            }
        };
        let suspects = &self.suspects;
        let is_text = matches!(self.state, State::Text { .. });
        if self.digits + suspects.longest > self.limit() {
            check(&suspects.digits);
        }
        if !is_text {
            check(&suspects.inner);
        }
        if self.has_free_keys && self.open.iter().any(|open| matches!(open, Open::Object(_))) {
            check(&suspects.quotes);
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(text: &str) -> bool {
        Scan::new(Arc::default(), true).read(text.as_bytes())
    }

    #[test]
    fn digits_are_bounded_in_every_part_of_a_number() {
        let (whole, fraction) = ("1".repeat(MAX_DIGITS), "3".repeat(MAX_FRACTION_DIGITS));
        for (text, is_read) in [
            (format!("[{whole},-{whole}.{fraction}e+12]"), true),
            (format!("{whole}1"), false),
            (format!("-{whole}1"), false),
            (format!("0.{fraction}"), true),
            (format!("0.{fraction}3"), false),
            ("1e99".to_owned(), true),
            ("1e100".to_owned(), false),
            ("1.5E-000".to_owned(), false),
            (format!("\"{whole}{whole}\""), true),
            (format!("{{\"{whole}{whole}\\\"{whole}\":1}}"), true),
        ] {
            assert_eq!(reads(&text), is_read, "{text}");
        }
    }

    #[test]
    fn no_key_comes_twice_in_an_object() {
        for (text, is_read) in [
            (r#"{"a":1,"b":{"a":[{"a":""},{"a":"a"}]},"c":"b"}"#, true),
            (r#"{"a":1,"a""#, false),
            (r#"{"a":{"b":1,"c":2},"b":["c","c"],"a""#, false),
            (r#"{"\"":1,"\\":2,"":3,"x":4}"#, true),
            (r#"{"\"":1,"\"""#, false),
            (r#"{"":1,"""#, false),
            (r#"[{"a":1},{"a":1}]"#, true),
        ] {
            assert_eq!(reads(text), is_read, "{text}");
        }
    }
}
