//! `smolt preset`: a model with its settings under one name.

use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind as ClapError;
use clap::{Arg, ArgMatches, Command, FromArgMatches};

use super::chat::ChatArgs;
use super::error::{CliError, Exit, PresetError};
use super::models::is_wanted;
use super::named::{Named, named};
use super::output::{self, note};
use super::presets::{EXTENSION, Row, exists, folder, none, read, remove, rows};
use super::run::RunArgs;
use super::settings::{self, MODEL, Setting, key_of};
use super::value::{is_number, is_switch};
use super::{default, demo};
use crate::files::write_whole;
use crate::store::{Store, check_alias};

/// Arguments of `smolt preset`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
A preset is a model with its settings: the file NAME.toml in the folder presets beside config.toml, with the same keys
(see smolt help config). Its name stands where a model stands. What is typed wins over the preset, the preset over
variables and configuration files. smolt rm removes it too.

Examples:
  smolt preset save museum -m small --system \"You are the guide of a museum.\" --temp 0.2
  smolt run museum \"When do you open?\"
  smolt chat museum
  smolt preset show museum
  smolt preset rm museum"
)]
pub struct PresetArgs {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// Keep a model with settings under a name, or change what is kept
    Save(Save),
    /// List presets
    #[command(alias = "ls")]
    List(List),
    /// Show what a preset sets
    Show(Show),
    /// Remove presets
    #[command(aliases = ["remove", "delete"])]
    Rm(Remove),
}

