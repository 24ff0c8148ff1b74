//! The Jinja engine: minijinja, set up as Hugging Face sets up Jinja2, within bounds.
//!
//! A template is untrusted. Its fuel pays for every instruction, every byte of every text and every slot of every
//! list it makes, before they are made, and for all that it looks into ([`super::cost`]). There is more of it the more
//! the template is given. Nesting of blocks and calls is bounded, and so is the rendered text. Expressions may be as long as the
//! template and values as deep as the fuel allows, and both are walked by recursion, so that compiling and rendering
//! run on a stack of their own.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

use super::date::Time;
use super::tags::{self, Tags};
use super::{MAX_TEMPLATE_BYTES, TemplateError, cost, guard, python};

/// Work a template may do; a unit is one instruction or 64 bytes of text.
const FUEL: u64 = 1 << 17;
/// More of it for every value that the template is given, for every so many bytes of text, and the most.
const FUEL_PER_VALUE: u64 = 1 << 9;
const BYTES_PER_FUEL: u64 = 4;
const MAX_FUEL: u64 = 1 << 22;
/// Nesting of loops, conditions and macro calls.
const MAX_RECURSION: usize = 128;
/// Bytes of the rendered text, and more of them for every byte that the template is given.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
const OUTPUT_PER_BYTE: usize = 4;
/// Bytes of one tag; the longest published ones have about 6000. The compiler's time grows with their square.
const MAX_TAG_BYTES: usize = 1 << 14;
/// Stack for compiling and rendering.
const STACK_BYTES: usize = 256 << 20;
/// Characters of a template's own message that are shown.
const SHOWN_CHARS: usize = 300;
const NAME: &str = "chat_template";

/// A compiled template.
#[derive(Debug)]
pub(super) struct Engine {
    environment: Environment<'static>,
}

impl Engine {
    /// For a chat template.
    pub(super) fn new(source: &str) -> Result<Engine, TemplateError> {
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        Engine::build(source, syntax, |environment| {
            environment.add_function("raise_exception", raise_exception);
        })
    }

    /// For a template over a document: line ends stay, and what is not defined is an error.
    pub(super) fn for_documents(source: &str) -> Result<Engine, TemplateError> {
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        Engine::build(source, syntax, |environment| {
            environment.set_undefined_behavior(UndefinedBehavior::Strict);
            environment.set_formatter(python::write_repr);
        })
    }

    fn build(
        source: &str,
        syntax: Result<SyntaxConfig, Error>,
        set_up: impl FnOnce(&mut Environment<'static>),
    ) -> Result<Engine, TemplateError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError::TooLarge { found: source.len(), limit: MAX_TEMPLATE_BYTES });
        }
        let syntax_error =
            |error: Error| -> TemplateError { TemplateError::Syntax { message: shown(&error) } };
        let mut environment = Environment::new();
        environment.set_recursion_limit(MAX_RECURSION);
        let syntax = syntax.map_err(syntax_error)?;
        environment.set_syntax(syntax.clone());
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        python::install(&mut environment);
        cost::install(&mut environment);
        set_up(&mut environment);
        let source = tags::prepare(source);
        let longest = Tags::of(&source).map(|tag| tag.len()).max().unwrap_or(0);
        if longest > MAX_TAG_BYTES {
            let message = format!("a tag has {longest} bytes, the limit is {MAX_TAG_BYTES}");
            return Err(TemplateError::Syntax { message });
        }
        on_own_stack(|| {
            let source = guard::guard(&source, NAME, syntax).map_err(syntax_error)?;
            environment.add_template_owned(NAME, source).map_err(syntax_error)?;
            Ok(Engine { environment })
        })
    }

    /// The text of the template with the variables of `root`.
    pub(super) fn render(&self, root: Value) -> Result<String, TemplateError> {
        on_own_stack(|| {
            let (values, bytes) = cost::size(&root);
            let more = values.saturating_mul(FUEL_PER_VALUE).saturating_add(bytes / BYTES_PER_FUEL);
            let fuel = FUEL.saturating_add(more).min(MAX_FUEL);
            let limit = MAX_OUTPUT_BYTES.saturating_add((bytes as usize).saturating_mul(OUTPUT_PER_BYTE));
            let mut environment = self.environment.clone();
            environment.set_fuel(Some(fuel));
            let template = environment.get_template(NAME).map_err(|error| render_error(&error, fuel))?;
            let mut output = Output { text: vec![], limit, is_over: false };
            let rendered = template.render_captured_to(root, &mut output).map(drop);
            if output.is_over {
                return Err(TemplateError::OutputTooLarge { limit });
            }
            rendered.map_err(|error| render_error(&error, fuel))?;
            String::from_utf8(output.text)
                .map_err(|_| TemplateError::Render { message: "not UTF-8".to_owned() })
        })
    }
}

/// The text that is rendered, up to a limit.
struct Output {
    text: Vec<u8>,
    limit: usize,
    is_over: bool,
}

impl std::io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() > self.limit.saturating_sub(self.text.len()) {
            self.is_over = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Does `work` where recursion as deep as a template of the largest size or the fuel allows does not overflow the
/// stack. Pages of it that are not used take no memory.
fn on_own_stack<T: Send>(work: impl FnOnce() -> Result<T, TemplateError> + Send) -> Result<T, TemplateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(NAME.to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work).map_err(|source| TemplateError::Thread { source })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The function `strftime_now` of one rendering.
pub(super) fn strftime_now(now: Time) -> Value {
    Value::from_function(move |format: &str| {
        now.format(format).map_err(|directive| {
            Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not know {directive}"))
        })
    })
}

/// Marks errors that a template raises itself.
#[derive(Debug, thiserror::Error)]
#[error("raised by the template")]
struct Raised;

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()).with_source(Raised))
}

fn render_error(error: &Error, fuel: u64) -> TemplateError {
    let mut innermost = error;
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.is::<Raised>() {
            return TemplateError::Refused { message: shown(&innermost.detail().unwrap_or_default()) };
        }
        innermost = inner.downcast_ref().unwrap_or(innermost);
        source = inner.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => TemplateError::OutOfFuel { limit: fuel },
        _ => TemplateError::Render { message: shown(error) },
    }
}

/// Text from a template, cut and without control characters, as it goes to a terminal.
fn shown(text: &dyn std::fmt::Display) -> String {
    let text = text.to_string();
    text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
