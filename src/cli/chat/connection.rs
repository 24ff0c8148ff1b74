//! Arguments that say whether the model is here or on a server.

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::super::connect::Address;
#[cfg(feature = "serve")]
use super::super::error::ChatError;

/// A server that answers.
#[cfg(feature = "serve")]
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ConnectArgs {
    // Before the others, which are taken out of the matches.
    #[command(flatten)]
    pub(super) typed: Typed,

    /// Talk with the model of a running server: http://HOST:PORT of smolt serve or another, or the path of its socket. None
    /// is loaded here; -m names one of several
    #[arg(long, value_name = "URL", value_parser = address)]
    pub(super) connect: Option<Address>,

    /// With --connect: a file that nobody else may read, with a token for the server
    #[arg(long, value_name = "FILE", env = "SMOLT_TOKEN_FILE")]
    pub(super) token_file: Option<std::path::PathBuf>,
}

#[cfg(feature = "serve")]
fn address(text: &str) -> Result<Address, String> {
    text.parse()
}

/// Options for loading a model, as clap knows and as people write them.
const LOADING: [(&str, &str); 10] = [
    ("context", "-c"),
    ("threads", "-t"),
    ("kv", "--kv"),
    ("max_memory", "--max-memory"),
    ("lookup", "--lookup"),
    ("pre", "--pre"),
    ("template", "--template"),
    ("raw", "--raw"),
    ("session", "--session"),
    ("goes_on", "--continue"),
];

/// What was typed, rather than said by a variable or a file, which are for every command.
#[derive(Clone, Debug, Default)]
pub(super) struct Typed {
    loading: Option<&'static str>,
    has_token: bool,
    pub(super) has_model: bool,
}

impl Typed {
    /// Makes sure that nothing was typed that says nothing.
    ///
    /// # Errors
    /// If something was.
    pub(super) fn check(&self, is_connected: bool) -> Result<(), ChatError> {
        match self.loading.filter(|_| is_connected) {
            Some(option) => Err(ChatError::NotWithServer { option: option.to_owned() }),
            None if self.has_token && !is_connected => {
                Err(ChatError::OnlyWithServer { option: "--token-file".to_owned() })
            }
            None => Ok(()),
        }
    }
}

impl clap::FromArgMatches for Typed {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Typed, clap::Error> {
        let is_typed = |id: &str| {
            matches.try_contains_id(id).is_ok() && matches.value_source(id) == Some(ValueSource::CommandLine)
        };
        Ok(Typed {
            loading: LOADING.iter().find(|(id, _)| is_typed(id)).map(|(_, option)| *option),
            has_token: is_typed("token_file"),
            has_model: is_typed("model") || is_typed("named"),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Typed::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Typed {
    fn augment_args(command: clap::Command) -> clap::Command {
        command
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        command
    }
}
