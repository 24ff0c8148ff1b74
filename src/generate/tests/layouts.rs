//! Answers with parts: reasoning is told apart, and rules hold for what comes after it.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::*;
use crate::generate::{
    Conversation, FinishReason, Format, Grammar, GrammarCompiler, Layout, LogitFilter, Outcome,
    SamplerOptions,
};
use crate::text::{ChatTemplate, ReasoningMarks, TemplateVariables};

const THINK: ReasoningMarks = ReasoningMarks { open: "<think>", close: "</think>", answer: ("", "") };

/// What a model says that would say `script` after `prompt`, under a grammar.
fn say(prompt: &str, script: &str, grammar: Option<Grammar>) -> (Outcome, String, String) {
    let tokenizer = tokenizer();
    let prompt = bytes(prompt);
    let model = FakeModel::scripted(400, prompt.len(), bytes(script));
    let mut session = Session::new(model, Arc::clone(&tokenizer));
    let layout = Layout::new(&tokenizer, Some(&THINK), None);
    let compiler = GrammarCompiler::new(Arc::clone(&tokenizer)).unwrap();
    let mut rule = grammar.map(|grammar| compiler.compile(&grammar).unwrap());
    let request = Request {
        sampler: SamplerOptions::greedy(),
        max_tokens: Some(200),
        layout: Some(std::borrow::Cow::Borrowed(&layout)),
        filter: rule.as_mut().map(|rule| Box::new(rule) as Box<dyn LogitFilter + '_>),
        ..Request::new(&prompt)
    };
    let (mut said, mut thought) = (String::new(), String::new());
    let outcome = session.generate(request, &mut |event| {
        said.push_str(event.text);
        thought.push_str(event.reasoning);
        ControlFlow::Continue(())
    });
    (outcome.unwrap(), said, thought)
}

#[test]
fn reasoning_is_told_apart() {
    for (prompt, script, reasoning, text) in [
        ("Q:", "<think>\nHm \u{1F600}\n</think>\n\nYes.", Some("Hm \u{1F600}"), "Yes."),
        ("Q:<think>\n", "Hm</think>Yes.", Some("Hm"), "Yes."),
        ("Q:<think>\n\n</think>\n\n", "<think>Yes.", None, "<think>Yes."),
        ("Q:", "Yes.\n", None, "Yes.\n"),
        ("Q:", "<think>Hm </thi", Some("Hm </thi"), ""),
    ] {
        let (outcome, said, thought) = say(prompt, script, None);
        assert_eq!((outcome.reasoning.as_deref(), outcome.text.as_str()), (reasoning, text), "{script}");
        assert_eq!((said.as_str(), thought.as_str()), (text, reasoning.unwrap_or_default()), "{script}");
        assert_eq!(outcome.tokens, bytes(script));
    }
}

#[test]
fn a_form_is_that_of_the_answer() {
    let form = || Some(Grammar::Regex("[a-z]+!".to_owned()));
    for (prompt, script, reasoning, text) in [
        ("Q:", "<think>\nHm! 1\n</think>\n\nyes!", Some("Hm! 1"), "yes!"),
        ("Q:<think>", "Hm! 1</think>yes!", Some("Hm! 1"), "yes!"),
        ("Q:", "yes!", None, "yes!"),
        ("Q:<think></think>", "yes!", None, "yes!"),
    ] {
        let (outcome, ..) = say(prompt, script, form());
        assert_eq!((outcome.reasoning.as_deref(), outcome.text.as_str()), (reasoning, text), "{script}");
        assert_eq!(outcome.finish, FinishReason::Complete, "{script}");
    }
    // What begins an answer as well as reasoning belongs to the answer.
    let (outcome, ..) = say("Q:", "<b>", Some(Grammar::Regex("<[a-z]>".to_owned())));
    assert_eq!((outcome.reasoning, outcome.text.as_str()), (None, "<b>"));
    // The model would end within its reasoning, and break the form after it.
    let (outcome, ..) = say("Q:", "<think>Hm</think>\n\n1yes!", form());
    let text = &outcome.text;
    assert!(text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'!'), "{text}");
}

