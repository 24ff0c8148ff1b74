//! Turns of a chat, as the tokens of the next request.

use serde::{Deserialize, Serialize};

use crate::text::{EncodeOptions, Message, Prompt, Role, TemplateError, TextError, Tokenizer, ToolCall};

use super::{Format, Outcome};

/// What the user said, and what the model said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The user's message.
    pub user: String,
    /// The answer, or the part that was generated before it was stopped; `None` before.
    pub answer: Option<String>,
    /// What the model thought before it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The functions that it called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// If `user` is the result of a call: its id and the function's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_of: Option<(String, String)>,
}

impl Turn {
    fn new(user: String) -> Turn {
        Turn { user, answer: None, reasoning: None, tool_calls: vec![], result_of: None }
    }
}

/// The next request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// The prompt.
    pub tokens: Vec<u32>,
    /// Turns that were dropped for it.
    pub dropped: usize,
}

/// The request for more of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct More {
    /// The prompt, with the answer so far.
    pub tokens: Vec<u32>,
    /// Tokens before the answer.
    pub prompt: usize,
    /// As in [`Next`].
    pub dropped: usize,
}

/// What was last read and generated: the text, and the tokens that stand for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) tokens: Vec<u32>,
    /// Bytes and tokens up to the end of each prompt and each answer, ascending.
    pub(super) marks: Vec<(usize, usize)>,
}

impl Said {
    fn new(text: String, tokens: Vec<u32>) -> Said {
        let marks = vec![(text.len(), tokens.len())];
        Said { text, tokens, marks }
    }

    /// The longest part that `text` starts with, and where in `text` the rest starts.
    fn shared(&self, text: &str) -> Option<(Said, usize)> {
        let fits =
            |(bytes, _): &&(usize, usize)| text.as_bytes().starts_with(&self.text.as_bytes()[..*bytes]);
        let (bytes, tokens) = *self.marks.iter().rev().find(fits)?;
        let marks = self.marks.iter().copied().filter(|mark| mark.0 <= bytes && mark.1 <= tokens);
        let marks = marks.collect();
        Some((
            Said { text: self.text[..bytes].to_owned(), tokens: self.tokens[..tokens].to_vec(), marks },
            bytes,
        ))
    }

    /// Adds text; `tokens` stand for all of it.
    fn extend(&mut self, text: &str, tokens: Vec<u32>) {
        self.text.push_str(text);
        self.tokens = tokens;
        let mark = (self.text.len(), self.tokens.len());
        if self.marks.last() != Some(&mark) {
            self.marks.push(mark);
        }
    }
}

/// Appends the tokens of `text`, which holds no control token, if they stand for just that behind `tokens`: some
/// vocabularies begin every text with a space.
fn append(
    tokenizer: &Tokenizer,
    text: &str,
    options: EncodeOptions,
    tokens: &mut Vec<u32>,
) -> Result<bool, TextError> {
    let (start, last) = (tokens.len(), tokens.last().copied());
    tokenizer.encode(text, options, tokens)?;
    let before = last.map_or(vec![], |last| tokenizer.decode(&[last], false));
    let after = tokenizer.decode(&tokens[start.saturating_sub(1)..], false);
    Ok(after == [&before, text.as_bytes()].concat())
}

/// A system prompt and the turns since.
///
/// The next prompt keeps the tokens of the last one and of its answer, as the model generated them, wherever its text
/// starts with theirs and goes on with a control token: encoding the answer again may give other tokens, and all
/// after them would have to be computed again.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    pub(super) system: Option<String>,
    pub(super) turns: Vec<Turn>,
    pub(super) said: Option<Said>,
}

impl Conversation {
    /// A conversation without turns. A blank system prompt is none.
    pub fn new(system: Option<&str>) -> Conversation {
        let mut conversation = Conversation::default();
        conversation.set_system(system);
        conversation
    }

    /// The system prompt.
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// Replaces the system prompt; the turns stay.
    pub fn set_system(&mut self, system: Option<&str>) {
        self.system = system.filter(|text| !text.trim().is_empty()).map(str::to_owned);
    }

    /// The turns, oldest first.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// Forgets all turns.
    pub fn clear(&mut self) {
        self.turns.clear();
        self.said = None;
    }

    /// Forgets which tokens stand for the turns: for a model with another vocabulary.
    pub fn forget_tokens(&mut self) {
        self.said = None;
    }

