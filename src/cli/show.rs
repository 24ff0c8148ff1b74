//! `smolt show`: what is in a model file.
//!
//! Only the header and, for the hash, the bytes are read; a model that cannot be run is shown as far as it goes,
//! with the reason. The keys of `--json` are those of [`Report`] and the structs in it; sizes are in bytes.

use serde::Serialize;

use super::args::ModelArgs;
use super::error::{CliError, Exit};
use super::held;
use super::memory::{self, show_bytes};
use super::{load, output};
use crate::console::is_unsafe;
use crate::files::sha256_of;
use crate::gguf::{
    EMBEDDING_TENSOR, FILE_TYPE_KEY, GgufFile, HEAD_TENSOR, QUANTIZATION_VERSION_KEY, Recipe, TensorInfo,
};
use crate::kernels::{Held, Kernels, KvType};
use crate::load::usual_threads;
use crate::model::{MAX_CONTEXT, RunOptions, Spec};
use crate::store::Record;
use crate::text::{TokenKind, Tokenizer};

/// Contexts for which memory is shown, besides the one the model was trained for.
const CONTEXTS: [usize; 4] = [512, 2048, 8192, 32_768];
/// Characters of a text of the file that the table shows.
const SHOWN_CHARS: usize = 80;
/// Bytes hashed between two times that their pages are given back.
const HASH_BLOCK: usize = 16 << 20;

/// Arguments of `smolt show`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Bits per weight count all bytes of the tensors. Memory is what a run would reserve, as smolt plan says it. The
SHA-256 of a model that was pulled is known; of others --hash computes it, which reads the whole file. Of a pulled
model --hash checks it.

Examples:
  smolt show model.gguf
  smolt show model.gguf --json | jq .bits_per_weight
  smolt show model.gguf --hash"
)]
pub struct ShowArgs {
    /// The model, as with -m
    #[arg(value_name = "MODEL")]
    pub(super) named: Option<std::path::PathBuf>,

    #[command(flatten)]
    pub(super) model: ModelArgs,

    /// Compute the SHA-256 of the whole file
    #[arg(long)]
    hash: bool,

    /// Print one line of JSON; sizes are in bytes
    #[arg(long)]
    json: bool,
}

/// All that is shown.
#[derive(Serialize)]
struct Report {
    /// `general.name`, else the file's name.
    model: String,
    architecture: Option<String>,
    /// `general.license`.
    license: Option<String>,
    file_bytes: u64,
    gguf_version: u32,
    /// Of the whole file, if it was asked for or is known.
    sha256: Option<String>,
    /// With `--hash`, of a model that is split over several files, which has no hash of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartReport>,
    /// The repository, file and commit that it was pulled from.
    source: Option<Source>,
    parameters: u64,
    bits_per_weight: f64,
    /// Whether the embedding serves as the output head.
    tied: bool,
    quantization: Quantization,
    /// By what the tensors are for; kinds that the model lacks are left out.
    tensors: Vec<TensorGroup>,
    /// How the weights of each quantized type are held in memory.
    #[serde(serialize_with = "held::serialize")]
    held: Vec<Held>,
    trained_context: Option<usize>,
    /// Empty for a model that cannot be run.
    memory: Vec<Need>,
    tokenizer: Option<TokenizerReport>,
    template: Option<TemplateReport>,
    /// Why the model or its tokenizer cannot be used here.
    problems: Vec<String>,
}

/// Where a model is from.
#[derive(Serialize)]
struct Source {
    repository: String,
    file: String,
    commit: String,
}

#[derive(Serialize)]
struct Quantization {
    /// The recipe's name, if it is a known one.
    recipe: Option<&'static str>,
    /// `general.file_type`.
    file_type: Option<u32>,
    /// `general.quantization_version`.
    version: Option<u32>,
}

/// Tensors for one purpose.
#[derive(Serialize)]
struct TensorGroup {
    kind: &'static str,
    tensors: usize,
    parameters: u64,
    bytes: u64,
    bits_per_weight: f64,
    /// Storage types, the one with the most bytes first.
    types: Vec<&'static str>,
}

/// Memory of a run with one sequence.
#[derive(Serialize)]
struct Need {
    context: usize,
    /// How keys and values are stored.
    kv: &'static str,
    kv_cache_bytes: u64,
    total_bytes: u64,
}

