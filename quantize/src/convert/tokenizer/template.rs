//! Chat templates: chat_template.jinja, else `chat_template` of tokenizer_config.json.

use std::path::Path;

use serde_json::Value;
use smolt::files::read_text_if_there;
use smolt::gguf::GgufWriter;

use crate::convert::ConvertError;
use crate::convert::json::Object;

/// Bytes of a template file.
const MAX_TEMPLATE_BYTES: u64 = 1 << 22;
const KEY: &str = "tokenizer.chat_template";

/// Sets the keys of the chat templates, if there are any.
pub(super) fn describe(
    folder: &Path,
    tokenizer_config: Option<&Object<'_>>,
    writer: &mut GgufWriter,
) -> Result<(), ConvertError> {
    let path = folder.join("chat_template.jinja");
    if let Some(template) = read_text_if_there(&path, MAX_TEMPLATE_BYTES)? {
        // Jinja reads every line end as a line feed.
        writer.set(KEY, template.replace("\r\n", "\n"));
        return Ok(());
    }
    let Some(config) = tokenizer_config else { return Ok(()) };
    match config.get("chat_template") {
        Some(Value::String(template)) => {
            writer.set(KEY, template.as_str());
        }
        Some(Value::Array(templates)) => named(config, templates, writer)?,
        Some(_) => return Err(bad(config)),
        None => {}
    }
    Ok(())
}

fn named(config: &Object<'_>, templates: &[Value], writer: &mut GgufWriter) -> Result<(), ConvertError> {
    let mut names = Vec::new();
    for entry in templates {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let (Some(name), Some(template)) = (text("name"), text("template")) else { return Err(bad(config)) };
        if name == "default" {
            writer.set(KEY, template);
            continue;
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_name) || names.iter().any(|other| other == name) {
            return Err(bad(config));
        }
        writer.set(format!("{KEY}.{name}"), template);
        names.push(name.to_owned());
    }
    if !names.is_empty() {
        writer.set("tokenizer.chat_templates", names);
    }
    Ok(())
}

fn bad(config: &Object<'_>) -> ConvertError {
    config.bad("chat_template", "a template, or a list of objects with different `name`s and a `template`")
}