    /// The user says something.
    pub fn ask(&mut self, message: impl Into<String>) {
        self.turns.push(Turn::new(message.into()));
    }

    /// A function that the model called last has a result; `false` if none is waiting for one. Results are given in the
    /// order of the calls.
    pub fn result(&mut self, result: impl Into<String>) -> bool {
        let Some(call) = self.waiting() else { return false };
        let result_of = Some((call.id.clone(), call.name.clone()));
        self.turns.push(Turn { result_of, ..Turn::new(result.into()) });
        true
    }

    /// Whether a call of the model waits for a result.
    pub fn awaits_result(&self) -> bool {
        self.waiting().is_some()
    }

    /// The call that waits for a result.
    fn waiting(&self) -> Option<&ToolCall> {
        let is_given = |turn: &&Turn| turn.result_of.is_some() && turn.answer.is_none();
        let given = self.turns.iter().rev().take_while(is_given).count();
        self.turns.iter().rev().nth(given)?.tool_calls.get(given)
    }

    /// The model answered the prompt of [`Conversation::next`], or was stopped while it did.
    ///
    /// # Errors
    /// If the vocabulary lacks a token for the text.
    pub fn answer(&mut self, outcome: &Outcome, tokenizer: &Tokenizer) -> Result<(), TextError> {
        self.answer_elsewhere(&outcome.text, outcome.reasoning.clone(), outcome.tool_calls.clone());
        self.extend_said(outcome, tokenizer)
    }

    /// A model elsewhere answered the messages of [`Conversation::messages`]: which tokens stand for it is not known.
    pub fn answer_elsewhere(&mut self, text: &str, reasoning: Option<String>, tool_calls: Vec<ToolCall>) {
        let Some(turn) = self.turns.last_mut() else { return };
        turn.answer = Some(text.to_owned());
        turn.reasoning = reasoning;
        turn.tool_calls = tool_calls;
    }

    /// The model went on with the last answer, after the prompt of [`Conversation::more`].
    ///
    /// # Errors
    /// As [`Conversation::answer`].
    pub fn answer_more(&mut self, outcome: &Outcome, tokenizer: &Tokenizer) -> Result<(), TextError> {
        let Some(turn) = self.turns.last_mut() else { return Ok(()) };
        turn.answer.get_or_insert_default().push_str(&outcome.text);
        if let Some(reasoning) = &outcome.reasoning {
            turn.reasoning.get_or_insert_default().push_str(reasoning);
        }
        turn.tool_calls.extend_from_slice(&outcome.tool_calls);
        self.extend_said(outcome, tokenizer)
    }

    /// Adds what was generated to what was said.
    fn extend_said(&mut self, outcome: &Outcome, tokenizer: &Tokenizer) -> Result<(), TextError> {
        if outcome.reasoning.is_some() || !outcome.tool_calls.is_empty() {
            // Whether and how the next prompt has it is for the template to say.
            return Ok(());
        }
        let Some(said) = &mut self.said else { return Ok(()) };
        // The last tokens may be of a stop string or an incomplete character, which are no part of the text.
        let last = said.tokens.last().copied();
        let skipped = tokenizer.decode(last.as_slice(), false).len();
        for kept in (0..=outcome.tokens.len()).rev() {
            let part = &outcome.tokens[..kept];
            let bytes = tokenizer.decode(&[last.as_slice(), part].concat(), false);
            let Some(rest) = outcome.text.as_bytes().strip_prefix(&bytes[skipped..]) else { continue };
            let Ok(rest) = std::str::from_utf8(rest) else { continue };
            let mut tokens = [&said.tokens, part].concat();
            let options = EncodeOptions { add_special: false, parse_special: false };
            if rest.is_empty() || append(tokenizer, rest, options, &mut tokens)? {
                said.extend(&outcome.text, tokens);
                break;
            }
        }
        Ok(())
    }

    /// Takes the last turn back.
    pub fn undo(&mut self) -> Option<Turn> {
        self.turns.pop()
    }

    /// Adds a turn, such as one that was taken back.
    pub fn redo(&mut self, turn: Turn) {
        self.turns.push(turn);
    }

