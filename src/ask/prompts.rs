//! From an item to its prompt, its layout and the rule its answer follows.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::files::Fnv;
use crate::generate::{
    Calling, CancelHandle, Constraint, Conversation, Format, Grammar, GrammarCompiler, Identity, Layout,
    Thinking, ToolChoice, ToolError,
};
use crate::text::{Message, Role, TemplateVariables, Tokenizer};

use super::{Form, Item, ItemError, Prepare, Rule};

/// Grammars that are kept compiled, as items often share one.
const KEPT_GRAMMARS: usize = 8;

/// Turns items into prompts and rules.
pub struct Prompts {
    format: Format,
    system: Option<String>,
    /// Of items that do not say.
    think: Option<Thinking>,
    /// Of items that have none.
    form: Option<Form>,
    tokenizer: Arc<Tokenizer>,
    compiler: OnceLock<GrammarCompiler>,
    /// Held while it is made, so that memory for one is enough.
    making: Mutex<()>,
    /// Why there is no memory for a grammar.
    refusal: Option<String>,
    /// The grammars used last, the last one at the end.
    recent: Mutex<Vec<(Grammar, Constraint)>>,
}

impl Prompts {
    /// Renders in this format.
    pub fn new(format: Format, tokenizer: Arc<Tokenizer>) -> Self {
        Self {
            format,
            system: None,
            think: None,
            form: None,
            tokenizer,
            compiler: OnceLock::new(),
            making: Mutex::new(()),
            refusal: None,
            recent: Mutex::new(vec![]),
        }
    }

    /// Tells the model this before every prompt that has no system prompt of its own.
    pub fn with_system(self, system: Option<&str>) -> Self {
        Self { system: system.map(str::to_owned), ..self }
    }

    /// Lets it think so where an item does not say.
    pub fn with_thinking(self, think: Option<Thinking>) -> Self {
        Self { think, ..self }
    }

    /// Holds answers to this form where an item has none.
    pub fn with_form(self, form: Option<Form>) -> Self {
        Self { form, ..self }
    }

    /// Refuses grammars of items for this reason, if there is one.
    pub fn without_grammars(self, refusal: Option<String>) -> Self {
        Self { refusal, ..self }
    }

    /// The format of prompts.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// A hash of what answers depend on besides items and options.
    pub fn basis(&self, identity: &Identity, context: usize) -> u64 {
        let Prompts { system, form, think, .. } = self;
        let mut hash = Fnv::default();
        identity.add_to(&mut hash);
        hash.add_number(context as u64);
        hash.add_text(system.as_deref().unwrap_or_default());
        hash.add_text(think.map_or("", Thinking::name));
        if let Some(form) = form {
            form.add_to(&mut hash);
        }
        hash.finish()
    }

    fn messages(&self, item: &Item) -> Vec<Message> {
        let has_own = item.messages.iter().flatten().any(|message| message.role == Role::System);
        let system = item.system.as_ref().or(self.system.as_ref().filter(|_| !has_own));
        let system =
            system.filter(|text| !text.trim().is_empty()).map(|text| Message::new(Role::System, text));
        let given = item.messages.iter().flatten().cloned();
        let prompt = item.prompt.as_ref().map(|prompt| Message::new(Role::User, prompt));
        system.into_iter().chain(given).chain(prompt).collect()
    }
}

impl Prompts {
    fn compiler(&self) -> Result<&GrammarCompiler, ItemError> {
        if let Some(compiler) = self.compiler.get() {
            return Ok(compiler);
        }
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone().into());
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiler) = self.compiler.get() {
            return Ok(compiler);
        }
        let new =
            GrammarCompiler::new(Arc::clone(&self.tokenizer)).map_err(|error| ItemError::new(&error))?;
        Ok(self.compiler.get_or_init(|| new))
    }
}

