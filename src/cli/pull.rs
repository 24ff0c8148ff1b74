//! `smolt pull`: fetches a model.

use serde::Serialize;

use super::default;
use super::error::{CliError, Exit};
use super::memory::show_bytes;
use super::output::{self, note};
use super::progress::Progress;
use crate::store::{Event, Hub, Pulled, Store, check_alias, pull};

/// The revision where none is named.
const MAIN: &str = "main";

/// Arguments of `smolt pull`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
FILE is a file of the repository or a quantization, such as Q4_0. Without it one is chosen: Q4_0 if there is one,
else the smallest that is nearly as good. A download that was stopped goes on where it was; a model is installed
only when its SHA-256 is the one that the hub tells. The path of the model is printed.

Environment: HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT,
HTTPS_PROXY, SSL_CERT_FILE. Models are kept in SMOLT_HOME, by default ~/.local/share/smolt. No other command uses the network.

Examples:
  smolt pull bartowski/SmolLM2-135M-Instruct-GGUF
  smolt pull bartowski/SmolLM2-135M-Instruct-GGUF:Q8_0 --alias small
  smolt run -m small \"Why is the sky blue?\""
)]
pub struct PullArgs {
    /// ORG/REPO or ORG/REPO:FILE on the Hugging Face hub, or the address of either
    #[arg(value_name = "MODEL")]
    name: String,

    /// Branch, tag or commit
    #[arg(long, value_name = "REVISION", default_value = MAIN)]
    revision: String,

    /// Give it a short name
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,

    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// What was done.
#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    path: &'a std::path::Path,
    bytes: u64,
    sha256: Option<&'a str>,
    /// Whether the hub told the SHA-256.
    checked: bool,
    commit: Option<&'a str>,
    /// Bytes that came through the network.
    fetched_bytes: u64,
    was_installed: bool,
}

/// Fetches and prints where the model is.
pub(super) fn execute(args: &PullArgs, command: &clap::Command) -> Result<Exit, CliError> {
    let hub = Hub::of_user()?;
    let (name, revision) = hub.named(&args.name)?;
    let revision = revision.as_ref().filter(|_| args.revision == MAIN).unwrap_or(&args.revision);
    args.alias.as_deref().map_or(Ok(()), check_alias)?;
    let store = Store::of_user()?;
    let mut progress = Progress::new();
    let result = pull((&store, &hub), &name, revision, &mut |event| tell(&event, &mut progress));
    progress.clear();
    let Pulled { model, fetched, was_installed } = result?;
    let record = model.record.as_ref();
    let report = Report {
        name: &model.name,
        path: &model.path,
        bytes: model.bytes,
        sha256: record.map(|record| record.sha256.as_str()),
        checked: record.is_some_and(|record| record.checked),
        commit: record.map(|record| record.commit.as_str()),
        fetched_bytes: fetched,
        was_installed,
    };
    if was_installed {
        note(format_args!("{} is installed already", model.name));
    } else {
        note(format_args!("{} is installed, {}", model.name, show_bytes(model.bytes)));
        if !report.checked {
            note("the hub tells no SHA-256 of this file; only its size was checked");
        }
    }
    if let Some(alias) = &args.alias {
        store.set_alias(alias, &model.name)?;
    }
    if args.json {
        output::write_json(&report)?;
    } else {
        output::write(format!("{}\n", model.path.display()).as_bytes())?;
    }
    let repository = name.repository();
    let short = args.alias.as_deref().unwrap_or(&repository);
    default::offer(&store, if store.find(&repository).is_ok() { short } else { &model.name }, command)?;
    Ok(Exit::Ok)
}

/// Tells what happens.
fn tell(event: &Event<'_>, progress: &mut Progress) {
    if let Event::Progress { bytes, total } = event {
        return progress.show(*bytes, *total, show_bytes);
    }
    progress.clear();
    match event {
        Event::Chosen { file, others: [] } => note(format_args!("fetching {file}")),
        Event::Chosen { file, others } => {
            note(format_args!("fetching {file}; others are {}", others.join(", ")));
        }
        Event::Waiting => note("another smolt downloads; waiting for it"),
        Event::Resuming { bytes } => {
            note(format_args!("going on with an earlier download, {} are there", show_bytes(*bytes)));
        }
        Event::Cached { path } => note(format_args!("taking {}", path.display())),
        Event::Retry { error, wait } => {
            note(format_args!("{}; trying again in {:.1} s", output::with_causes(error), wait.as_secs_f64()));
            progress.restart();
        }
        Event::Restart => {
            note("what was there is not the beginning of this file; fetching it anew");
            progress.restart();
        }
        Event::Progress { .. } => {}
    }
}
