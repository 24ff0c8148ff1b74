//! `smolt tokenize`: text to token ids and back.

use super::args::ModelArgs;
use super::error::{CliError, Exit};
use super::{input, load, output};
use crate::text::{EncodeOptions, Tokenizer};

/// Most bytes read from standard input.
const MAX_INPUT_BYTES: usize = 256 << 20;
/// Ids that are written at once.
const WRITTEN_IDS: usize = 1 << 14;
/// Characters of a wrong id that are shown.
const SHOWN_CHARS: usize = 40;

/// Arguments of `smolt tokenize`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
The text is the words, with spaces between, else standard input to its last byte. A first word that names a model is
the model. No start or end token is added.

Examples:
  smolt tokenize \"Hello world\"
  printf 'Hello world' | smolt tokenize -m model.gguf
  echo '9707 1879' | smolt tokenize -m model.gguf --decode"
)]
pub struct TokenizeArgs {
    /// The text, perhaps behind the model; without it, standard input
    #[arg(value_name = "TEXT", allow_negative_numbers = true)]
    pub(super) words: Vec<String>,

    #[command(flatten)]
    pub(super) model: ModelArgs,

    /// Turn ids, separated by white space or commas or as a JSON array, into text
    #[arg(long)]
    decode: bool,

    /// Read control tokens in the text, e.g. <|im_end|>, as such; with --decode, write them out
    #[arg(long)]
    special: bool,

    /// Print a JSON array of ids; with --decode, a JSON string
    #[arg(long)]
    json: bool,
}

/// Reads, converts, writes.
pub(super) fn execute(args: &TokenizeArgs) -> Result<Exit, CliError> {
    let tokenizer = load::tokenizer(&load::open_header(&args.model)?, &args.model)?;
    let text = match args.words.as_slice() {
        [] => input::read_text(MAX_INPUT_BYTES)?,
        words => words.join(" "),
    };
    if args.decode { decode(args, &tokenizer, &text) } else { encode(args, &tokenizer, &text) }
}

fn encode(args: &TokenizeArgs, tokenizer: &Tokenizer, text: &str) -> Result<Exit, CliError> {
    let mut ids = vec![];
    let options = EncodeOptions { add_special: false, parse_special: args.special };
    tokenizer.encode(text, options, &mut ids)?;
    if args.json {
        output::write_json(&ids)?;
    } else {
        for (index, ids) in ids.chunks(WRITTEN_IDS).enumerate() {
            let words: Vec<String> = ids.iter().map(u32::to_string).collect();
            output::write(format!("{}{}", if index > 0 { " " } else { "" }, words.join(" ")).as_bytes())?;
        }
        output::write(b"\n")?;
    }
    Ok(Exit::Ok)
}

fn decode(args: &TokenizeArgs, tokenizer: &Tokenizer, text: &str) -> Result<Exit, CliError> {
    let ids = parse_ids(text, tokenizer.vocab_size())?;
    if args.json {
        output::write_json(&tokenizer.decode_lossy(&ids, !args.special))?;
        return Ok(Exit::Ok);
    }
    output::write(&tokenizer.decode(&ids, !args.special))?;
    if output::is_terminal() {
        output::write(b"\n")?;
    }
    Ok(Exit::Ok)
}

fn parse_ids(text: &str, tokens: usize) -> Result<Vec<u32>, CliError> {
    let text = text.trim();
    let list = text.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or(text);
    let words = list.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
    words
        .map(|word| {
            let id = word.parse::<u32>().ok().filter(|&id| (id as usize) < tokens);
            id.ok_or_else(|| CliError::BadId { found: word.chars().take(SHOWN_CHARS).collect(), tokens })
        })
        .collect()
}
