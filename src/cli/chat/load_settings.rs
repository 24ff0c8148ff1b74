//! What `/set` changes by loading the model anew: what was given when it was loaded.

use super::super::args::{LookupArgs, context, parse_threads};
use super::super::error::ChatError;
use super::super::generation::GenerationArgs;
use super::super::memory::{parse_bytes, show_bytes};
use crate::kernels::KvType;

/// Names of these settings.
pub(super) const NAMES: [&str; 6] = ["context", "threads", "kv", "max_memory", "lookup", "template"];

/// Changes the setting `name` of `args`, or takes that of `start`, for `default`.
///
/// # Errors
/// If it cannot have this value.
pub(super) fn set(
    args: &mut GenerationArgs,
    start: &GenerationArgs,
    name: &'static str,
    value: &str,
) -> Result<(), ChatError> {
    let bad = |expected| ChatError::BadSetting { setting: name, found: value.to_owned(), expected };
    let is_default = value == "default";
    let (resources, before) = (&mut args.resources, &start.resources);
    match name {
        _ if value.is_empty() => return Err(bad("a value or default")),
        "context" if is_default => resources.context = before.context,
        "context" => resources.context = Some(context(value).map_err(|_| bad("a number of tokens"))?),
        "threads" if is_default => resources.threads = before.threads,
        "threads" => resources.threads = Some(parse_threads(value).ok_or(bad("a number from 1 to 256"))?),
        "kv" if is_default => resources.kv = before.kv,
        "kv" => resources.kv = KvType::named(value).ok_or(bad("f16 or q8_0"))?,
        "max_memory" if is_default => resources.max_memory = before.max_memory,
        "max_memory" if value == "none" => resources.max_memory = None,
        "max_memory" => {
            resources.max_memory = Some(parse_bytes(value).map_err(|_| bad("a size such as 200M, or none"))?);
        }
        "lookup" if is_default => args.lookup = start.lookup.clone(),
        "lookup" => args.lookup = LookupArgs::parse(value).ok_or(bad("a number of tokens, 0 for none"))?,
        _ if is_default => args.prompting.set_template(start.prompting.template_name()),
        _ => args.prompting.set_template(Some(value)),
    }
    Ok(())
}

/// These settings, one a line.
pub(super) fn show(args: &GenerationArgs, context: usize, threads: usize) -> String {
    let memory = args.resources.max_memory.map_or("none".to_owned(), show_bytes);
    let template = args.prompting.template_name().unwrap_or("that of the model").to_owned();
    let values = [
        context.to_string(),
        threads.to_string(),
        args.resources.kv.name().to_owned(),
        memory,
        args.lookup.tokens().to_string(),
        template,
    ];
    let lines = NAMES.iter().zip(values).map(|(name, value)| format!("  {name:<15} {value}"));
    lines.collect::<Vec<_>>().join("\n")
}
