//! Templates rendered as Jinja2 renders them. The expected texts are made by `scripts/golden_templates.py`; the
//! folder may be another one, with other templates, by SMOLT_TEMPLATES.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::Value;

use super::date::Time;
use super::engine::{Engine, strftime_now};

/// 2025-03-07 14:05:09.
const NOW: Time = Time(1_741_356_309);

#[derive(serde::Deserialize)]
struct Golden {
    /// The variables of each case.
    cases: BTreeMap<String, Value>,
    /// By template and case: the text, or null where Jinja2 gives an error.
    expected: BTreeMap<String, BTreeMap<String, Option<String>>>,
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
    let golden = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    let golden: Golden = serde_json::from_str(&golden).unwrap();
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
    assert!(templates > 0 && differ.is_empty(), "{}", differ.join("\n"));
}
