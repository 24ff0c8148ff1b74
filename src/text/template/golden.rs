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

/// Renders every case of every template; returns the number of templates and of texts, and what differs.
fn compare(folder: &Path) -> (usize, usize, Vec<String>) {
    let golden = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    let golden: Golden = serde_json::from_str(&golden).unwrap();
    let (mut texts, mut differ) = (0, vec![]);
    for (name, cases) in &golden.expected {
        let source = std::fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
        let engine = match Engine::new(&source) {
            Ok(engine) => engine,
            Err(error) => {
                differ.push(format!("{name}: {error}"));
                continue;
            }
        };
        for (case, expected) in cases {
            let found = engine.render(with_clock(&golden.cases[case]));
            texts += usize::from(expected.is_some());
            match (expected, found) {
                (Some(expected), Ok(found)) if *expected == found => {}
                (None, Err(_)) => {}
                (expected, found) => differ.push(format!(
                    "{name} / {case}:\n  expected {expected:?}\n  found    {:?}",
                    found.map_err(|error| error.to_string())
                )),
            }
        }
    }
    (golden.expected.len(), texts, differ)
}

#[test]
fn templates_render_as_jinja2_does() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/templates");
    let other = std::env::var_os("SMOLT_TEMPLATES").map(PathBuf::from);
    for folder in [own].into_iter().filter(|f| f.join("golden.json").exists()).chain(other) {
        let (templates, texts, differ) = compare(&folder);
        println!("{}: {templates} templates, {texts} texts, {} differ", folder.display(), differ.len());
        assert!(templates >= 60 && texts >= 300, "{}: {templates}, {texts}", folder.display());
        assert!(differ.is_empty(), "{}", differ.join("\n"));
    }
}