#[derive(Serialize)]
struct TokenizerReport {
    /// `tokenizer.ggml.model`.
    model: String,
    /// The pre-tokenizer; null for SentencePiece.
    pre: Option<&'static str>,
    tokens: usize,
    /// Tokens that are structure, not text.
    control_tokens: usize,
    user_defined_tokens: usize,
    bos: Option<Token>,
    eos: Option<Token>,
    /// Whether a text starts with the start token.
    adds_bos: bool,
    /// Tokens that end an answer.
    ends: Vec<Token>,
}

#[derive(Serialize)]
struct Token {
    id: u32,
    text: String,
}

/// One of the files of a split model.
#[derive(Serialize)]
struct PartReport {
    file: String,
    bytes: u64,
    sha256: String,
}

#[derive(Serialize)]
struct TemplateReport {
    bytes: usize,
    first_line: String,
    /// Names of further templates.
    others: Vec<String>,
}

/// Reads and prints.
pub(super) fn execute(args: &ShowArgs) -> Result<Exit, CliError> {
    let file = load::open_header(&args.model)?;
    let mut report = Report::new(&file, &args.model);
    report.identify(&file, args.hash);
    if args.json {
        output::write_json(&report)?;
    } else {
        output::table(&report.table())?;
    }
    Ok(Exit::Ok)
}

impl Report {
    fn new(file: &GgufFile, args: &ModelArgs) -> Report {
        let mut problems = vec![];
        let mut note = |error: CliError| problems.push(error.to_string());
        let text = |key| file.str(key).ok().flatten().map(str::to_owned);
        let mut number = |key| {
            file.u32(key).unwrap_or_else(|error| {
                note(error.into());
                None
            })
        };
        let (file_type, version) = (number(FILE_TYPE_KEY), number(QUANTIZATION_VERSION_KEY));
        let spec = Spec::read(file).map_err(|error| note(error.into())).ok();
        let memory = match &spec {
            Some(spec) => needs(file, spec).unwrap_or_else(|error| {
                note(error);
                vec![]
            }),
            None => vec![],
        };
        let tokenizer = load::tokenizer(file, args).map_err(note).ok();
        let (parameters, bytes) = totals(file.tensors().iter());
        Report {
            model: load::name(file),
            architecture: text("general.architecture"),
            license: text("general.license"),
            file_bytes: file.file_bytes(),
            gguf_version: file.version(),
            sha256: None,
            parts: vec![],
            source: None,
            parameters,
            bits_per_weight: bits(parameters, bytes),
            tied: file.tensor(EMBEDDING_TENSOR).is_some() && file.tensor(HEAD_TENSOR).is_none(),
            quantization: Quantization { recipe: file_type.and_then(recipe_name), file_type, version },
            tensors: groups(file.tensors()),
            held: held::types(file.tensors()),
            trained_context: spec.as_ref().map(|spec| spec.trained_context),
            memory,
            template: tokenizer.as_ref().and_then(template),
            tokenizer: tokenizer.map(|tokenizer| TokenizerReport::new(file, &tokenizer)),
            problems,
        }
    }

    /// Says where the file is from and its SHA-256, computed if `hash` asks for it.
    fn identify(&mut self, file: &GgufFile, hash: bool) {
        let record = file.path().and_then(Record::beside);
        let known = record.as_ref().map(|record| record.sha256.clone());
        self.source =
            record.map(|Record { repository, file, commit, .. }| Source { repository, file, commit });
        let files = file.files().unwrap_or_default();
        if hash && files.len() > 1 {
            let part = |(name, bytes): (&str, &[u8])| PartReport {
                file: name.to_owned(),
                bytes: bytes.len() as u64,
                sha256: sha256(file, bytes),
            };
            self.parts = files.into_iter().map(part).collect();
            return;
        }
        self.sha256 = match file.as_bytes() {
            Ok(bytes) if hash => Some(sha256(file, bytes)),
            _ => known.clone(),
        };
        if let (Some(known), Some(found)) = (known, &self.sha256)
            && known != *found
        {
            self.problems.push(format!("the file is not the one that was pulled, whose SHA-256 is {known}"));
        }
    }

