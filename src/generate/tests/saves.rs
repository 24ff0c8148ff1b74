//! Saved conversations: what comes back, and what a damaged or foreign file does.

use std::path::PathBuf;

use crate::generate::saved::Checksum;
use crate::generate::{
    Conversation, Difference, Identity, Journal, Opened, Origin, SavedError, Session, Turn, open, origin,
    save,
};
use crate::model::LanguageModel;

use super::conversations::{answer, cat, template};
use super::{FakeModel, VOCAB, tokenizer};

const IDENTITY: Identity = Identity { model: 1, model_bytes: 2, tokenizer: 3, template: 4, state: 5 };

fn made() -> Origin {
    Origin { identity: IDENTITY, model: "cat".to_owned(), source: "cat.gguf".to_owned() }
}

/// A file that goes away.
struct Saved(PathBuf);

impl Saved {
    fn new(name: &str) -> Saved {
        Saved(std::env::temp_dir().join(format!("smolt-saved-{name}-{}", std::process::id())))
    }

    fn open(&self, bytes: &[u8]) -> (Result<Opened, SavedError>, Session<FakeModel>) {
        std::fs::write(&self.0, bytes).unwrap();
        let mut session = cat();
        (open(&self.0, &IDENTITY, &mut session), session)
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Two turns, saved.
fn saved(file: &Saved) -> (Vec<u8>, Conversation, Session<FakeModel>) {
    let (mut session, mut conversation) = (cat(), Conversation::new(Some("Be short.")));
    for message in ["One", "Two"] {
        conversation.ask(message);
        answer(&mut session, &mut conversation, &template(), &[]);
    }
    let bytes = save(&file.0, &made(), &conversation, Some(&mut session)).unwrap();
    let written = std::fs::read(&file.0).unwrap();
    assert_eq!(written.len() as u64, bytes);
    (written, conversation, session)
}

/// Puts the right checksum under changed bytes.
fn sign(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 8;
    let mut sum = Checksum::new();
    sum.add(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum.finish().to_le_bytes());
    bytes
}

#[test]
fn a_conversation_goes_on_where_it_was() {
    let file = Saved::new("round-trip");
    let (bytes, mut conversation, mut session) = saved(&file);
    let (opened, mut other) = file.open(&bytes);
    let mut opened = opened.unwrap();
    assert_eq!((opened.restored, opened.difference), (session.cached().len(), None));
    assert_eq!(other.cached(), session.cached());
    assert_eq!(opened.conversation.turns(), conversation.turns());
    assert_eq!(opened.conversation.system(), Some("Be short."));
    conversation.ask("Three");
    opened.conversation.ask("Three");
    let here = answer(&mut session, &mut conversation, &template(), &[]);
    let there = answer(&mut other, &mut opened.conversation, &template(), &[]);
    assert_eq!(there, here, "the same tokens, as few of them computed");
    assert!(there.1 < there.0.len() / 2);
    assert_eq!(opened.conversation.turns(), conversation.turns());
}

#[test]
fn an_opening_alone_can_be_saved() {
    let file = Saved::new("opening");
    let (mut session, mut conversation) = (cat(), Conversation::new(Some("A long system prompt.")));
    let opening = conversation.opening(&template(), &tokenizer(), 400).unwrap();
    let request = crate::generate::Request { max_tokens: Some(0), ..super::greedy(&opening) };
    session.generate(request, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    save(&file.0, &made(), &conversation, Some(&mut session)).unwrap();
    let (opened, mut other) = file.open(&std::fs::read(&file.0).unwrap());
    conversation = opened.unwrap().conversation;
    conversation.ask("Hello");
    let (tokens, fed) = answer(&mut other, &mut conversation, &template(), &[]);
    assert_eq!(fed, tokens.len() - opening.len());
}

#[test]
fn a_state_of_something_else_is_not_used() {
    let file = Saved::new("foreign");
    let (bytes, mut conversation, _) = saved(&file);
    for (identity, what) in [
        (Identity { model: 9, ..IDENTITY }, "model"),
        (Identity { model_bytes: 9, ..IDENTITY }, "model"),
        (Identity { tokenizer: 9, ..IDENTITY }, "tokenizer"),
        (Identity { template: 9, ..IDENTITY }, "template"),
        (Identity { state: 9, ..IDENTITY }, "KV"),
    ] {
        let mut session = cat();
        let opened = open(&file.0, &identity, &mut session).unwrap();
        assert!(opened.difference.unwrap().to_string().contains(what), "{what}");
        assert_eq!((opened.restored, session.cached().len()), (0, 0));
        assert_eq!(opened.conversation.turns(), conversation.turns(), "the messages are there");
        assert!(open(&file.0, &identity, &mut session).is_ok());
    }
    let mut small = super::session(FakeModel::hashed(10));
    let mut opened = open(&file.0, &IDENTITY, &mut small).unwrap();
    assert_eq!(opened.difference, Some(Difference::Context));
    // Its tokens are computed again, and give the same.
    let mut fresh = cat();
    for conversation in [&mut opened.conversation, &mut conversation] {
        conversation.ask("Three");
    }
    let (tokens, fed) = answer(&mut fresh, &mut opened.conversation, &template(), &[]);
    assert_eq!(fed, tokens.len());
    // A damaged file is refused even where its state is of no use.
    let mut bad = bytes.clone();
    *bad.iter_mut().rev().nth(20).unwrap() ^= 1;
    std::fs::write(&file.0, &bad).unwrap();
    let error = open(&file.0, &Identity { model: 9, ..IDENTITY }, &mut fresh).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn files_cut_short_or_changed_anywhere_are_refused() {
    let file = Saved::new("damaged");
    let (bytes, ..) = saved(&file);
    for length in 0..bytes.len() {
        let (opened, session) = file.open(&bytes[..length]);
        let error = opened.expect_err("cut short").to_string();
        assert!(error.contains("smolt-saved-damaged"), "{error}");
        assert!(session.cached().is_empty());
    }
    for at in 0..bytes.len() {
        for bit in [1, 0x10, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= bit;
            let (opened, session) = file.open(&changed);
            assert!(opened.is_err(), "byte {at} with {bit}");
            assert!(session.cached().is_empty() && session.model().position() == 0);
        }
    }
    assert!(matches!(file.open(b"GGUF, not a session").0, Err(SavedError::NotASession { .. })));
}

#[test]
fn hostile_files_with_the_right_checksum_are_refused() {
    let file = Saved::new("hostile");
    let (bytes, _, session) = saved(&file);
    let header = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let first_token = 32 + header;
    let state = first_token + 4 * session.cached().len();
    let put = |at: usize, value: &[u8]| {
        let mut changed = bytes.clone();
        changed[at..at + value.len()].copy_from_slice(value);
        sign(changed)
    };
    assert!(file.open(&put(0, b"")).0.is_ok(), "signing alone changes nothing");
    let cases: [(Vec<u8>, &str); 6] = [
        (put(8, &3u32.to_le_bytes()), "version 3"),
        (put(12, &u32::MAX.to_le_bytes()), "header"),
        (put(16, &u64::MAX.to_le_bytes()), "number of tokens"),
        (put(24, &u64::MAX.to_le_bytes()), "expected"),
        (put(first_token, &(VOCAB as u32).to_le_bytes()), "list of tokens"),
        (put(state, &u64::MAX.to_le_bytes()), "state"),
    ];
    for (bytes, part) in cases {
        let (opened, session) = file.open(&bytes);
        let error = opened.unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
        assert!(session.cached().is_empty());
    }
    // Fewer tokens than the state has, with as many bytes.
    let mut shifted = bytes.clone();
    shifted[16] -= 2;
    shifted[24] += 8;
    assert!(file.open(&sign(shifted)).0.unwrap_err().to_string().contains("length of the state"));
    let text = String::from_utf8(bytes[32..first_token].to_vec()).unwrap();
    for (from, to) in [("\"turns\":[", "\"turns\":{"), ("\"marks\":[[", "\"marks\":[[9")] {
        let json = text.replacen(from, to, 1);
        assert_ne!(json, text);
        let mut changed = bytes[..12].to_vec();
        changed.extend((json.len() as u32).to_le_bytes());
        changed.extend(&bytes[16..32]);
        changed.extend(json.as_bytes());
        changed.extend(&bytes[first_token..]);
        assert!(file.open(&sign(changed)).0.unwrap_err().to_string().contains("header"), "{to}");
    }
    let mut session = cat();
    let missing = file.0.with_extension("missing");
    assert!(matches!(open(&missing, &IDENTITY, &mut session), Err(SavedError::Read { .. })));
    assert!(open(&std::env::temp_dir(), &IDENTITY, &mut session).is_err());
}

#[test]
fn nothing_is_left_behind_where_saving_fails() {
    let (mut session, conversation) = (cat(), Conversation::new(None));
    let path = std::env::temp_dir().join("no-such-folder").join("chat");
    let error = save(&path, &made(), &conversation, Some(&mut session)).unwrap_err();
    assert!(matches!(error, SavedError::Write(_)));
    assert!(!path.exists());
}

fn unanswered() -> Turn {
    let (user, reasoning, tool_calls, result_of) = Default::default();
    Turn { user, answer: None, reasoning, tool_calls, result_of }
}

/// The turns of a file, and how many bytes of it are of no whole step.
fn turns(file: &Saved) -> (Vec<String>, u64) {
    let opened = open(&file.0, &IDENTITY, &mut cat()).unwrap();
    let said = |turn: &Turn| format!("{}:{}", turn.user, turn.answer.as_deref().unwrap_or("?"));
    (opened.conversation.turns().iter().map(said).collect(), opened.cut)
}

/// Whatever happens to a conversation, the file says it after one small write.
#[test]
fn every_change_of_a_conversation_is_recorded() {
    let file = Saved::new("journal");
    let (bytes, mut conversation, mut session) = saved(&file);
    let mut journal = Journal::open(&file.0, bytes.len() as u64, &conversation).unwrap();
    let check = |journal: &mut Journal, conversation: &Conversation, least: usize| {
        let before = std::fs::metadata(&file.0).unwrap().len();
        journal.record(conversation).unwrap();
        let opened = open(&file.0, &IDENTITY, &mut cat()).unwrap();
        assert_eq!(opened.conversation.turns(), conversation.turns());
        assert_eq!(opened.conversation.system(), conversation.system());
        assert_eq!((opened.cut, opened.difference), (0, None));
        let added = std::fs::metadata(&file.0).unwrap().len() - before;
        assert!((least..400).contains(&(added as usize)), "{added} bytes");
    };
    conversation.ask("Three");
    answer(&mut session, &mut conversation, &template(), &[]);
    check(&mut journal, &conversation, 1);
    check(&mut journal, &conversation, 0);
    conversation.undo();
    conversation.ask("Another three");
    answer(&mut session, &mut conversation, &template(), &[]);
    conversation.set_system(Some("Be long."));
    check(&mut journal, &conversation, 1);
    // The state still stands for the turns of the snapshot, but for the system prompt that was changed.
    let (opened, mut other) = file.open(&std::fs::read(&file.0).unwrap());
    assert!(opened.unwrap().restored > 0);
    conversation.set_system(None);
    conversation.undo();
    check(&mut journal, &conversation, 1);
    // The oldest turn is forgotten, as where the context is full.
    let mut shorter = Conversation::new(None);
    shorter.redo(conversation.turns()[1].clone());
    check(&mut journal, &shorter, 1);
    shorter.clear();
    check(&mut journal, &shorter, 1);
    shorter.ask("New");
    answer(&mut other, &mut shorter, &template(), &[]);
    check(&mut journal, &shorter, 1);
    assert_eq!(origin(&file.0).unwrap(), made());
}

/// What a killed process leaves of a step is not used, what a disk damages is refused.
#[test]
fn a_step_cut_anywhere_loses_no_turn_before_it() {
    let file = Saved::new("cut");
    let (snapshot, mut conversation, _) = saved(&file);
    let mut journal = Journal::open(&file.0, snapshot.len() as u64, &conversation).unwrap();
    let mut ends = vec![snapshot.len()];
    for number in 3..6 {
        let answer = Some("Miau".to_owned());
        conversation.redo(Turn { user: format!("Turn {number}"), answer, ..unanswered() });
        journal.record(&conversation).unwrap();
        ends.push(std::fs::metadata(&file.0).unwrap().len() as usize);
    }
    let bytes = std::fs::read(&file.0).unwrap();
    for length in snapshot.len()..=bytes.len() {
        std::fs::write(&file.0, &bytes[..length]).unwrap();
        let whole = ends.iter().filter(|end| **end <= length).count();
        let (said, cut) = turns(&file);
        assert_eq!(said.len(), 2 + whole - 1, "{length}");
        assert_eq!(cut as usize, length - ends[whole - 1]);
        // A file that was given its length but not its bytes.
        let mut zeros = bytes[..length].to_vec();
        zeros.resize(bytes.len() + 1, 0);
        std::fs::write(&file.0, &zeros).unwrap();
        // The checksum of the last step may end with a zero.
        assert!((whole..=whole + 1).contains(&(turns(&file).0.len() - 1)), "{length}");
    }
    for at in snapshot.len()..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        std::fs::write(&file.0, &changed).unwrap();
        match open(&file.0, &IDENTITY, &mut cat()) {
            Err(error) => assert!(error.to_string().contains("damaged"), "{error}"),
            // A length that is beyond the end.
            Ok(opened) => assert!(opened.cut > 0 && ends.contains(&(opened.bytes as usize)), "{at}"),
        }
    }
    // The next step takes the place of what was cut off.
    std::fs::write(&file.0, &bytes[..ends[2] + 7]).unwrap();
    let opened = open(&file.0, &IDENTITY, &mut cat()).unwrap();
    let mut conversation = opened.conversation;
    let mut journal = Journal::open(&file.0, opened.bytes, &conversation).unwrap();
    conversation.ask("Go on");
    journal.record(&conversation).unwrap();
    let (said, cut) = turns(&file);
    assert_eq!((said.last().unwrap().as_str(), said.len(), cut), ("Go on:?", 5, 0));
}

#[cfg(unix)]
#[test]
fn sessions_are_the_users_alone_and_no_link_is_followed() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let file = Saved::new("private");
    let (bytes, conversation, _) = saved(&file);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file.0), 0o600);
    let link = Saved::new("link");
    symlink(&file.0, &link.0).unwrap();
    assert!(Journal::open(&link.0, bytes.len() as u64, &conversation).is_err());
    save::<FakeModel>(&link.0, &made(), &Conversation::new(None), None).unwrap();
    assert_eq!(std::fs::read(&file.0).unwrap(), bytes, "what the link led to is as it was");
    assert!(!link.0.symlink_metadata().unwrap().is_symlink());
}

/// Files of the version without steps.
#[test]
fn sessions_of_the_version_before_go_on() {
    let file = Saved::new("version");
    let (mut bytes, conversation, _) = saved(&file);
    bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.contains("\"model\":\"cat\""));
    let (opened, _) = file.open(&sign(bytes.clone()));
    let opened = opened.unwrap();
    assert_eq!((opened.conversation.turns(), opened.difference), (conversation.turns(), None));
    let mut longer = opened.conversation.clone();
    let mut journal = Journal::open(&file.0, opened.bytes, &opened.conversation).unwrap();
    longer.ask("And then?");
    assert!(journal.record(&longer).unwrap());
    let (again, _) = file.open(&std::fs::read(&file.0).unwrap());
    assert_eq!(
        again.unwrap().conversation.turns(),
        longer.turns(),
        "a turn is added to a file of that version"
    );
}
