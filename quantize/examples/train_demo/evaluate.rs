//! Greedy answers of the trained network to the held-out requests.

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use serde::Serialize;

use crate::dialogues::Dialogue;
use crate::net::Net;
use crate::train::in_parallel;
use crate::vocab::{END_ID, Vocab, chat};

/// Longest answer in tokens.
const MAX_ANSWER: usize = 80;

/// Exact matches among held-out requests.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Score {
    pub(crate) commands: usize,
    /// Commands whose action line is exactly the expected one.
    pub(crate) actions_right: usize,
    pub(crate) others: usize,
    /// Other requests answered without an action line.
    pub(crate) no_action_right: usize,
    /// Requests of both kinds whose whole answer is exactly the expected one.
    pub(crate) replies_right: usize,
}

/// A greedy continuation, for comparing engines.
#[derive(Serialize)]
pub(crate) struct Golden {
    pub(crate) prompt: String,
    pub(crate) prompt_ids: Vec<u32>,
    /// Chosen without stopping at the end of the answer.
    pub(crate) greedy_ids: Vec<u32>,
    /// For each chosen id, its logit less that of the runner-up.
    pub(crate) gaps: Vec<f32>,
}

/// Answers every request; wrong answers are reported on standard error.
pub(crate) fn score(net: &Net, vocab: &Vocab, dialogues: &[Dialogue], threads: usize) -> Result<Score> {
    let answers = in_parallel(threads, |thread| {
        let mine = dialogues.iter().skip(thread).step_by(threads);
        mine.map(|dialogue| Ok((dialogue, answer(net, vocab, &dialogue.prompt)?))).collect::<Result<Vec<_>>>()
    })?;
    let mut score = Score::default();
    for (dialogue, answer) in answers.into_iter().flatten() {
        let found = answer.lines().find(|line| line.starts_with('{'));
        let right = usize::from(found == dialogue.action.as_deref());
        match dialogue.action {
            Some(_) => {
                (score.commands, score.actions_right) = (score.commands + 1, score.actions_right + right)
            }
            None => (score.others, score.no_action_right) = (score.others + 1, score.no_action_right + right),
        }
        score.replies_right += usize::from(answer == dialogue.reply);
        if answer != dialogue.reply {
            let Dialogue { intent, prompt, reply, .. } = dialogue;
            eprintln!("{intent}: {prompt:?}\n  expected {reply:?}\n  answered {answer:?}");
        }
    }
    Ok(score)
}

/// The greedy answer to a request.
pub(crate) fn answer(net: &Net, vocab: &Vocab, prompt: &str) -> Result<String> {
    let mut ids = vocab.encode(&chat(prompt))?;
    let start = ids.len();
    while ids.len() < (start + MAX_ANSWER).min(net.shape.context) {
        let (id, _) = next(net, &ids)?;
        if id == END_ID {
            break;
        }
        ids.push(id);
    }
    vocab.decode(&ids[start..])
}

/// The greedy continuation of a request by `count` tokens.
pub(crate) fn golden(net: &Net, vocab: &Vocab, prompt: &str, count: usize) -> Result<Golden> {
    let prompt_ids = vocab.encode(&chat(prompt))?;
    let mut ids = prompt_ids.clone();
    let mut gaps = Vec::new();
    for _ in 0..count {
        let (id, gap) = next(net, &ids)?;
        ids.push(id);
        gaps.push(gap);
    }
    let greedy_ids = ids.split_off(prompt_ids.len());
    Ok(Golden { prompt: prompt.to_owned(), prompt_ids, greedy_ids, gaps })
}

/// The most likely next token and the gap between its logit and the second's.
fn next(net: &Net, ids: &[u32]) -> Result<(u32, f32)> {
    let logits = net.forward(&Tensor::from_slice(ids, (1, ids.len()), &Device::Cpu)?)?;
    let last: Vec<f32> = logits.get(ids.len() - 1)?.to_vec1()?;
    let mut order: Vec<usize> = (0..last.len()).collect();
    order.select_nth_unstable_by(1, |&a, &b| last[b].total_cmp(&last[a]));
    let (first, second) = (order[0], *order.get(1).context("a vocabulary of one token")?);
    Ok((first as u32, last[first] - last[second]))
}
