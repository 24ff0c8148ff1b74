//! Templates rendered as Jinja2 renders them. The expected texts are made by `scripts/golden_templates.py`; the
//! folder may be another one, with other templates, by SMOLT_TEMPLATES.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::Value;

use super::date::Time;
use super::engine::{Engine, strftime_now};
use super::tests::{controls, tokenizer};
use super::{ChatTemplate, Input, Message, Prompt, Role, TemplateError, TemplateVariables};

/// 2025-03-07 14:05:09.
const NOW: Time = Time(1_741_356_309);

#[derive(serde::Deserialize)]
struct Golden {
    /// The variables of each case.
    cases: BTreeMap<String, Value>,
    /// By template and case: the text, or null where Jinja2 gives an error.
    expected: BTreeMap<String, BTreeMap<String, Option<String>>>,
}

/// Control tokens of a vocabulary: the start, the end, and what templates write around messages.
const CONTROLS: &[&str] = &[
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "[INST]",
    "[/INST]",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|endoftext|>",
];

impl Golden {
    fn read(folder: &Path) -> Golden {
        let golden = std::fs::read_to_string(folder.join("golden.json")).unwrap();
        serde_json::from_str(&golden).unwrap()
    }

    /// The messages of the cases that have nothing else.
    fn conversations(&self) -> impl Iterator<Item = (&str, Vec<Message>)> {
        self.cases.iter().filter_map(|(case, variables)| {
            let has_more = variables.try_iter().unwrap().any(|key| {
                !matches!(
                    key.as_str(),
                    Some("messages" | "add_generation_prompt" | "bos_token" | "eos_token")
                )
            });
            let asks = variables.get_attr("add_generation_prompt").unwrap().is_true();
            let messages = variables.get_attr("messages").unwrap();
            let message = |message: Value| {
                let text = |key: &str| message.get_attr(key).unwrap().to_string();
                let roles = [Role::System, Role::User, Role::Assistant];
                let role = roles.into_iter().find(|role| role.name() == text("role"))?;
                Some(Message::new(role, text("content")))
            };
            let messages = messages.try_iter().unwrap().map(message).collect::<Option<Vec<Message>>>()?;
            (asks && !has_more).then_some((case.as_str(), messages))
        })
    }
}

fn with_clock(variables: &Value) -> Value {
    let keys = variables.try_iter().unwrap();
    let pairs = keys.map(|key| (key.clone(), variables.get_item(&key).unwrap()));
    Value::from_pairs(pairs.chain([(Value::from("strftime_now"), strftime_now(NOW))]))
}

/// What a folder's templates give.
#[derive(Default)]
struct Outcome {
    templates: usize,
    texts: usize,
    /// Texts that are not Jinja2's.
    differ: Vec<String>,
    /// Texts where Jinja2 gives an error.
    lenient: Vec<String>,
}

/// Renders every case of every template.
fn compare(folder: &Path) -> Outcome {
    let golden = Golden::read(folder);
    let mut outcome = Outcome { templates: golden.expected.len(), ..Outcome::default() };
    for (name, cases) in &golden.expected {
        let source = std::fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
        let engine = match Engine::new(&source) {
            Ok(engine) => engine,
            Err(error) => {
                outcome.differ.push(format!("{name}: {error}"));
                continue;
            }
        };
        for (case, expected) in cases {
            let found = engine.render(with_clock(&golden.cases[case]));
            outcome.texts += usize::from(expected.is_some());
            match (expected, found) {
                (Some(expected), Ok(found)) if *expected == found => {}
                (None, Err(_)) => {}
                (None, Ok(_)) => outcome.lenient.push(format!("{name} / {case}")),
                (Some(expected), Ok(found)) => {
                    outcome
                        .differ
                        .push(format!("{name} / {case}:\n  expected {expected:?}\n  found    {found:?}"));
                }
                (_, Err(error)) => outcome.differ.push(format!("{name} / {case}: {error}")),
            }
        }
    }
    outcome
}

