//! A short end of a form, from wherever the answer is. See [`Closer`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Mutex;

use llguidance::earley::{BiasComputer, Parser, ParserRecognizer};
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::{Recognizer, SimpleVob, TokEnv, TokTrie};

/// Places of a grammar that one search looks at.
const MAX_PLACES: usize = 2000;
/// Bytes that one search tries.
const MAX_TRIED: usize = 400_000;
/// Bytes of an end.
const MAX_BYTES: usize = 4096;
/// Ways on from one place that are kept, the shortest.
const MAX_WAYS: usize = 32;
/// Bytes by which a way on may be longer than the shortest.
const SLACK: usize = 8;
/// What it costs to begin something that must be ended again, in bytes.
const OPENING: usize = 12;
/// What it costs to go on with a list or to write white space.
const GOING_ON: usize = 3;

/// Finds bytes after which the text is one of the grammar.
///
/// The search is best-first over the boundaries of lexemes. From such a place, the states of the lexer within the
/// lexeme are walked breadth-first, each once, so that the way over a lexeme is the shortest; which lexemes follow is
/// tried in the order of bytes written, with a price on what opens something or goes on with a list. Of places after as
/// many lexemes in the same state of the lexer only the first counts: others may end sooner, but this one ends too. So
/// the end that is found is short, not always the shortest. It is verified: the parser has followed it.
///
/// It follows the answer with a parser of its own, only when it is asked, and is dropped with the first error.
#[derive(Clone)]
pub(super) struct Closer {
    parser: Parser,
    env: TokEnv,
}

/// A place that was reached.
struct Place {
    before: usize,
    /// From the place before.
    bytes: Vec<u8>,
    /// Bytes from the start.
    len: usize,
    /// Lexemes from the start.
    depth: usize,
    cost: usize,
    /// Whether it is within a lexeme: of use only if the text can end there.
    is_inner: bool,
}

/// A way from a place.
struct Way {
    bytes: Vec<u8>,
    is_inner: bool,
}

/// The library has failed; what it has read is in doubt.
#[derive(Debug)]
pub(super) struct Broken;

impl Closer {
    /// At the start of the text that `parser` is about to read.
    pub(super) fn new(parser: &Parser, env: TokEnv) -> Closer {
        Closer { parser: parser.deep_clone(), env }
    }

    /// Reads a part of the answer.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if bytes.is_empty() {
            return Ok(());
        }
        let backtrack = catch_unwind(std::panic::AssertUnwindSafe(|| self.parser.apply_token(bytes, 0)));
        if backtrack.is_ok_and(|count| count == 0) { Ok(()) } else { Err(Broken) }
    }

    /// Forgets the last `count` bytes.
    fn unread(&mut self, count: usize) -> Result<(), Broken> {
        if count == 0 {
            return Ok(());
        }
        catch_unwind(std::panic::AssertUnwindSafe(|| self.parser.rollback(count))).map_err(|_| Broken)
    }

    fn is_accepting(&mut self) -> Result<bool, Broken> {
        catch_unwind(std::panic::AssertUnwindSafe(|| Ok(self.parser.is_accepting()))).map_err(|_| Broken)
    }

    /// Whether the tokens `end`, after `more`, end the text.
    pub(super) fn ends(&mut self, more: &[u8], end: &[u32]) -> Result<bool, Broken> {
        let end = self.env.tok_trie().decode(end);
        self.read(more)?;
        // What does not fit is an error of the library, which leaves what was read of it.
        let mut copy = Closer { parser: self.parser.clone(), env: self.env.clone() };
        let ends = copy.read(&end).is_ok() && copy.is_accepting()?;
        self.unread(more.len())?;
        Ok(ends)
    }

    /// Tokens that end the text after `more`: the longest that begin with it each time. Nothing if none were found.
    pub(super) fn end(&mut self, more: &[u8]) -> Result<Option<Vec<u32>>, Broken> {
        self.read(more)?;
        let bytes = self.search()?;
        self.unread(more.len())?;
        let trie = self.env.tok_trie();
        let tokens = bytes.map(|bytes| (trie.greedy_tokenize(&bytes), bytes));
        Ok(tokens.filter(|(tokens, bytes)| trie.decode(tokens) == *bytes).map(|(tokens, _)| tokens))
    }

    fn search(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let start = Place { before: 0, bytes: vec![], len: 0, depth: 0, cost: 0, is_inner: false };
        let (mut places, mut open) = (vec![start], BinaryHeap::from([Reverse((0, 0))]));
        let (mut seen, mut tried, mut at) = (HashSet::new(), 0, vec![]);
        let mut found = None;
        for _ in 0..MAX_PLACES {
            let Some(Reverse((_, index))) = open.pop() else { break };
            self.go(&mut at, path(&places, index))?;
            if self.is_accepting()? {
                found = Some(at.clone());
                break;
            }
            if places[index].is_inner || tried > MAX_TRIED || at.len() > MAX_BYTES {
                continue;
            }
            let state = self.parser.with_recognizer(|recognizer| recognizer.lexer_state());
            if !seen.insert((state, places[index].depth)) {
                continue;
            }
            for Way { bytes, is_inner } in self.ways(&mut tried)? {
                let place = &places[index];
                let (cost, depth) = (place.cost + cost(&bytes), place.depth + 1);
                let len = place.len + bytes.len();
                open.push(Reverse((cost, places.len())));
                places.push(Place { before: index, bytes, len, depth, cost, is_inner });
            }
        }
        self.unread(at.len())?;
        Ok(found)
    }

    /// Goes from one path to another.
    fn go(&mut self, at: &mut Vec<u8>, path: Vec<u8>) -> Result<(), Broken> {
        let common = at.iter().zip(&path).take_while(|(a, b)| a == b).count();
        self.unread(at.len() - common)?;
        self.read(&path[common..])?;
        *at = path;
        Ok(())
    }

    /// The ways on from here.
    fn ways(&mut self, tried: &mut usize) -> Result<Vec<Way>, Broken> {
        let walk = Walk { env: self.env.clone(), found: Mutex::new(None) };
        let walked = catch_unwind(std::panic::AssertUnwindSafe(|| {
            // A start keeps the library from taking what it computes for the mask of this place.
            self.parser.compute_bias(&walk, b" ");
            Ok(())
        }));
        if walked.is_err() || self.parser.get_error().is_some() {
            return Err(Broken);
        }
        let (ways, count) = walk.found.into_inner().ok().flatten().ok_or(Broken)?;
        *tried += count;
        Ok(ways)
    }
}

