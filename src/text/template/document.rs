//! Templates of evaluation tasks: Jinja over the fields of a document, as lm-evaluation-harness sets up Jinja2.
//! Lists are written as Python writes them, and what a document does not have is an error.

use minijinja::Value;
use minijinja::value::Serde;

use super::engine::Engine;
use super::{MAX_MESSAGE_BYTES, TemplateError};

/// A compiled template over documents. It is bounded as a chat template is.
#[derive(Debug)]
pub struct DocumentTemplate {
    engine: Engine,
}

impl DocumentTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// If it is too large or not valid.
    pub fn compile(source: &str) -> Result<DocumentTemplate, TemplateError> {
        Ok(DocumentTemplate { engine: Engine::for_documents(source)? })
    }

    /// The text of the template for a document.
    ///
    /// # Errors
    /// If the template fails, takes too long or makes more text than a conversation may have.
    pub fn render(
        &self,
        document: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<String, TemplateError> {
        let text = self.engine.render(Value::from(Serde(document)))?;
        let limit = MAX_MESSAGE_BYTES;
        if text.len() > limit { Err(TemplateError::OutputTooLarge { limit }) } else { Ok(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, document: serde_json::Value) -> Result<String, TemplateError> {
        let document = document.as_object().unwrap().clone();
        DocumentTemplate::compile(source)?.render(&document)
    }

    /// Expected texts are those of Jinja2 3.1 with `StrictUndefined` and `keep_trailing_newline`.
    #[test]
    fn documents_are_written_as_jinja2_does() {
        let document = serde_json::json!({
            "q": "Who?", "n": 3, "x": 0.5, "yes": true, "none": null,
            "list": ["a", "it's", "say \"hi\"", "line\nbreak", "both ' and \"", 1, 2.0, false],
            "map": {"k": ["v"]},
        });
        for (source, expected) in [
            ("Q: {{q}}\nA:", "Q: Who?\nA:"),
            ("{{q}}\n", "Who?\n"),
            ("{% if n > 2 %}\nmany{% endif %}", "\nmany"),
            ("{{n}} {{x}} {{yes}} {{none}}", "3 0.5 True None"),
            ("{{list}}", r#"['a', "it's", 'say "hi"', 'line\nbreak', 'both \' and "', 1, 2.0, False]"#),
            ("{{map}} {{map.k[0]}}", "{'k': ['v']} v"),
            ("{{[q, n|string]}}", "['Who?', '3']"),
            ("{{[q] + list[1:2]}} {{([n] + [q]).index(q)}}", "['Who?', \"it's\"] 1"),
            ("{{list.index(\"it's\")}} {{q.strip('?')|lower}}", "1 who"),
        ] {
            assert_eq!(render(source, document.clone()).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        for source in
            ["{{missing}}", "{{missing|trim}}", "{{missing|lower}}", "{{missing|tojson}}", "{{missing.of}}"]
        {
            let error = render(source, serde_json::json!({}));
            assert!(matches!(error, Err(TemplateError::Render { .. })), "{source} {error:?}");
        }
        assert!(matches!(render("{{", serde_json::json!({})), Err(TemplateError::Syntax { .. })));
    }
}