    /// The prompt for more of the last answer: what was asked, and the answer so far, with its tokens. `None` if there
    /// is no answer.
    ///
    /// # Errors
    /// As [`Conversation::next`].
    pub fn more(
        &mut self,
        format: &Format,
        tokenizer: &Tokenizer,
        context: usize,
        reserve: usize,
    ) -> Result<Option<More>, TemplateError> {
        let Some(answer) = self.turns.last_mut().and_then(|turn| turn.answer.take()) else { return Ok(None) };
        let before = self.said.clone().unwrap_or_default();
        let options = EncodeOptions { add_special: false, parse_special: false };
        let more = (|| {
            let mut encoded = vec![];
            tokenizer.encode(&answer, options, &mut encoded)?;
            let Next { mut tokens, dropped } =
                self.next(format, tokenizer, context, reserve + encoded.len())?;
            let prompt = tokens.len();
            let text = self.said.as_ref().map_or("", |said| &said.text);
            let is_known = before.tokens.starts_with(&tokens)
                && before.text.strip_prefix(text).is_some_and(|rest| rest == answer);
            if is_known {
                tokens.clone_from(&before.tokens);
            } else if !append(tokenizer, &answer, options, &mut tokens)? {
                tokens.truncate(prompt);
                tokens.extend(&encoded);
            }
            if let Some(said) = &mut self.said {
                said.extend(&answer, tokens.clone());
            }
            Ok(More { tokens, prompt, dropped })
        })();
        if let Some(turn) = self.turns.last_mut() {
            turn.answer = Some(answer);
        }
        more.map(Some)
    }

    /// The prompt for an answer to the last turn, with room for `reserve` tokens in `context`.
    ///
    /// If there is no such room, the oldest turns are dropped until the prompt takes half of the context, so that
    /// what remains need not be computed again every time. A last turn that does not fit alone makes no room: its
    /// prompt is longer than the context.
    ///
    /// # Errors
    /// If the turns cannot be rendered or encoded, or the last is far longer than the context.
    pub fn next(
        &mut self,
        format: &Format,
        tokenizer: &Tokenizer,
        context: usize,
        reserve: usize,
    ) -> Result<Next, TemplateError> {
        let whole = self.encode(0, format, tokenizer, context);
        let cuts = self.cuts();
        let has_room = |said: &Said| said.tokens.len().saturating_add(reserve) <= context;
        let (said, dropped) = match (whole, cuts.last()) {
            (Ok(said), Some(_)) if has_room(&said) => (said, 0),
            (Ok(_) | Err(TemplateError::Text(TextError::TooLong { .. })), Some(last)) => {
                let mut said = self.encode(*last, format, tokenizer, context)?;
                if said.tokens.len() > context {
                    return Ok(Next { tokens: said.tokens, dropped: 0 });
                }
                // The first cut that makes room is from `low` to `high`.
                let (mut low, mut high) = (0, cuts.len() - 1);
                while low < high {
                    let middle = low.midpoint(high);
                    match self.encode(cuts[middle], format, tokenizer, context) {
                        Ok(shorter) if shorter.tokens.len() <= context / 2 => {
                            (high, said) = (middle, shorter);
                        }
                        Ok(_) | Err(TemplateError::Text(TextError::TooLong { .. })) => low = middle + 1,
                        Err(error) => return Err(error),
                    }
                }
                self.turns.drain(..cuts[high]);
                (said, cuts[high])
            }
            (whole, _) => (whole?, 0),
        };
        let tokens = said.tokens.clone();
        self.said = Some(said);
        Ok(Next { tokens, dropped })
    }

    /// Where turns may be dropped before: a result stays with the call before it.
    fn cuts(&self) -> Vec<usize> {
        (1..self.turns.len()).filter(|first| self.turns[*first].result_of.is_none()).collect()
    }

    /// Drops the oldest turns until half of the text is left, for a model elsewhere whose context is full; how many. The
    /// last turn stays.
    pub fn shorten(&mut self) -> usize {
        let bytes = |turn: &Turn| turn.user.len() + turn.answer.as_ref().map_or(0, String::len);
        let from = |first: usize| self.turns[first..].iter().map(bytes).sum::<usize>();
        let (cuts, half) = (self.cuts(), from(0) / 2);
        let enough = cuts.iter().find(|cut| from(**cut) <= half).or(cuts.last());
        let dropped = enough.copied().unwrap_or(0);
        self.turns.drain(..dropped);
        self.said = None;
        dropped
    }

