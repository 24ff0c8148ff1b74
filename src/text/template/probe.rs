//! Finds out in which form what is said arrives in a prompt: a rendering of a made-up conversation shows it.

use minijinja::Value;

use super::arrival::{Arrival, Form};
use super::{ChatTemplate, Input, Message, Role, TemplateError, Tokenizer};

/// Words that no template has.
const WORDS: [(Role, &str); 3] =
    [(Role::User, "qvexujibaz"), (Role::Assistant, "wozukyfept"), (Role::User, "jiboxudarm")];
const SYSTEM: &str = "zykovamerq";

/// Finds out what arrives.
struct Probe<'a> {
    template: &'a ChatTemplate,
    found: Arrival,
    /// It cannot be found out.
    is_over: bool,
}

impl Probe<'_> {
    fn run(mut self) -> Arrival {
        let [(_, user), (_, answer), _] = WORDS;
        if self.form(|found, form| found.user = form, user, (false, 1)) != Form::Lost {
            self.form(|found, form| found.assistant = form, answer, (false, 3));
            // What is lost there goes to the user.
            if self.form(|found, form| found.system = form, SYSTEM, (true, 1)) == Form::Lost {
                self.found.system = Form::Text;
            }
        }
        if self.is_over { Arrival::default() } else { self.found }
    }

    /// The form in which `word` arrives.
    fn form(&mut self, set: impl Fn(&mut Arrival, Form), word: &str, (system, turns): (bool, usize)) -> Form {
        let mut form = Form::Text;
        for wanted in [Form::Text, Form::Parts] {
            set(&mut self.found, wanted);
            match self.text(system, turns) {
                Some(text) if place(&text, core(word)).is_some() => return wanted,
                // A template that fails says why when it is used.
                text if wanted == Form::Text && text.is_some() => form = Form::Lost,
                _ => {}
            }
        }
        set(&mut self.found, form);
        form
    }

    /// The text of the first `turns` of the conversation, or nothing where the template fails.
    fn text(&mut self, system: bool, turns: usize) -> Option<String> {
        if self.is_over {
            return None;
        }
        let input = Input::new(&conversation(system, turns), &self.template.variables);
        match self.template.engine.render(self.template.root(&input, &self.found)) {
            Ok(text) => Some(text),
            Err(error) => {
                self.is_over |= !is_own(&error);
                None
            }
        }
    }
}

fn conversation(system: bool, turns: usize) -> Vec<Message> {
    let system = system.then_some((Role::System, SYSTEM));
    let turns = system.into_iter().chain(WORDS.into_iter().take(turns));
    turns.map(|(role, word)| Message::new(role, word)).collect()
}

/// A word but for its ends, which a template may cut off.
fn core(word: &str) -> &str {
    &word[1..word.len() - 1]
}

/// Where a word of the conversation is in the text; a template may change its case.
fn place(text: &str, word: &str) -> Option<usize> {
    text.to_ascii_lowercase().rfind(word)
}

/// Whether the template fails because of what it is given.
fn is_own(error: &TemplateError) -> bool {
    matches!(error, TemplateError::Refused { .. } | TemplateError::Render { .. })
}

impl ChatTemplate {
    /// The text of the prompt. Where contents do not stand in it as they are, they are given in the form in which they
    /// arrive.
    pub(super) fn text(&self, input: &Input) -> Result<String, TemplateError> {
        let render = |arrival: &Arrival| self.engine.render(self.root(input, arrival));
        if let Some(known) = self.arrival.get() {
            return render(known);
        }
        let text = render(&Arrival::default());
        match &text {
            Ok(text) if input.contents.iter().all(|content| has(text, content)) => {}
            // What fails without a look at contents fails in any form.
            Err(error) if !is_own(error) || !self.source.contains("content") => {}
            _ => {
                let probe = Probe { template: self, found: Arrival::default(), is_over: false };
                return render(self.arrival.get_or_init(|| probe.run()));
            }
        }
        text
    }

    /// The token that the template writes behind an answer: there the model's own ends too.
    pub fn turn_end(&self, tokenizer: &Tokenizer) -> Option<u32> {
        let [_, (_, answer), _] = WORDS;
        let text = self.text(&Input::new(&conversation(false, WORDS.len()), &self.variables)).ok()?;
        let at = place(&text, answer)? + answer.len();
        tokenizer.leading_added(text[at..].trim_start())
    }
}

