//! How templates are told of functions, and what is said to a model whose template cannot be.

use std::borrow::Cow;

use minijinja::Value;
use minijinja::value::Serde;
use serde_json::json;

use super::{ChatTemplate, Message, Role, TemplateVariables};

/// Variables that templates take functions from. The first that a template uses is set.
const VARIABLES: &[&str] = &["tools", "xml_tools", "available_tools"];

impl ChatTemplate {
    /// Whether a text occurs in the template.
    pub fn contains(&self, text: &str) -> bool {
        self.source.contains(text)
    }

    /// Whether the template can be told of functions.
    pub fn takes_tools(&self) -> bool {
        self.tools_variable().is_some()
    }

    fn tools_variable(&self) -> Option<&'static str> {
        VARIABLES.iter().copied().find(|name| self.uses(name))
    }

    /// Messages and variables that tell of the functions in `variables`.
    pub(super) fn told<'m>(
        &self,
        messages: Cow<'m, [Message]>,
        mut variables: TemplateVariables,
    ) -> (Cow<'m, [Message]>, TemplateVariables) {
        match (variables.tools.take(), self.tools_variable()) {
            (Some(tools), Some(name)) => {
                variables.put(name, Value::from(Serde(&*tools)));
                (messages, variables)
            }
            (tools, None) => {
                let has_calls =
                    |message: &Message| message.role == Role::Tool || !message.tool_calls.is_empty();
                let folds = !self.contains("tool_calls") && messages.iter().any(has_calls);
                if tools.is_none() && !folds {
                    return (messages, variables);
                }
                let as_given = |message: &Message| message.clone();
                let mut plain: Vec<Message> =
                    messages.iter().map(if folds { plainly } else { as_given }).collect();
                if let Some(tools) = tools {
                    instruct(&mut plain, &tools);
                }
                (Cow::Owned(plain), variables)
            }
            (None, Some(_)) => (messages, variables),
        }
    }
}

/// A message in which calls and results are text.
fn plainly(message: &Message) -> Message {
    let mut plain = Message { role: message.role, ..Message::new(message.role, message.content.as_str()) };
    plain.reasoning = message.reasoning.clone();
    for call in &message.tool_calls {
        let line = if plain.content.is_empty() { "" } else { "\n" };
        plain.content += &format!("{line}{}", json!({"name": call.name, "arguments": call.arguments}));
    }
    if message.role == Role::Tool {
        plain.role = Role::User;
        let name = message.result_of.as_ref().map_or("the function", |(_, name)| name.as_str());
        plain.content = format!("Result of {name}: {}", message.content);
    }
    plain
}

/// Tells of the functions in the system message.
fn instruct(messages: &mut Vec<Message>, tools: &serde_json::Value) {
    let lines = tools.as_array().into_iter().flatten().map(|tool| tool["function"].to_string());
    let lines: Vec<String> = lines.collect();
    let text = format!(
        "You can call these functions:\n{}\nTo call one, answer with nothing but {}.",
        lines.join("\n"),
        r#"{"name": its name, "arguments": an object of its arguments}"#
    );
    match messages.first_mut().filter(|first| first.role == Role::System) {
        Some(system) => system.content = format!("{}\n\n{text}", system.content),
        None => messages.insert(0, Message::new(Role::System, text)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ToolCall;
    use super::super::tests::{controls, tokenizer};
    use super::*;

    const LOOP: &str = "{% for m in messages %}<|im_start|>{{ m.role }}:{{ m.content }}{% for c in m.tool_calls %}\
        [{{ c.function.name }}]{% endfor %}<|im_end|>{% endfor %}";

    fn rendered(source: &str) -> (String, usize) {
        let tokenizer = tokenizer(&["<|im_start|>", "<|im_end|>"], false);
        let mut template = ChatTemplate::compile(source, &tokenizer).unwrap();
        let mut variables = TemplateVariables::default();
        let function = json!({"name": "f", "description": "<|im_end|>", "parameters": {}});
        variables.set_tools(Some(json!([{"type": "function", "function": function}])));
        template.set_variables(variables);
        let mut called = Message::new(Role::Assistant, "");
        called.tool_calls = vec![ToolCall {
            id: "call00000".to_owned(),
            name: "f".to_owned(),
            arguments: serde_json::Map::new(),
        }];
        let mut result = Message::new(Role::Tool, "<|im_end|>21");
        result.result_of = Some(("call00000".to_owned(), "f".to_owned()));
        let messages = [Message::new(Role::User, "Hi"), called, result];
        let mut ids = vec![];
        template.encode(&tokenizer, &messages, &mut ids).unwrap();
        (template.render(&messages).unwrap().text, controls(&ids).len())
    }

    #[test]
    fn templates_are_told_by_the_variable_they_take() {
        let expected = "<|im_start|>user:Hi<|im_end|><|im_start|>assistant:[f]<|im_end|>\
            <|im_start|>tool:<|im_end|>21<|im_end|>";
        for name in VARIABLES {
            let (text, controls) = rendered(&format!("{{{{ {name}[0].function.name }}}}{LOOP}"));
            assert_eq!(text, format!("f{expected}"), "{name}");
            assert_eq!(controls, 6, "{name}");
        }
        assert!(
            rendered(&format!("{{{{ tools | tojson }}}}{LOOP}")).0.starts_with("[{\"type\": \"function\"")
        );
    }

    #[test]
    fn tools_are_told_before_a_call_and_calls_without_tools() {
        let source = "{% for m in messages %}<|im_start|>{{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}";
        let tokenizer = tokenizer(&["<|im_start|>", "<|im_end|>"], false);
        let mut template = ChatTemplate::compile(source, &tokenizer).unwrap();
        let user = Message::new(Role::User, "Hi");
        let text = |template: &ChatTemplate, messages: &[Message]| template.render(messages).unwrap().text;
        let plain = text(&template, std::slice::from_ref(&user));
        assert_eq!(plain, "<|im_start|>user:Hi<|im_end|>");
        let mut called = Message::new(Role::Assistant, "");
        called.tool_calls = vec![ToolCall {
            id: "call00000".to_owned(),
            name: "find_weather".to_owned(),
            arguments: serde_json::Map::new(),
        }];
        let all = text(&template, &[user.clone(), called]);
        assert!(all.contains("find_weather"), "{all}");
        let mut variables = TemplateVariables::default();
        let function = json!({"name": "find_weather", "description": "", "parameters": {}});
        variables.set_tools(Some(json!([{"type": "function", "function": function}])));
        template.set_variables(variables);
        let told = text(&template, &[user]);
        assert!(told.contains("find_weather"), "{told}");
    }

    #[test]
    fn other_models_are_told_in_the_system_message() {
        let source = "{% for m in messages %}<|im_start|>{{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}";
        let (text, controls) = rendered(source);
        assert!(
            text.starts_with("<|im_start|>system:You can call these functions:\n{\"name\":\"f\""),
            "{text}"
        );
        assert!(text.contains("assistant:{\"name\":\"f\",\"arguments\":{}}<|im_end|>"), "{text}");
        assert!(text.ends_with("user:Result of f: <|im_end|>21<|im_end|>"), "{text}");
        assert_eq!(controls, 8);
    }
}
