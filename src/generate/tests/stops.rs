//! Stop strings against a reference that reads one character at a time.

use crate::generate::stop::{StopBuffer, validate};
use crate::generate::{MAX_STOP_BYTES, MAX_STOPS};

use super::mix;

/// The text before the stop string completed first, and that string's index.
fn reference(text: &str, stops: &[String]) -> (String, Option<usize>) {
    let mut seen = String::new();
    for character in text.chars() {
        seen.push(character);
        let ended = stops.iter().enumerate().filter(|(_, stop)| seen.ends_with(stop.as_str()));
        if let Some((index, stop)) = ended.min_by_key(|(index, stop)| (usize::MAX - stop.len(), *index)) {
            seen.truncate(seen.len() - stop.len());
            return (seen, Some(index));
        }
    }
    (seen, None)
}

/// What is given out when `pieces` arrive one by one, checking that nothing is given out too early.
fn streamed(pieces: &[&str], stops: &[String]) -> (String, Option<usize>) {
    let mut buffer = StopBuffer::new(0);
    let (mut given, mut all) = (String::new(), String::new());
    for piece in pieces {
        all.push_str(piece);
        let released = buffer.push(piece, stops);
        given.push_str(&buffer.text()[released.range]);
        if released.stopped.is_some() {
            assert_eq!(given, buffer.text());
            return (given, released.stopped);
        }
        // What is held back must be the longest end that may still become a stop string, no more, no less.
        let held = &all[given.len()..];
        let is_open = |end: &str| stops.iter().any(|stop| stop.len() > end.len() && stop.starts_with(end));
        let longest = (0..all.len()).filter(|at| all.is_char_boundary(*at)).find(|at| is_open(&all[*at..]));
        assert_eq!(held, &all[longest.unwrap_or(all.len())..], "{pieces:?} {stops:?}");
    }
    let released = buffer.release_all();
    given.push_str(&buffer.text()[released.range]);
    (given, None)
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn stop_strings_across_pieces() {
    /// Pieces, stop strings, text given out, index of the stop string.
    type Case = (&'static [&'static str], &'static [&'static str], &'static str, Option<usize>);
    let cases: [Case; 9] = [
        (&["a b", "c d"], &[], "a bc d", None),
        (&["one ST", "OP two"], &["STOP"], "one ", Some(0)),
        (&["one S", "T", "O", "RE"], &["STOP"], "one STORE", None),
        (&["aa", "aab"], &["aaab"], "a", Some(0)),
        (&["abab", "abac"], &["abac"], "abab", Some(0)),
        (&["x", "abcd"], &["abcd", "bc"], "xa", Some(1)),
        (&["x", "abc"], &["c", "abc"], "x", Some(1)),
        (&["né", "e"], &["ée"], "n", Some(0)),
        (&["STO"], &["STOP"], "STO", None),
    ];
    for (pieces, stops, text, index) in cases {
        let found = streamed(pieces, &strings(stops));
        assert_eq!(found, (text.to_owned(), index), "{pieces:?} {stops:?}");
    }
}

#[test]
fn any_cut_gives_what_the_reference_gives() {
    let letters = ["a", "b", "é", "ab"];
    let mut state = 1;
    let mut next = |below: u64| {
        state = mix(state);
        (state >> 33) % below
    };
    let mut stopped = 0;
    for _ in 0..3000 {
        let mut text = |least: u64, most: u64| -> String {
            (0..least + next(most - least + 1)).map(|_| letters[next(4) as usize]).collect()
        };
        let stops = [text(1, 4), text(2, 5), text(3, 6)];
        let pieces: Vec<String> = (0..8).map(|_| text(0, 3)).collect();
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let expected = reference(&pieces.concat(), &stops);
        stopped += usize::from(expected.1.is_some());
        assert_eq!(streamed(&pieces, &stops), expected, "{pieces:?} {stops:?}");
    }
    assert!((300..2700).contains(&stopped), "{stopped} of 3000 cases stopped");
}

#[test]
fn limits_are_checked() {
    assert_eq!(validate(&[]), Ok(()));
    assert_eq!(validate(&vec!["x".repeat(MAX_STOP_BYTES); MAX_STOPS]), Ok(()));
    let empty = validate(&strings(&["a", ""])).unwrap_err();
    assert_eq!(empty.to_string(), "stop is a string of 0 bytes, allowed is strings of 1 to 1024 bytes");
    assert!(validate(&["x".repeat(MAX_STOP_BYTES + 1)]).is_err());
    let many = validate(&vec!["x".to_owned(); MAX_STOPS + 1]).unwrap_err();
    assert_eq!(many.to_string(), "stop is 65 strings, allowed is 0 to 64 strings");
}