    fn table(&self) -> String {
        let mut rows: Vec<(&str, String)> = vec![
            ("model", format!("{} ({})", shown(&self.model), shown(&or_none(self.architecture.as_deref())))),
            ("licence", shown(&or_none(self.license.as_deref()))),
            ("file", format!("{}, GGUF version {}", show_bytes(self.file_bytes), self.gguf_version)),
            ("parameters", format!("{}, {:.3} bits per weight", self.parameters, self.bits_per_weight)),
            ("quantized", self.quantization.line()),
            ("context", self.trained_context.map_or("unknown".to_owned(), |n| format!("{n} trained"))),
        ];
        if self.parts.is_empty() {
            let hash = self.sha256.clone().unwrap_or_else(|| "--hash computes it".to_owned());
            rows.insert(3, ("sha256", hash));
        }
        rows.extend(self.held.iter().map(|held| ("held", held.to_string())));
        rows.extend(self.parts.iter().map(|part| {
            let PartReport { file, bytes, sha256 } = part;
            ("part", format!("{sha256} {} {}", show_bytes(*bytes), shown(file)))
        }));
        if let Some(Source { repository, file, commit }) = &self.source {
            rows.push(("source", shown(&format!("{repository}:{file} at {commit}"))));
        }
        if let Some(tokenizer) = &self.tokenizer {
            rows.extend(tokenizer.rows());
        }
        let template = self.template.as_ref().map(|template| {
            let others = match template.others.len() {
                0 => String::new(),
                count => format!(", and {count} more"),
            };
            format!("{} bytes{others}: {}", template.bytes, shown(&template.first_line))
        });
        rows.push(("template", or_none(template.as_deref())));
        rows.extend(self.problems.iter().map(|problem| ("problem", problem.replace(is_unsafe, "\u{FFFD}"))));
        let mut table: String = rows.iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect();
        table += &format!("\n{:<14} {:>12} {:>12} {:>8}  types\n", "tensors", "weights", "bytes", "bits");
        for group in &self.tensors {
            let TensorGroup { kind, parameters, bytes, bits_per_weight, .. } = group;
            let types = group.types.join(", ");
            table += &format!("{kind:<14} {parameters:>12} {bytes:>12} {bits_per_weight:>8.3}  {types}\n");
        }
        if self.tied {
            table += "the head is the embedding\n";
        }
        table + &self.memory_table()
    }

    fn memory_table(&self) -> String {
        let mut table = String::new();
        for (row, need) in self.memory.iter().enumerate() {
            if row == 0 {
                table += &format!("\n{:<10} {:<6} {:>12} {:>12}\n", "context", "kv", "KV cache", "memory");
            }
            let (cache, total) = (show_bytes(need.kv_cache_bytes), show_bytes(need.total_bytes));
            table += &format!("{:<10} {:<6} {cache:>12} {total:>12}\n", need.context, need.kv);
        }
        table
    }
}

impl Quantization {
    fn line(&self) -> String {
        let number = |number: Option<u32>| number.map_or("none".to_owned(), |number| number.to_string());
        let recipe = self.recipe.unwrap_or("unknown recipe");
        format!("{recipe} (file type {}, version {})", number(self.file_type), number(self.version))
    }
}

impl TokenizerReport {
    fn new(file: &GgufFile, tokenizer: &Tokenizer) -> TokenizerReport {
        let token = |id: u32| Token { id, text: String::from_utf8_lossy(tokenizer.piece(id)).into_owned() };
        let count = |wanted: &[TokenKind]| {
            let kinds = (0..tokenizer.vocab_size() as u32).filter_map(|id| tokenizer.kind(id));
            kinds.filter(|kind| wanted.contains(kind)).count()
        };
        TokenizerReport {
            model: file.str("tokenizer.ggml.model").ok().flatten().map(shown).unwrap_or_default(),
            pre: Some(tokenizer.pre_name()).filter(|name| !name.is_empty()),
            tokens: tokenizer.vocab_size(),
            control_tokens: count(&[TokenKind::Control, TokenKind::Unknown]),
            user_defined_tokens: count(&[TokenKind::UserDefined]),
            bos: tokenizer.bos().map(token),
            eos: tokenizer.eos().map(token),
            adds_bos: tokenizer.adds_bos(),
            ends: tokenizer.end_ids().iter().map(|id| token(*id)).collect(),
        }
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let pre = self.pre.map_or(String::new(), |pre| format!(" ({pre})"));
        let (control, user) = (self.control_tokens, self.user_defined_tokens);
        let bos = match &self.bos {
            Some(token) if self.adds_bos => format!("{}, put before a text", token.line()),
            Some(token) => token.line(),
            None => "none".to_owned(),
        };
        let ends: Vec<String> = self.ends.iter().map(Token::line).collect();
        let counts = format!("{} tokens, {control} control, {user} user-defined", self.tokens);
        vec![
            ("tokenizer", format!("{}{pre}, {counts}", self.model)),
            ("start", bos),
            ("ends", or_none(Some(ends.join(", ").as_str()).filter(|ends| !ends.is_empty()))),
        ]
    }
}

