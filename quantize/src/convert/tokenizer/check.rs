//! Encodes texts with the original tokenizer and with the converted one: a conversion that changes an id is refused.

use serde_json::Value;
use smolt::gguf::{GgufFile, GgufWriter};
use smolt::text::{EncodeOptions, TextError, Tokenizer, TokenizerOptions};

use crate::convert::ConvertError;

/// Texts on which pre-tokenizers differ: contractions, case, digits, white space, punctuation, scripts, marks.
const PROBES: &[&str] = &[
    "Hello, world! It's 7 o'clock; they'LL say we'd done it, and I'M sure SHE'S right.",
    "x 1 22 333 4444 55555 1234567890 3.14159 -1,000,000 2nd v1.2.3 ①½٣",
    "a  b   c    d \n\n  e\n\t\tf \r\n g\t h  ",
    "   leading, and trailing   ",
    "def f(x_y): return {'a': [1, 2], \"b\": x_y**2} # != <= >= && || // /* */ `q` ~^$+=",
    "naïve café Straße ĐẶNG İstanbul ŁÓDŹ œuvre",
    "HelloWorld camelCase XMLHttpRequest ABCdefGHI iPhone15Pro",
    "Привет, мир! Γειά σου Κόσμε. שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดี",
    "日本語のテキスト。中文文本，标点！한국어 텍스트…",
    "emoji \u{1F600}\u{1F44D}\u{1F3FD} \u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467} — “quotes” ‘single’ «guillemets» …",
    "\u{a0}no-break\u{2003}em space\u{3000}ideographic\u{200b}zero\u{feff}width",
    "https://example.org/a/b?c=d&e=f#g user@example.org 50% $3.50 €20 №5 §4",
];

/// On which texts the two are known to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparable {
    Everything,
    /// Texts that do not start with a space.
    StartingWithWords,
    Nothing,
}

/// Compares ids for every comparable probe. `json` is tokenizer.json, already checked; `writer` has the converted
/// tokenizer, which is read in any case.
pub(super) fn same_ids(
    file: &str,
    json: &[u8],
    writer: &GgufWriter,
    comparable: Comparable,
) -> Result<(), ConvertError> {
    let converted = converted(file, writer)?;
    if comparable == Comparable::Nothing {
        return Ok(());
    }
    let original = original(file, json)?;
    let everything = comparable == Comparable::Everything;
    for probe in PROBES.iter().filter(|probe| everything || !probe.starts_with(' ')) {
        let mut found = Vec::new();
        match converted.encode(probe, EncodeOptions::default(), &mut found) {
            // Where the vocabulary lacks a byte, the original leaves it out and the runner refuses the text.
            Err(TextError::NoTokenForByte { .. }) => continue,
            encoded => encoded.map_err(|source| ConvertError::Text { file: file.to_owned(), source })?,
        }
        let expected = original.encode(*probe, false).map_err(|error| library(file, &error.to_string()))?;
        if expected.get_ids() != found {
            let text = (*probe).to_owned();
            let expected = expected.get_ids().to_vec();
            return Err(ConvertError::OtherIds { file: file.to_owned(), text, expected, found });
        }
    }
    Ok(())
}

/// The tokenizer as the runner reads it.
fn converted(file: &str, writer: &GgufWriter) -> Result<Tokenizer, ConvertError> {
    let bytes = writer.to_vec(file, |_, _| Ok(())).map_err(ConvertError::Output)?;
    let header = GgufFile::from_vec(file, bytes).map_err(ConvertError::Output)?;
    let tokenizer = Tokenizer::from_gguf(&header, TokenizerOptions::default());
    tokenizer.map_err(|source| ConvertError::Text { file: file.to_owned(), source })
}

/// The tokenizer as its own library reads it, without the parts that ids do not depend on.
fn original(file: &str, json: &[u8]) -> Result<tokenizers::Tokenizer, ConvertError> {
    let invalid = |source| ConvertError::Json { file: file.to_owned(), source };
    let mut value: Value = serde_json::from_slice(json).map_err(invalid)?;
    for part in ["truncation", "padding", "post_processor", "decoder"] {
        value[part] = Value::Null;
    }
    let bytes = serde_json::to_vec(&value).map_err(invalid)?;
    drop(value);
    tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| library(file, &error.to_string()))
}

fn library(file: &str, message: &str) -> ConvertError {
    let reason = format!("the tokenizers library refuses it: {message}");
    ConvertError::Tokenizer { file: file.to_owned(), key: "model".to_owned(), reason }
}
