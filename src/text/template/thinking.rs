//! How templates ask for reasoning: as data, found by what a template mentions.

use std::borrow::Cow;

use minijinja::Value;

use super::{ChatTemplate, Message, Prompt, ReasoningMarks, Role, TemplateVariables};

/// Variables that turn reasoning on and off. All that a template mentions are set.
const SWITCHES: &[&str] = &["enable_thinking", "thinking", "enable_reasoning", "think"];

/// What a system message says to turn reasoning on and off, in templates that look for it and have no variable.
const FLAGS: (&str, &str) = ("/think", "/no_think");

impl ChatTemplate {
    /// What stands around the model's reasoning, if it has such marks.
    pub fn reasoning_marks(&self) -> Option<&'static ReasoningMarks> {
        self.marks
    }

    /// Whether reasoning can be turned on and off.
    pub fn can_switch_thinking(&self) -> bool {
        self.switches().next().is_some() || self.has_flags() || self.marks.is_some()
    }

    fn switches(&self) -> impl Iterator<Item = &'static str> {
        SWITCHES.iter().copied().filter(|name| self.uses(name))
    }

    fn has_flags(&self) -> bool {
        self.source.contains(FLAGS.1)
    }

    /// Messages and variables that ask for reasoning or none, as the template wants to be asked.
    pub(super) fn asked<'m>(
        &self,
        messages: &'m [Message],
        variables: TemplateVariables,
    ) -> (Cow<'m, [Message]>, TemplateVariables) {
        let Some(thinking) = variables.thinking else { return (Cow::Borrowed(messages), variables) };
        let mut switched = TemplateVariables::default();
        self.switches().for_each(|name| switched.put(name, Value::from(thinking)));
        if !switched.is_empty() || !self.has_flags() {
            return (Cow::Borrowed(messages), switched.overlaid(&variables));
        }
        let flag = if thinking { FLAGS.0 } else { FLAGS.1 };
        let mut messages = messages.to_vec();
        match messages.first_mut().filter(|first| first.role == Role::System) {
            Some(system) => system.content = format!("{}\n{flag}", system.content),
            None => messages.insert(0, Message::new(Role::System, flag)),
        }
        (Cow::Owned(messages), variables)
    }

    /// The prompt with reasoning that is over before it began, if none is wanted and the template has no other way.
    pub(super) fn closed(&self, mut prompt: Prompt, thinking: Option<bool>) -> Prompt {
        let has_way = self.switches().next().is_some() || self.has_flags();
        let Some(marks) = self.marks.filter(|_| thinking == Some(false) && !has_way) else { return prompt };
        let is_open = prompt.text.trim_end().ends_with(marks.open);
        let opening = if is_open { "" } else { marks.open };
        let space = if prompt.text.ends_with('\n') && is_open { "\n" } else { "\n\n" };
        prompt.text += &format!("{opening}{space}{}\n\n", marks.close);
        prompt
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tokenizer;
    use super::*;

    fn text(source: &str, thinking: Option<bool>, system: &str) -> String {
        let tokenizer = tokenizer(&["<|im_start|>", "<|im_end|>"], false);
        let mut template = ChatTemplate::compile(source, &tokenizer).unwrap();
        let mut variables = TemplateVariables::default();
        variables.set_thinking(thinking);
        template.set_variables(variables);
        let system = Some(Message::new(Role::System, system)).filter(|message| !message.content.is_empty());
        let messages: Vec<Message> = system.into_iter().chain([Message::new(Role::User, "Hi")]).collect();
        template.render(&messages).unwrap().text
    }

    const LOOP: &str = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}";

    #[test]
    fn templates_are_asked_as_they_want_to_be() {
        let variable = format!("{LOOP}{{% if enable_thinking is false %}}<think></think>{{% endif %}}");
        let other = format!("{LOOP}{{{{ 'T' if thinking else 'N' }}}}<think>");
        let flags =
            format!("{LOOP}{{% if '/no_think' in messages[0].content %}}<think></think>{{% endif %}}");
        let opened = format!("{LOOP}<think>\n");
        let unopened = format!("{LOOP}{{# models write <think> #}}");
        for (source, thinking, system, expected) in [
            (&variable, None, "", "user:Hi;"),
            (&variable, Some(true), "", "user:Hi;"),
            (&variable, Some(false), "S", "system:S;user:Hi;<think></think>"),
            (&other, Some(true), "", "user:Hi;T<think>"),
            (&other, Some(false), "", "user:Hi;N<think>"),
            (&flags, Some(true), "", "system:/think;user:Hi;"),
            (&flags, Some(false), "S", "system:S\n/no_think;user:Hi;<think></think>"),
            (&opened, Some(true), "", "user:Hi;<think>"),
            (&opened, Some(false), "", "user:Hi;<think>\n\n</think>\n\n"),
            (&unopened, Some(false), "", "user:Hi;<think>\n\n</think>\n\n"),
            (&LOOP.to_owned(), Some(false), "", "user:Hi;"),
        ] {
            assert_eq!(text(source, thinking, system), expected, "{source} {thinking:?}");
        }
    }

    #[test]
    fn a_variable_of_the_callers_own_counts_more() {
        let tokenizer = tokenizer(&["<|im_start|>", "<|im_end|>"], false);
        let mut template = ChatTemplate::compile("{{ thinking }} {{ enable_thinking }}", &tokenizer).unwrap();
        let mut variables = TemplateVariables::default();
        variables.set("thinking", "true").unwrap();
        variables.set_thinking(Some(false));
        let plain = template.fingerprint();
        template.set_variables(variables);
        assert_eq!(template.render(&[]).unwrap().text, "True False");
        assert_ne!(template.fingerprint(), plain);
    }

    #[test]
    fn words_in_texts_are_no_variables() {
        let tokenizer = tokenizer(&["<|im_start|>", "<|im_end|>"], false);
        let source = "{{ 'a thinking process' }} thinking {# thinking #}{{ my_thinking }}{{ x.think }}";
        let template = ChatTemplate::compile(source, &tokenizer).unwrap();
        assert!(!template.uses("thinking") && template.uses("my_thinking"));
        assert!(!template.can_switch_thinking());
    }

    #[test]
    fn marks_are_those_of_the_template_or_the_vocabulary() {
        let open = |source: &str, added: &[&str]| {
            let tokenizer = tokenizer(added, false);
            Some(ChatTemplate::compile(source, &tokenizer).unwrap().reasoning_marks()?.open)
        };
        assert_eq!(open("{{ 1 }}", &["<s>", "</s>"]), None);
        assert_eq!(open("{{ c.split('</think>') }}", &["<s>", "</s>"]), Some("<think>"));
        assert_eq!(open("{{ 1 }}", &["<s>", "</s>", "[THINK]", "[/THINK]"]), Some("[THINK]"));
        assert_eq!(open("{{ 1 }}", &["<s>", "</s>", "<think>"]), None);
        let both = "Here is my thought process: Here is my response:";
        assert_eq!(open(both, &["<s>", "</s>"]), Some("Here is my thought process:"));
    }
}