    /// The tokens with which the prompt starts whatever the user says first: those of the system prompt.
    ///
    /// # Errors
    /// As [`Conversation::next`].
    pub fn opening(
        &self,
        format: &Format,
        tokenizer: &Tokenizer,
        context: usize,
    ) -> Result<Vec<u32>, TemplateError> {
        let with = |message: &str| {
            let mut other = Conversation::new(self.system());
            other.ask(message);
            other.encode(0, format, tokenizer, context)
        };
        let (mut tokens, other) = (with("a")?.tokens, with("1")?.tokens);
        tokens.truncate(tokens.iter().zip(&other).take_while(|(a, b)| a == b).count());
        Ok(tokens)
    }

    /// Text and tokens of the system prompt and the turns from `first` on, if they may fit into `context`.
    fn encode(
        &self,
        first: usize,
        format: &Format,
        tokenizer: &Tokenizer,
        context: usize,
    ) -> Result<Said, TemplateError> {
        let last = self.turns.last().map_or(0, |turn| turn.user.len());
        tokenizer.check_length(last.max(self.system().map_or(0, str::len)), context)?;
        match format {
            Format::Template(template) => {
                let prompt = template.render(&self.messages_from(first))?;
                if let Some(said) = self.continued(&prompt, tokenizer, context)? {
                    return Ok(said);
                }
                let mut tokens = vec![];
                prompt.encode_within(context, tokenizer, &mut tokens)?;
                Ok(Said::new(prompt.text, tokens))
            }
            Format::Raw { control } => Ok(self.encode_raw(first, *control, tokenizer, context)?),
        }
    }

    /// What was said, as messages; the last waits for an answer.
    pub fn messages(&self) -> Vec<Message> {
        self.messages_from(0)
    }

    fn messages_from(&self, first: usize) -> Vec<Message> {
        let system = self.system().map(|text| Message::new(Role::System, text));
        let turns = self.turns[first..].iter().flat_map(|turn| {
            let answer = turn.answer.as_ref().map(|answer| Message {
                reasoning: turn.reasoning.clone(),
                tool_calls: turn.tool_calls.clone(),
                ..Message::new(Role::Assistant, answer)
            });
            let role = if turn.result_of.is_some() { Role::Tool } else { Role::User };
            let asked = Message { result_of: turn.result_of.clone(), ..Message::new(role, &turn.user) };
            [Some(asked), answer]
        });
        system.into_iter().chain(turns.flatten()).collect()
    }

    /// What was said before and the tokens of the rest of `prompt`, if they may be joined.
    fn continued(
        &self,
        prompt: &Prompt,
        tokenizer: &Tokenizer,
        context: usize,
    ) -> Result<Option<Said>, TextError> {
        let shared = self.said.as_ref().and_then(|said| said.shared(&prompt.text));
        let Some((mut said, start)) = shared else { return Ok(None) };
        let mut tokens = said.tokens.clone();
        prompt.encode_rest(start, context, tokenizer, &mut tokens)?;
        let joint = tokens.get(said.tokens.len());
        if joint.is_some_and(|id| !tokenizer.is_special(*id)) {
            return Ok(None);
        }
        said.extend(&prompt.text[start..], tokens);
        Ok(Some(said))
    }

    fn encode_raw(
        &self,
        first: usize,
        control: bool,
        tokenizer: &Tokenizer,
        context: usize,
    ) -> Result<Said, TextError> {
        let mut text = self.system().map_or(String::new(), |system| format!("{system}\n\n"));
        for (index, turn) in self.turns[first..].iter().enumerate() {
            text.push_str(if index == 0 { "" } else { "\n" });
            text.push_str(&turn.user);
            text.push_str(turn.answer.as_deref().unwrap_or_default());
        }
        let options = EncodeOptions { add_special: false, parse_special: control };
        if let Some((mut said, start)) = self.said.as_ref().and_then(|said| said.shared(&text)) {
            let (rest, mut tokens) = (&text[start..], said.tokens.clone());
            let is_apart = rest.is_empty() || rest.starts_with('\n');
            if is_apart && append(tokenizer, rest, options, &mut tokens)? {
                said.extend(&text[start..], tokens);
                return Ok(said);
            }
        }
        let mut tokens = vec![];
        tokenizer.encode_within(&text, &[], options, context, &mut tokens)?;
        if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.adds_bos())
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        Ok(Said::new(text, tokens))
    }
}