/// Whether a text has all of a content but white space around it.
fn has(text: &str, content: &Value) -> bool {
    content.as_str().is_none_or(|content| text.contains(content.trim()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{controls, tokenizer};
    use super::*;

    const PARTS: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}\
        {% if part.type == 'text' %}{{ part.text | trim }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}\
        {{ '<|im_start|>assistant\n' }}";

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::compile(source, &tokenizer(&["<|im_start|>", "<|im_end|>"], false)).unwrap()
    }

    fn talk() -> Vec<Message> {
        [
            (Role::System, "Be kind."),
            (Role::User, "Hi <|im_end|>"),
            (Role::Assistant, "Yes?"),
            (Role::User, "Go"),
        ]
        .map(|(role, text)| Message::new(role, text))
        .into()
    }

    #[test]
    fn templates_of_typed_parts_see_every_message() {
        let expected = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi <|im_end|><|im_end|>\n\
                        <|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\nGo<|im_end|>\n\
                        <|im_start|>assistant\n";
        let tokenizer = tokenizer(&["<|im_start|>", "<|im_end|>"], false);
        for source in [
            PARTS.to_owned(),
            PARTS.replace("m.content", "m['content']").replace("part.type == 'text'", "part.text is defined"),
            // The text of the first part.
            PARTS
                .replace("{% for part in m.content %}", "{% set part = m.content[0] %}")
                .replace("{% endif %}{% endfor %}<", "{% endif %}<"),
            // It fails with text.
            PARTS.replace("m.content %}", "m.content | selectattr('type', 'equalto', 'text') %}"),
        ] {
            let template = template(&source);
            let prompt = template.render(&talk()).unwrap();
            assert_eq!(prompt.text, expected, "{source}");
            let mut ids = vec![];
            prompt.encode(&tokenizer, &mut ids).unwrap();
            assert_eq!(controls(&ids).len(), 9, "the user wrote none");
        }
    }

    #[test]
    fn each_role_has_the_form_that_arrives() {
        let mixed = "{% for m in messages %}{% if m.role == 'user' %}U{{ m.content[0].text }}\
            {% elif m.role == 'system' %}S{{ m.content }}{% else %}A{{ m.content }}{% endif %}{% endfor %}";
        assert_eq!(template(mixed).render(&talk()).unwrap().text, "SBe kind.UHi <|im_end|>AYes?UGo");
        let either = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}\
            {{ m.content[0].text }}!{% endif %}{% endfor %}";
        assert!(!template(either).render(&talk()).unwrap().text.contains('!'), "text where text will do");
        let loud = "{% for m in messages %}{{ m.content | upper }}{% endfor %}";
        assert_eq!(template(loud).render(&talk()[1..]).unwrap().text, "HI <|IM_END|>YES?GO");
    }

    #[test]
    fn what_would_be_lost_is_refused() {
        let user = "{% for m in messages %}{% if m.role != 'user' %}{{ m.content }}{% endif %}{% endfor %}";
        let answers =
            "{% for m in messages %}{% if m.role != 'assistant' %}{{ m.content }}{% endif %}{% endfor %}";
        for (source, role) in [(user, "user"), (answers, "assistant"), ("{{ messages | length }}", "user")] {
            let error = template(source).render(&talk()[1..]).unwrap_err();
            assert!(matches!(error, TemplateError::Lost { role: lost } if lost == role), "{source}: {error}");
        }
        let blank = Message::new(Role::User, " ");
        assert!(template(user).render(&[blank]).is_ok(), "nothing to lose");
        assert!(template(answers).render(&talk()[..2]).is_ok());
        assert!(matches!(template("{{ x() }}").render(&talk()).unwrap_err(), TemplateError::Render { .. }));
    }

    #[test]
    fn the_token_behind_an_answer_ends_one() {
        let tokenizer = tokenizer(&["<s>", "<|stop|>", "<|im_end|>"], false);
        let end = |source: &str| ChatTemplate::compile(source, &tokenizer).unwrap().turn_end(&tokenizer);
        let turns =
            |inner: &str| format!("{{% for m in messages %}}<s>{{{{ m.role }}}}\n{inner}{{% endfor %}}");
        assert_eq!(end(&turns("{{ m.content }}<|stop|>\n")), Some(257));
        assert_eq!(end(&turns("{{ m.content }} \n{{ '<|stop|>' }}")), Some(257));
        assert_eq!(end(&turns("{% for part in m.content %}{{ part.text }}{% endfor %}<|stop|>")), Some(257));
        assert_eq!(end(&turns("{{ m.content }}\n")), Some(256), "the next turn begins");
        assert_eq!(end(&turns("{{ m.content }}, he said. <|stop|>")), None);
    }
}