impl Prompts {
    /// Compiles a grammar, unless that was done before.
    fn constraint(&self, grammar: Grammar, cancel: &CancelHandle) -> Result<Constraint, ItemError> {
        let recent = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, constraint)) = recent().iter().find(|(known, _)| *known == grammar) {
            return Ok(constraint.clone());
        }
        let constraint = self.compiler()?.compile_unless(&grammar, cancel);
        let constraint = constraint.map_err(|error| ItemError::new(&error))?;
        let mut recent = recent();
        if recent.len() >= KEPT_GRAMMARS {
            recent.remove(0);
        }
        recent.push((grammar, constraint.clone()));
        Ok(constraint)
    }

    /// The functions that the item's answer may call.
    fn calling(&self, item: &Item) -> Result<Option<Calling>, ItemError> {
        let forms =
            [item.schema.is_some(), item.regex.is_some(), item.grammar.is_some(), item.choices.is_some()];
        let given = self.form.as_ref().and_then(Form::calling).filter(|_| !forms.contains(&true));
        if item.raw && item.tools.is_some() {
            return Err("tools need a chat template; leave raw out".into());
        }
        let calling = match (&item.tools, given, &item.tool_choice) {
            (Some(tools), _, choice) => {
                Calling::new(Arc::new(tools.clone()), choice.clone().unwrap_or_default()).map(Some)
            }
            (None, Some(given), Some(choice)) => given.with_choice(choice.clone()).map(Some),
            (None, None, Some(ToolChoice::Required | ToolChoice::Named(_))) => {
                let error = "tool_choice asks for a call; expected tools, a list of functions";
                return Err(ItemError::from(error).with_param("tool_choice"));
            }
            (None, given, _) => Ok(given.cloned()),
        };
        calling.map_err(|error| {
            ItemError::new(&error).with_param(match error {
                ToolError::UnknownChoice { .. } => "tool_choice",
                _ => "tools",
            })
        })
    }

    /// The variables of an item's template.
    fn variables(&self, item: &Item) -> Result<TemplateVariables, ItemError> {
        let mut variables = match &item.template_vars {
            None => TemplateVariables::default(),
            Some(own) => {
                let json = serde_json::to_string(own).map_err(|error| ItemError::new(&error))?;
                TemplateVariables::from_user_json(&json).map_err(|error| ItemError::new(&error))?
            }
        };
        variables.set_thinking(item.think.map(Thinking::is_asked));
        if let Some(calling) = self.calling(item)? {
            calling.tell(&mut variables);
        }
        Ok(variables)
    }
}

impl Prepare for Prompts {
    fn encode(&self, item: &Item, context: usize, tokens: &mut Vec<u32>) -> Result<(), ItemError> {
        if let Some(given) = &item.tokens {
            let size = self.tokenizer.vocab_size();
            if let Some(id) = given.iter().find(|id| **id as usize >= size) {
                return Err(format!("the prompt has token {id}; the vocabulary has {size}").into());
            }
            tokens.extend(given);
            return Ok(());
        }
        let is_raw = item.raw;
        match &self.format {
            Format::Template(template) if !is_raw => {
                let messages = self.messages(item);
                let longest = messages.iter().map(|message| message.content.len()).max().unwrap_or(0);
                self.tokenizer.check_length(longest, context).map_err(|error| ItemError::new(&error))?;
                let prompt = template.render_with(&messages, &self.variables(item)?);
                let prompt = prompt.map_err(|error| ItemError::new(&error))?;
                prompt.encode_within(context, &self.tokenizer, tokens).map_err(|error| ItemError::new(&error))
            }
            format => {
                let raw = Format::Raw { control: is_raw || matches!(format, Format::Raw { control: true }) };
                let prompt = item.prompt.as_ref().ok_or("messages need a chat template")?;
                let mut conversation = Conversation::new(item.system.as_deref().or(self.system.as_deref()));
                conversation.ask(prompt);
                let next = conversation.next(&raw, &self.tokenizer, context, 0);
                tokens.extend(next.map_err(|error| ItemError::new(&error))?.tokens);
                Ok(())
            }
        }
    }

    fn layout(&self, item: &Item) -> Result<Option<Layout>, ItemError> {
        let calling = self.calling(item)?;
        Ok(self.format.layout(&self.tokenizer, calling.as_ref()).filter(|_| !item.raw))
    }

    fn vocab_size(&self) -> usize {
        self.tokenizer.vocab_size()
    }

    fn hides_reasoning(&self, item: &Item) -> bool {
        item.think.or(self.think) == Some(Thinking::Hide)
    }

    fn rule(&self, item: &Item, cancel: &CancelHandle) -> Result<Rule, ItemError> {
        let forms = [
            item.schema.as_ref().map(|schema| Form::Grammar(Grammar::Schema(schema.to_string()))),
            item.regex.clone().map(|regex| Form::Grammar(Grammar::Regex(regex))),
            item.grammar.clone().map(|grammar| Form::Grammar(Grammar::Lark(grammar))),
            item.choices.clone().map(Form::Choices),
        ];
        let own = forms.into_iter().flatten().next();
        let given = self.form.clone().filter(|form| form.calling().is_none() && item.tools.is_none());
        let form = own.or(given);
        let grammar = match form {
            Some(Form::Choices(texts)) => return Ok(Rule::Choices(texts)),
            Some(Form::Grammar(grammar)) => grammar,
            Some(Form::Calls(_)) | None => {
                let calling = self.calling(item)?.filter(|_| !item.raw);
                let grammar = calling.map(|calling| self.format.calls(&calling, &self.tokenizer));
                let grammar = grammar.transpose().map_err(|error| ItemError::new(&error))?.flatten();
                let Some(grammar) = grammar else { return Ok(Rule::Free) };
                grammar
            }
        };
        let constraint = self.constraint(grammar, cancel)?;
        Ok(Rule::Filter(Box::new(constraint)))
    }
}