#[derive(Clone, Debug, Default, clap::Args)]
struct List {
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct Show {
    /// The preset
    name: PathBuf,

    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct Remove {
    /// Presets
    #[arg(value_name = "NAME", required = true)]
    names: Vec<PathBuf>,

    /// Ask nothing
    #[arg(short, long)]
    yes: bool,
}

/// What `smolt preset save` was given.
#[derive(Clone, Debug)]
struct Save {
    name: String,
    /// Keys and values, as typed.
    values: Vec<(String, String)>,
}

/// The options that a preset may keep: those of run and chat that have a key.
fn kept() -> Vec<Arg> {
    let commands = [
        <RunArgs as clap::Args>::augment_args(Command::new("run")),
        <ChatArgs as clap::Args>::augment_args(Command::new("chat")),
    ];
    let mut kept: Vec<Arg> = vec![];
    for arg in commands.iter().flat_map(Command::get_arguments) {
        if key_of(arg).is_some() && !kept.iter().any(|known| known.get_id() == arg.get_id()) {
            // Anew: without its variable, its default and what it does not go with.
            let own = Arg::new(arg.get_id().clone())
                .long(arg.get_long().unwrap_or_default().to_owned())
                .short(arg.get_short());
            let own = own.help(arg.get_help().cloned().unwrap_or_default()).action(arg.get_action().clone());
            let own = own.value_parser(arg.get_value_parser().clone());
            kept.push(match arg.get_value_names() {
                Some(names) => own.value_names(names.to_vec()),
                None => own,
            });
        }
    }
    kept
}

impl clap::Args for Save {
    fn augment_args(command: Command) -> Command {
        let name = Arg::new("name").value_name("NAME").required(true).help("Its name");
        command.args_override_self(true).arg(name).args(kept())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Save {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Save, clap::Error> {
        let name = matches.get_one::<String>("name").cloned().unwrap_or_default();
        let mut values = vec![];
        for arg in kept() {
            let id = arg.get_id().as_str();
            if matches.value_source(id) != Some(clap::parser::ValueSource::CommandLine) {
                continue;
            }
            let text = if is_switch(&arg) {
                Some("true".to_owned())
            } else {
                let last = matches.get_raw(id).and_then(Iterator::last);
                last.map(|text| text.to_str().map(str::to_owned).ok_or(())).transpose().map_err(|()| {
                    clap::Error::raw(ClapError::InvalidUtf8, "a preset keeps only UTF-8 text")
                })?
            };
            values.extend(text.map(|text| (id.to_owned(), text)));
        }
        Ok(Save { name, values })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Save::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Saves, lists, shows or removes.
pub(super) fn execute(args: &PresetArgs, command: &Command) -> Result<Exit, CliError> {
    match &args.action {
        None => list(&List::default(), command)?,
        Some(Action::List(args)) => list(args, command)?,
        Some(Action::Save(args)) => save(args, command)?,
        Some(Action::Show(args)) => show(args, command)?,
        Some(Action::Rm(args)) => {
            for name in &args.names {
                if !exists(name) {
                    return Err(none(name));
                }
            }
            for (place, name) in args.names.iter().enumerate() {
                let what = format!("the preset {}", name.display());
                if args.names[..place].contains(name) || !is_wanted(args.yes, &what)? {
                    continue;
                }
                let gone = || {
                    remove(name)?;
                    note(format_args!("removed {what}"));
                    Ok(())
                };
                match Store::of_user() {
                    Ok(store) => default::forgotten_with(&store, gone)?,
                    Err(_) => gone()?,
                }
            }
        }
    }
    Ok(Exit::Ok)
}

fn list(args: &List, command: &Command) -> Result<(), CliError> {
    let rows = rows(&settings::settings(command))?;
    if args.json {
        return output::write_json(&rows);
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in &rows {
        let keys: Vec<&str> = row.settings.keys().map(String::as_str).collect();
        let model = row.model.as_deref().unwrap_or("not usable");
        let line = format!("{:<width$}  {model}  {}", row.name, keys.join(", "));
        text += &format!("{}\n", line.trim_end());
    }
    output::table(&text)?;
    if rows.is_empty() {
        note("there are no presets; smolt preset save NAME -m MODEL … keeps one");
    }
    rows.iter().filter_map(|row| row.problem.as_ref()).for_each(note);
    Ok(())
}

fn show(args: &Show, command: &Command) -> Result<(), CliError> {
    let settings = settings::settings(command);
    if !exists(&args.name) {
        return Err(none(&args.name));
    }
    let preset = read(&args.name, &settings)?;
    if args.json {
        return output::write_json(&Row::new(preset.name, &settings));
    }
    let entries: Vec<&settings::Entry> = preset.layer.entries.iter().flatten().collect();
    let width = entries.iter().map(|entry| entry.key.len()).max().unwrap_or(0);
    let line = |entry: &&settings::Entry| format!("{:<width$}  {}\n", entry.key, entry.text.escape_debug());
    output::table(&entries.iter().map(line).collect::<String>())?;
    note(preset.layer.file.display());
    Ok(())
}

fn save(args: &Save, command: &Command) -> Result<(), CliError> {
    let name = &args.name;
    check_alias(name)?;
    let taken = |what| PresetError::Taken { name: name.clone(), what };
    match named(Path::new(name)) {
        Some(Named::Demo) => return Err(taken("the built-in model").into()),
        Some(Named::Alias) => return Err(taken("an alias").into()),
        Some(Named::Installed) => return Err(taken("an installed model").into()),
        Some(Named::File | Named::Preset) | None => {}
    }
    let settings = settings::settings(command);
    let text = text(args, &settings, command)?;
    let folder = folder()?;
    let file = folder.join(format!("{name}.{EXTENSION}"));
    // What would not be read back is not written.
    settings::entries(&file.display().to_string(), &text, &settings)?;
    let existed = file.exists();
    let failed = |source| PresetError::Io { action: "make the folder", file: folder.clone(), source };
    fs::create_dir_all(&folder).map_err(failed)?;
    write_whole(&file, text.as_bytes())?;
    let what = if existed { "changed" } else { "kept" };
    note(format_args!(
        "{what}: {}; smolt run {name} \"…\" asks it, smolt chat {name} talks with it",
        file.display()
    ));
    Ok(())
}

/// The file that keeps what was typed.
fn text(args: &Save, settings: &[Setting], command: &Command) -> Result<String, CliError> {
    let typed = args.values.iter().find(|(key, _)| key == MODEL).map(|(_, model)| model.clone());
    let typed = match typed {
        Some(model) => Some(model),
        None => settings::default_model(command)?.map(|(model, _)| model),
    };
    let mut lines = format!("{MODEL} = {}\n", quoted(&model(typed.as_deref().unwrap_or(demo::SHORT))?));
    for (key, value) in args.values.iter().filter(|(key, _)| key != MODEL) {
        let setting = settings.iter().find(|setting| setting.key == *key);
        let bad = || PresetError::Text { key: key.clone(), text: value.clone() };
        let arg = setting.map(|setting| &setting.arg).ok_or_else(bad)?;
        lines += &format!("{key} = {}\n", literal(arg, value).ok_or_else(bad)?);
    }
    Ok(lines)
}

/// What a preset calls its model: a path that holds everywhere, or a name.
fn model(typed: &str) -> Result<String, CliError> {
    let path = Path::new(typed);
    match named(path) {
        Some(Named::Preset) => {
            let file = folder()?;
            Err(PresetError::Nested { file, line: 1, model: typed.to_owned() }.into())
        }
        Some(Named::File) => Ok(whole(typed)),
        Some(_) => Ok(typed.to_owned()),
        None => Ok(Store::of_user()?.find(typed)?.name),
    }
}

/// The path from the root; what is not UTF-8 stays as it is.
fn whole(path: &str) -> String {
    std::path::absolute(path)
        .ok()
        .and_then(|path| path.to_str().map(str::to_owned))
        .unwrap_or(path.to_owned())
}

/// A value as TOML has it.
fn literal(arg: &Arg, value: &str) -> Option<String> {
    if is_switch(arg) {
        return Some(value.to_owned());
    }
    let integer = value.parse::<i128>().ok().map(|number| number.to_string());
    if is_number(arg) {
        let float = || value.parse::<f64>().ok().map(|number| format!("{number:?}"));
        return integer.or_else(float).or_else(|| Some(quoted(value)));
    }
    let is_path = arg.get_value_parser().type_id() == std::any::TypeId::of::<PathBuf>();
    let is_template = arg.get_id() == "template" && Path::new(value).is_file();
    Some(quoted(&if is_path || is_template { whole(value) } else { value.to_owned() }))
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted += "\\n",
            c if c.is_control() => quoted += &format!("\\u{:04X}", c as u32),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::super::line;
    use super::*;

    #[test]
    fn texts_are_read_back() {
        for text in ["", "a \"b\" \\ c", "line\nline\t\r\u{1}\u{7f}\u{85}é€😀", "# [x] = '''"] {
            let table = format!("system = {}", quoted(text));
            let table: toml::de::DeTable<'_> =
                toml::de::DeTable::parse(&table).map(toml::Spanned::into_inner).unwrap();
            let found = table.iter().next().unwrap().1.get_ref().as_str().unwrap().to_owned();
            assert_eq!(found, text);
        }
    }

    #[test]
    fn every_key_of_run_and_chat_can_be_kept() {
        let command = line::command();
        let of = |name: &str, key: &str| {
            let command = command.find_subcommand(name).unwrap();
            command.get_arguments().any(|arg| arg.get_id() == key)
        };
        let kept = kept();
        for setting in settings::settings(&command) {
            // Where a server is and who may ask it is no part of a preset.
            if !of("run", setting.key.as_str()) && of("serve", setting.key.as_str()) {
                continue;
            }
            assert!(kept.iter().any(|arg| arg.get_id() == setting.key.as_str()), "{}", setting.key);
            assert!(!is_switch(&setting.arg) || matches!(setting.arg.get_action(), clap::ArgAction::SetTrue));
        }
    }
}