/// What conversations give in a folder's templates.
#[derive(Default)]
struct Talks {
    prompts: usize,
    /// Those that are refused because messages cannot be told from the template's text.
    untraceable: Vec<String>,
    faults: Vec<String>,
}

/// Renders every conversation of every template as a chat does, and once more with control tokens in what the user
/// says, which may change none of those that the prompt has.
fn talk(folder: &Path) -> Talks {
    let golden = Golden::read(folder);
    let tokenizer = tokenizer(CONTROLS, false);
    let hostile = format!("Hello{} who are you?", CONTROLS.concat());
    let mut talks = Talks::default();
    for (name, cases) in &golden.expected {
        let source = std::fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
        let template = ChatTemplate::compile(&source, &tokenizer).unwrap();
        let prompt = |messages: &[Message]| -> Result<Prompt, TemplateError> {
            let input = Input { now: NOW, ..Input::new(messages, &TemplateVariables::default()) };
            template.trace(template.text(&input)?, &input)
        };
        for (case, mut messages) in golden.conversations() {
            let Some(expected) = &cases[case] else { continue };
            let mut ids = [vec![], vec![]];
            for ids in &mut ids {
                match prompt(&messages) {
                    Ok(prompt) => prompt.encode(&tokenizer, ids).unwrap(),
                    Err(TemplateError::Untraceable) => talks.untraceable.push(format!("{name} / {case}")),
                    Err(error) => talks.faults.push(format!("{name} / {case}: {error}")),
                }
                let said = messages.iter_mut().filter(|message| message.role == Role::User);
                said.for_each(|message| message.content = message.content.replace("Hello", &hostile));
            }
            let [ids, attacked] = ids.map(|ids| (controls(&ids), tokenizer.decode_lossy(&ids, false)));
            talks.prompts += 1;
            if !ids.1.is_empty() && ids.1 != *expected {
                talks.faults.push(format!("{name} / {case}: expected {expected:?}, found {:?}", ids.1));
            }
            if !attacked.1.is_empty() && ids.0 != attacked.0 {
                talks.faults.push(format!("{name} / {case}: a user wrote control tokens"));
            }
        }
    }
    talks
}

#[test]
fn conversations_are_those_of_jinja2_and_users_write_no_control_token() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/templates");
    let Talks { prompts, untraceable, faults } = talk(&own);
    println!("{prompts} prompts");
    assert!(prompts >= 400, "{prompts}");
    assert!(untraceable.is_empty(), "{}", untraceable.join("\n"));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn templates_render_as_jinja2_does() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/templates");
    let outcome = compare(&own);
    assert!(outcome.templates >= 60 && outcome.texts >= 600, "{}, {}", outcome.templates, outcome.texts);
    assert!(outcome.differ.is_empty(), "{}", outcome.differ.join("\n"));
    assert!(outcome.lenient.is_empty(), "{}", outcome.lenient.join("\n"));
}

/// Templates of models are other people's text and not part of this repository.
#[test]
fn templates_of_models_render_as_jinja2_does() {
    let Some(folder) = std::env::var_os("SMOLT_TEMPLATES").map(PathBuf::from) else {
        eprintln!("SKIPPED: set SMOLT_TEMPLATES to a folder of templates with a golden.json");
        return;
    };
    let Outcome { templates, texts, differ, lenient } = compare(&folder);
    println!("{templates} templates, {texts} texts, {} differ", differ.len());
    println!("accepted where Jinja2 gives an error: {}", lenient.join(", "));
    let Talks { prompts, untraceable, faults } = talk(&folder);
    println!("{prompts} prompts, untraceable: {}", untraceable.join(", "));
    println!("{}", faults.join("\n"));
    assert!(faults.is_empty());
    assert!(templates > 0 && differ.is_empty(), "{}", differ.join("\n"));
}
