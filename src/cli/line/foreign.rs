//! Options of llama.cpp and ollama that smolt has not, with what to do instead.

use std::ffi::OsString;
use std::path::Path;

use clap::Command;

use super::super::error::{CliError, UsageError};
use super::super::value::is_number;

const PROCESSOR: &str = "smolt runs on the processor; leave it out";
const ALONE: &str = "smolt decides this by itself; leave it out";
const SERVE: &str = "smolt serve does this by itself; leave it out";
const NO_TLS: &str = "smolt serve has no TLS; put a proxy that has before it";
const TOKENS: &str =
    "--token-file FILE, with a token a line: what is on the command line is seen by everybody";
const CHAT: &str = "smolt chat is a conversation; smolt run answers once";

/// Options, with or without a value, and what to do instead.
const OPTIONS: &[(&str, &str)] = &[
    ("-ngl", PROCESSOR),
    ("--n-gpu-layers", PROCESSOR),
    ("--gpu-layers", PROCESSOR),
    ("--device", PROCESSOR),
    ("--split-mode", PROCESSOR),
    ("--main-gpu", PROCESSOR),
    ("--tensor-split", PROCESSOR),
    ("-fa", ALONE),
    ("--flash-attn", ALONE),
    ("-ub", ALONE),
    ("--batch-size", ALONE),
    ("--ubatch-size", ALONE),
    ("--mlock", ALONE),
    ("--no-mmap", ALONE),
    ("--mmap", ALONE),
    ("--numa", ALONE),
    ("-tb", ALONE),
    ("--threads-batch", ALONE),
    ("--keepalive", "nothing stays loaded; leave it out"),
    ("--warmup", ALONE),
    ("--no-warmup", ALONE),
    ("--no-display-prompt", "the prompt is never printed; leave it out"),
    ("--display-prompt", "the prompt is never printed; leave it out"),
    ("--escape", "write line breaks into the prompt, or give it in a file with -f"),
    ("-cnv", CHAT),
    ("-no-cnv", CHAT),
    ("--conversation", CHAT),
    ("--no-conversation", CHAT),
    ("--interactive", CHAT),
    ("--interactive-first", CHAT),
    ("-st", CHAT),
    ("--single-turn", CHAT),
    ("-sys", "--system TEXT"),
    ("-sysf", "--system \"$(cat FILE)\""),
    ("--system-prompt-file", "--system \"$(cat FILE)\""),
    ("-hf", "smolt pull ORG/REPO fetches a model, -m names it"),
    ("-hfr", "smolt pull ORG/REPO fetches a model, -m names it"),
    ("--hf-repo", "smolt pull ORG/REPO fetches a model, -m names it"),
    ("--hf-file", "smolt pull ORG/REPO:FILE fetches a model, -m names it"),
    ("-mu", "smolt pull ORG/REPO fetches a model, -m names it"),
    ("--model-url", "smolt pull ORG/REPO fetches a model, -m names it"),
    ("--json-schema", "--schema FILE"),
    ("--json-schema-file", "--schema FILE"),
    ("--grammar-file", "--grammar FILE, in the form of Lark"),
    ("--format", "--schema FILE holds the answer to a JSON Schema; --json reports as JSON"),
    ("-ctk", "--kv q8_0"),
    ("-ctv", "--kv q8_0"),
    ("--cache-type-k", "--kv q8_0"),
    ("--cache-type-v", "--kv q8_0"),
    ("--log-disable", "--quiet"),
    ("--prompt-cache", "--session FILE"),
    (
        "--lora",
        "merge the adapter into the model first; smolt-quantize convert makes a GGUF file of the result",
    ),
    ("--mmproj", "smolt reads text only"),
    ("--image", "smolt reads text only"),
    // Of servers.
    ("-np", "--slots N answers at once"),
    ("--parallel", "--slots N answers at once"),
    ("-cb", SERVE),
    ("--cont-batching", SERVE),
    ("--cache-reuse", SERVE),
    ("--cache-prompt", SERVE),
    ("--jinja", SERVE),
    ("--webui", SERVE),
    ("--no-webui", "nobody but this computer sees the page; leave it out"),
    ("--slot-save-path", "the system prompt is kept beside the model by itself; leave it out"),
    ("--threads-http", SERVE),
    ("--timeout", SERVE),
    ("--api-key", TOKENS),
    ("--api-key-file", TOKENS),
    ("--ssl-key-file", NO_TLS),
    ("--ssl-cert-file", NO_TLS),
    ("--embedding", "smolt serve has no embeddings"),
    ("--embeddings", "smolt serve has no embeddings"),
    ("--reranking", "smolt serve has no ranking"),
    ("--reasoning-budget", "--think off asks for none"),
    ("--chat-template-kwargs", "--template-var NAME=VALUE, once for each"),
    ("--ignore-eos", "-n N bounds an answer; it ends where the model ends it"),
    ("--nowordwrap", ALONE),
    ("--hidethinking", "--think hide"),
];

/// What to do instead of an option that there is not.
pub(super) fn instead(option: &str) -> Option<&'static str> {
    let name = option.split_once('=').map_or(option, |(name, _)| name);
    OPTIONS.iter().find(|(known, _)| *known == name).map(|(_, instead)| *instead)
}

/// Refuses what clap would take for something else: `-ngl 99` for `-n gl`, and `--lookup 7` for a word that is 7.
///
/// # Errors
/// [`UsageError`], with what to do instead.
pub(super) fn refuse(command: &Command, arguments: &[OsString]) -> Result<(), CliError> {
    let typed = arguments.iter().skip(1).take_while(|argument| *argument != "--");
    let typed: Vec<&str> = typed.map(|argument| argument.to_str().unwrap_or_default()).collect();
    let subcommand = typed.iter().find_map(|argument| command.find_subcommand(argument));
    for (at, argument) in typed.iter().enumerate() {
        let is_short = argument.starts_with('-') && !argument.starts_with("--");
        // `-fa` may be the file `a`.
        let is_file = argument.strip_prefix("-f").is_some_and(|file| Path::new(file).exists());
        if is_short
            && !is_file
            && let Some(instead) = instead(argument)
        {
            return Err(UsageError::foreign(argument, instead).into());
        }
        let option = argument.strip_prefix("--").and_then(|name| {
            subcommand?
                .get_arguments()
                .find(|arg| arg.get_long() == Some(name) && arg.is_require_equals_set())
        });
        let Some(next) = typed.get(at + 1).filter(|next| next.parse::<f64>().is_ok()) else { continue };
        if option.is_some_and(is_number) {
            let expected = format!("{argument}={next}");
            return Err(UsageError::equals(argument, next, &expected).into());
        }
    }
    Ok(())
}