fn path(places: &[Place], index: usize) -> Vec<u8> {
    let mut bytes = vec![0; places[index].len];
    let (mut index, mut end) = (index, bytes.len());
    while end > 0 {
        let place = &places[index];
        let start = end - place.bytes.len();
        bytes[start..end].copy_from_slice(&place.bytes);
        (index, end) = (place.before, start);
    }
    bytes
}

fn cost(bytes: &[u8]) -> usize {
    let extra = match bytes.first() {
        Some(b'{' | b'[' | b'(') => OPENING,
        Some(b',' | b' ' | b'\t' | b'\n' | b'\r') => GOING_ON,
        _ => 0,
    };
    bytes.len() + extra
}

/// The walk from one place over the states of the lexer, within the limits that the library sets to a mask.
struct Walk {
    env: TokEnv,
    /// The ways, and how many bytes were tried.
    found: Mutex<Option<(Vec<Way>, usize)>>,
}

impl BiasComputer for Walk {
    fn compute_bias(&self, recognizer: &mut ParserRecognizer<'_>, _: &[u8]) -> SimpleVob {
        recognizer.trie_started("closing");
        let mut tried = 0;
        // Bytes of other characters are many states of the lexer, and seldom needed.
        let mut ways = walk(recognizer, &|byte| (0x20..0x7F).contains(&byte) || byte == b'\n', &mut tried);
        if ways.is_empty() {
            ways = walk(recognizer, &|_| true, &mut tried);
        }
        recognizer.trie_finished();
        ways.sort_by_key(|way| cost(&way.bytes));
        ways.truncate(MAX_WAYS);
        if let Ok(mut found) = self.found.lock() {
            *found = Some((ways, tried));
        }
        self.trie().alloc_token_set()
    }

    fn trie(&self) -> &TokTrie {
        self.env.tok_trie()
    }
}

/// Walks the states of the lexer until the shortest ways over the lexeme are known.
fn walk(recognizer: &mut ParserRecognizer<'_>, is_tried: &dyn Fn(u8) -> bool, tried: &mut usize) -> Vec<Way> {
    let mut seen = HashSet::from([recognizer.lexer_state()]);
    let (mut paths, mut next) = (vec![vec![]], 0);
    let (mut ways, mut longest) = (vec![], MAX_BYTES);
    while next < paths.len() && *tried < MAX_TRIED {
        let path: Vec<u8> = paths[next].clone();
        next += 1;
        if path.len() >= longest {
            break;
        }
        let pushed = path.iter().take_while(|byte| recognizer.try_push_byte(**byte)).count();
        let state = recognizer.lexer_state();
        if !path.is_empty() && !recognizer.lexer_mut().try_lexeme_end(state).is_error() {
            ways.push(Way { bytes: path.clone(), is_inner: true });
        }
        for byte in (0..=u8::MAX).filter(|byte| is_tried(*byte)) {
            *tried += 1;
            let rows = rows(recognizer);
            if !recognizer.try_push_byte(byte) {
                continue;
            }
            let bytes = || [path.as_slice(), &[byte]].concat();
            if rows != self::rows(recognizer) {
                longest = longest.min(path.len() + 1 + SLACK);
                ways.push(Way { bytes: bytes(), is_inner: false });
            } else if seen.insert(recognizer.lexer_state()) {
                paths.push(bytes());
            }
            recognizer.pop_bytes(1);
        }
        recognizer.pop_bytes(pushed);
    }
    ways
}

/// Grows whenever a lexeme is complete.
fn rows(recognizer: &mut ParserRecognizer<'_>) -> usize {
    let stats = recognizer.stats_mut();
    stats.rows + stats.cached_rows
}