impl Token {
    fn line(&self) -> String {
        format!("{} {}", self.id, shown(&self.text))
    }
}

fn template(tokenizer: &Tokenizer) -> Option<TemplateReport> {
    let source = tokenizer.chat_template()?;
    Some(TemplateReport {
        bytes: source.len(),
        first_line: source.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned(),
        others: tokenizer.chat_template_names().map(str::to_owned).collect(),
    })
}

/// Memory at [`CONTEXTS`] and the trained context, with either form of keys and values.
fn needs(file: &GgufFile, spec: &Spec) -> Result<Vec<Need>, CliError> {
    let kernels = Kernels::detect()?;
    let trained = spec.trained_context.min(MAX_CONTEXT);
    let mut contexts: Vec<usize> = CONTEXTS.into_iter().filter(|context| *context < trained).collect();
    contexts.push(trained);
    let mut needs = vec![];
    for context in contexts {
        for kv in [KvType::F16, KvType::Q8_0] {
            let options = RunOptions { context, threads: usual_threads(), slots: 1, logit_rows: 1, kv };
            let plan = memory::plan(file, kernels, &options)?;
            needs.push(Need {
                context,
                kv: kv.name(),
                kv_cache_bytes: plan.kv_cache,
                total_bytes: plan.total,
            });
        }
    }
    Ok(needs)
}

/// The recipe with this number; of two that share one, the mix of types, which is how such files are made.
fn recipe_name(file_type: u32) -> Option<&'static str> {
    Recipe::ALL.iter().rfind(|recipe| recipe.file_type() == file_type).map(Recipe::name)
}

/// The SHA-256 of all bytes of a file.
fn sha256(file: &GgufFile, bytes: &[u8]) -> String {
    let blocks = bytes.chunks(HASH_BLOCK).inspect(|_| file.release_all());
    let hash = sha256_of(blocks);
    file.release_all();
    hash
}

/// What a tensor is for, by its name.
fn purpose(name: &str) -> &'static str {
    let has = |part: &str| name.contains(part);
    if has("norm") {
        "norms"
    } else if ["token_embd", "position_embd", "token_types"].iter().any(|start| name.starts_with(start)) {
        "embedding"
    } else if name.starts_with("output") {
        "head"
    } else if has(".attn_") {
        "attention"
    } else if has(".ffn_") {
        "feed-forward"
    } else if has(".ssm_") || has(".shortconv") {
        "recurrent"
    } else {
        "other"
    }
}

const PURPOSES: [&str; 7] = ["embedding", "attention", "feed-forward", "recurrent", "norms", "head", "other"];

fn groups(tensors: &[TensorInfo]) -> Vec<TensorGroup> {
    let group = |kind: &'static str| {
        let found: Vec<&TensorInfo> = tensors.iter().filter(|tensor| purpose(&tensor.name) == kind).collect();
        let (parameters, bytes) = totals(found.iter().copied());
        let mut types: Vec<(u64, &'static str)> = vec![];
        for tensor in &found {
            let name = tensor.block_type.name();
            match types.iter_mut().find(|(_, known)| *known == name) {
                Some((sum, _)) => *sum += tensor.bytes,
                None => types.push((tensor.bytes, name)),
            }
        }
        types.sort_by_key(|(bytes, name)| (std::cmp::Reverse(*bytes), *name));
        let types = types.into_iter().map(|(_, name)| name).collect();
        let bits_per_weight = bits(parameters, bytes);
        TensorGroup { kind, tensors: found.len(), parameters, bytes, bits_per_weight, types }
    };
    PURPOSES.into_iter().map(group).filter(|group| group.tensors > 0).collect()
}

/// Elements and bytes.
fn totals<'a>(tensors: impl Iterator<Item = &'a TensorInfo>) -> (u64, u64) {
    tensors
        .fold((0, 0), |(elements, bytes), tensor| (elements + tensor.elements() as u64, bytes + tensor.bytes))
}

fn bits(parameters: u64, bytes: u64) -> f64 {
    if parameters == 0 { 0.0 } else { bytes as f64 * 8.0 / parameters as f64 }
}

fn or_none(text: Option<&str>) -> String {
    text.unwrap_or("none").to_owned()
}

/// A text of the file as a terminal may show it: one line, no control characters, not too long.
fn shown(text: &str) -> String {
    let clean =
        |c: char| if is_unsafe(c) || c == '\n' || c == '\t' { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(SHOWN_CHARS).map(clean).collect()
}