#[test]
fn reasoning_ends_and_the_answer_has_its_form() {
    let tokenizer = tokenizer();
    let turn_end = word("OP");
    let ends_inside = [bytes("<think>Hm"), vec![turn_end], bytes("</think>yes!")].concat();
    let circles = bytes(&format!("<think>{}", "round and round we go ".repeat(20)));
    let endless: Vec<u32> =
        bytes("<think>").into_iter().chain((0..900).map(|n| 3 + 65 + n * n % 26)).collect();
    for script in [ends_inside, circles, endless] {
        let prompt = bytes("Q:");
        let model = FakeModel::new(900, move |history, logits| {
            // In place of the end, which is forbidden, comes what follows it in the script.
            let said = history.len() - 2;
            let at = said + usize::from(said > 9 && script[9] == turn_end);
            logits.fill(-5.0);
            logits[*script.get(at + 1).unwrap_or(&END) as usize] = 4.0;
            logits[*script.get(at).unwrap_or(&END) as usize] = 5.0;
        });
        let mut session = Session::new(model, Arc::clone(&tokenizer));
        session.set_turn_end(Some(turn_end));
        let layout = Layout::new(&tokenizer, Some(&THINK), None);
        let compiler = GrammarCompiler::new(Arc::clone(&tokenizer)).unwrap();
        let mut rule = compiler.compile(&Grammar::Regex("[a-z]+!".to_owned())).unwrap();
        let request = Request {
            sampler: SamplerOptions::greedy(),
            max_tokens: Some(600),
            layout: Some(std::borrow::Cow::Borrowed(&layout)),
            filter: Some(Box::new(&mut rule)),
            loop_guard: true,
            ..Request::new(&prompt)
        };
        let outcome = session.generate(request, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!((outcome.finish, outcome.whole), (FinishReason::Complete, true), "{outcome:?}");
        assert!(outcome.reasoning.is_some() && !outcome.tokens.contains(&turn_end));
    }
}

#[test]
fn reasoning_of_earlier_turns_is_for_the_template_to_say() {
    let tokenizer = tokenizer();
    let source = "{% for m in messages %}<s>{{ m.role }}: {% if m.reasoning_content and loop.index0 > keep %}\
        <think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}</s>{% endfor %}<s>assistant: ";
    for (keep, expected) in [
        ("9", "<s>user: One</s><s>assistant: A</s>"),
        ("0", "<s>user: One</s><s>assistant: <think>Hm</think>A</s>"),
    ] {
        let mut template = ChatTemplate::compile(source, &tokenizer).unwrap();
        let mut variables = TemplateVariables::default();
        variables.set("keep", keep).unwrap();
        template.set_variables(variables);
        let format = Format::Template(Box::new(template));
        let layout = format.layout(&tokenizer, None).unwrap();
        let mut conversation = Conversation::new(None);
        conversation.ask("One");
        let next = conversation.next(&format, &tokenizer, 400, 8).unwrap();
        let model = FakeModel::scripted(400, next.tokens.len(), bytes("<think>Hm</think>A"));
        let mut session = Session::new(model, Arc::clone(&tokenizer));
        let request =
            Request { layout: Some(std::borrow::Cow::Borrowed(&layout)), ..Request::new(&next.tokens) };
        let outcome = session.generate(request, &mut |_| ControlFlow::Continue(())).unwrap();
        conversation.answer(&outcome, &tokenizer).unwrap();
        assert_eq!(conversation.turns()[0].reasoning.as_deref(), Some("Hm"));
        conversation.ask("Two");
        let next = conversation.next(&format, &tokenizer, 400, 8).unwrap();
        let expected = format!("{expected}<s>user: Two</s><s>assistant: ");
        assert_eq!(tokenizer.decode_lossy(&next.tokens, false).replace('\u{2581}', " "), expected);
    }
}
