//! What the commands do.

use std::path::{Path, PathBuf};

use super::super::error::{ChatError, CliError, Exit};
use super::super::memory::show_bytes;
use super::super::output::{note, say};
use super::commands::{self, Action};
use super::engine::Engine;
use super::here::Here;
use super::talk::Talk;
use super::{editor, load_settings, report, settings};
use crate::text::EncodeOptions;

/// What to do after a line.
pub(super) enum Flow {
    Continue,
    Leave(Exit),
    /// Go on with another model.
    Switch(PathBuf),
    /// Go on with the model loaded anew: this setting has this value.
    Reload(&'static str, String),
}

impl From<Option<Exit>> for Flow {
    fn from(exit: Option<Exit>) -> Flow {
        exit.map_or(Flow::Continue, Flow::Leave)
    }
}

/// Does what a command says; `argument` is what followed it.
///
/// # Errors
/// If it cannot be done; then all is as before.
pub(super) fn act(
    action: Action,
    argument: &str,
    engine: &mut Engine,
    talk: &mut Talk,
) -> Result<Flow, CliError> {
    match action {
        Action::Help => say(&commands::help()),
        Action::Exit => return Ok(Flow::Leave(Exit::Ok)),
        Action::Reset => {
            talk.conversation.clear();
            note("all turns are forgotten");
        }
        Action::Retry => return Ok(talk.retry(engine, None)?.into()),
        Action::Continue => return Ok(talk.more(engine)?.into()),
        Action::Undo => undo(talk)?,
        Action::Edit => return edit(engine, talk),
        Action::Result => return Ok(talk.result(engine, argument)?.into()),
        Action::System => system(argument, talk),
        Action::Set if argument.is_empty() => say(&report::settings(&talk.settings, engine)),
        Action::Set => {
            let (name, value) = settings::split(argument);
            if let Some(name) = load_settings::NAMES.iter().find(|known| **known == name) {
                engine.here("set").map_err(|_| ChatError::SettingElsewhere { name })?;
                return Ok(Flow::Reload(name, value.to_owned()));
            }
            let mut changed = talk.settings.clone();
            changed.set(argument, &talk.start)?;
            talk.interrupts.during(|cancel| engine.check(changed.form.as_ref(), cancel))?;
            if matches!(name.as_str(), "template_var" | "think" | "answer") {
                engine.set_variables(&changed);
            }
            talk.settings = changed;
        }
        Action::Show if argument == "history" => say(&report::history(&talk.conversation)),
        Action::Show => say(&report::overview(&talk.conversation, &talk.settings, engine)),
        Action::Context => say(&report::context(&talk.conversation, engine)),
        Action::Stats => {
            let reply = talk.last.as_ref().ok_or(ChatError::NothingSaid)?;
            say(&report::stats(reply, engine));
        }
        Action::Tokens => tokens(argument, engine.here("tokens")?, talk)?,
        Action::Save => {
            let path = file(argument, "save")?;
            let bytes = talk.save_copy(engine.here("save")?, path)?;
            note(format_args!("saved in {}, {}", path.display(), show_bytes(bytes)));
        }
        Action::Load => {
            let path = file(argument, "load")?;
            talk.load(engine.here("load")?, path)?;
            let turns = talk.conversation.turns().len();
            note(format_args!("going on with {} after {}", path.display(), report::turns(turns)));
        }
        Action::Model if argument.is_empty() => say(&report::model(engine)),
        Action::Model => return Ok(engine.here("model").map(|_| Flow::Switch(argument.into()))?),
    }
    Ok(Flow::Continue)
}

fn file<'a>(argument: &'a str, command: &'static str) -> Result<&'a Path, ChatError> {
    match argument {
        "" => Err(ChatError::Missing { command, missing: "the name of a file" }),
        name => Ok(Path::new(name)),
    }
}

fn undo(talk: &mut Talk) -> Result<(), ChatError> {
    let message = talk.conversation.undo().ok_or(ChatError::NothingSaid)?.user;
    let line: String = message.lines().next().unwrap_or_default().chars().take(60).collect();
    note(format_args!("taken back: {}", line.escape_debug()));
    Ok(())
}

fn edit(engine: &mut Engine, talk: &mut Talk) -> Result<Flow, CliError> {
    let last = talk.conversation.turns().last().map(|turn| turn.user.clone());
    let text = editor::edit(last.as_deref().unwrap_or_default())?;
    if text.trim().is_empty() {
        note("the message is empty; nothing is asked");
        return Ok(Flow::Continue);
    }
    say(&text);
    let exit = if last.is_some() { talk.retry(engine, Some(&text))? } else { talk.ask(engine, &text)? };
    Ok(exit.into())
}

fn system(argument: &str, talk: &mut Talk) {
    match argument {
        "" => say(&report::system(&talk.conversation)),
        "none" => talk.conversation.set_system(None),
        text => talk.conversation.set_system(Some(super::message::content(text))),
    }
}

fn tokens(argument: &str, here: &Here, talk: &Talk) -> Result<(), CliError> {
    let tokenizer = here.loaded.session.tokenizer();
    if argument.is_empty() {
        let reply = talk.last.as_ref().ok_or(ChatError::NothingSaid)?;
        say(&report::tokens(&reply.tokens, tokenizer));
        return Ok(());
    }
    let mut ids = vec![];
    tokenizer.encode(argument, EncodeOptions { add_special: false, parse_special: false }, &mut ids)?;
    say(&report::tokens(&ids, tokenizer));
    Ok(())
}
