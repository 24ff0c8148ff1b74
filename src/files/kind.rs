//! What a file is that is not what was expected, told from its first bytes.

/// Bytes that are enough for [`Kind::of`].
pub const KIND_BYTES: usize = 512;
/// Longest header of a safetensors file.
const MAX_SAFETENSORS_HEADER: u64 = 100 << 20;
/// Most entries of an importance matrix.
const MAX_IMATRIX_ENTRIES: u32 = 1 << 16;

/// Kinds of files that people take for a model or a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "see Kind::what")]
pub enum Kind {
    Gguf,
    LfsPointer,
    WebPage,
    Safetensors,
    PyTorch,
    OldGgml,
    Imatrix,
    Gzip,
    Zip,
    Zstd,
    Xz,
    Bzip2,
    SevenZip,
    Lz4,
    Tar,
    Hdf5,
    TfLite,
    Pdf,
    Image,
    Program,
    Session,
    Sqlite,
    Json,
    Text,
    Zeros,
}

impl Kind {
    /// Tells the kind of a file from its first bytes, at most [`KIND_BYTES`] of them.
    pub fn of(first: &[u8]) -> Option<Self> {
        let first = &first[..first.len().min(KIND_BYTES)];
        let starts = |magics: &[&[u8]]| magics.iter().any(|magic| first.starts_with(magic));
        let holds = |text: &[u8]| first.windows(text.len()).any(|window| window == text);
        Some(match () {
            () if starts(&[b"GGUF"]) => Self::Gguf,
            // Before the others: its length may begin as any of them does.
            () if is_safetensors(first) => Self::Safetensors,
            () if starts(&[b"version https://git-lfs", b"version https://hawser"]) => Self::LfsPointer,
            () if starts(&[b"lmgg", b"fmgg", b"tjgg", b"algg"]) => Self::OldGgml,
            () if starts(&[b"PK\x03\x04"]) && (holds(b"data.pkl") || holds(b".format_version")) => {
                Self::PyTorch
            }
            // A pickle begins with its protocol.
            () if first.len() > 2 && first[0] == 0x80 && (2..=5).contains(&first[1]) => Self::PyTorch,
            () if starts(&[b"PK\x03\x04", b"PK\x05\x06"]) => Self::Zip,
            () if starts(&[b"\x1f\x8b"]) => Self::Gzip,
            () if starts(&[b"\x28\xb5\x2f\xfd"]) => Self::Zstd,
            () if starts(&[b"\xfd7zXZ\0"]) => Self::Xz,
            () if starts(&[b"BZh"]) => Self::Bzip2,
            () if starts(&[b"7z\xbc\xaf\x27\x1c"]) => Self::SevenZip,
            () if starts(&[b"\x04\x22\x4d\x18"]) => Self::Lz4,
            () if first.get(257..262) == Some(b"ustar") => Self::Tar,
            () if starts(&[b"\x89HDF"]) => Self::Hdf5,
            () if first.get(4..8) == Some(b"TFL3") => Self::TfLite,
            () if starts(&[b"%PDF"]) => Self::Pdf,
            () if starts(&[b"\x89PNG", b"\xff\xd8\xff", b"GIF8"]) => Self::Image,
            () if starts(&[b"\x7fELF", b"MZ\x90", b"\xcf\xfa\xed\xfe"]) => Self::Program,
            () if starts(&[b"smoltses"]) => Self::Session,
            () if starts(&[b"SQLite format 3"]) => Self::Sqlite,
            () if is_imatrix(first) => Self::Imatrix,
            () if first.len() >= 16 && first.iter().all(|byte| *byte == 0) => Self::Zeros,
            () => return text(first),
        })
    }

    /// Says what it is, with an article.
    pub fn what(self) -> &'static str {
        match self {
            Self::Gguf => "a GGUF model",
            Self::LfsPointer => "a Git LFS pointer, which only names the file that was meant",
            Self::WebPage => "a web page",
            Self::Safetensors => "a weight file in the safetensors format",
            Self::PyTorch => "a PyTorch checkpoint",
            Self::OldGgml => "a GGML file from before GGUF",
            Self::Imatrix => "an importance matrix, which quantizers use",
            Self::Gzip => "compressed with gzip",
            Self::Zip => "a zip archive",
            Self::Zstd => "compressed with zstd",
            Self::Xz => "compressed with xz",
            Self::Bzip2 => "compressed with bzip2",
            Self::SevenZip => "a 7-Zip archive",
            Self::Lz4 => "compressed with lz4",
            Self::Tar => "a tar archive",
            Self::Hdf5 => "an HDF5 file, as Keras writes them",
            Self::TfLite => "a TensorFlow Lite model",
            Self::Pdf => "a PDF document",
            Self::Image => "an image",
            Self::Program => "a program",
            Self::Session => "a saved session of smolt",
            Self::Sqlite => "a database",
            Self::Json => "a JSON file",
            Self::Text => "a text file",
            Self::Zeros => "nothing but zeros so far, as an unfinished download leaves it",
        }
    }

    /// Says what to do where a model was expected.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Gguf => "give it where a model is expected",
            Self::LfsPointer => "fetch the file itself, with git lfs pull in its folder or from its page",
            Self::WebPage => {
                "the download got a page instead of the file; use the file's own link (with /resolve/, not /blob/)"
            }
            Self::Safetensors | Self::PyTorch => {
                "convert the folder that it was published in, with its config.json and tokenizer.json, to GGUF"
            }
            Self::OldGgml => "convert the original model to GGUF, or fetch a newer file",
            Self::Imatrix => "name the model that it was made for",
            Self::Gzip
            | Self::Zip
            | Self::Zstd
            | Self::Xz
            | Self::Bzip2
            | Self::SevenZip
            | Self::Lz4
            | Self::Tar => "unpack it first",
            Self::Hdf5 | Self::TfLite => "look for the model in GGUF format",
            Self::Zeros => "fetch it again",
            Self::Session => "give it where a session is expected, and name the model that it was made with",
            Self::Pdf | Self::Image | Self::Program | Self::Sqlite | Self::Json | Self::Text => {
                "check the path"
            }
        }
    }
}

/// Whether a length and the start of a JSON object of it follow.
fn is_safetensors(first: &[u8]) -> bool {
    let Some((length, rest)) = first.split_first_chunk::<8>() else { return false };
    let length = u64::from_le_bytes(*length);
    (2..=MAX_SAFETENSORS_HEADER).contains(&length) && rest.starts_with(b"{")
}

/// Whether a number of entries, the length of a name and the name of a weight follow: what `llama-imatrix` wrote
/// before it wrote GGUF.
fn is_imatrix(first: &[u8]) -> bool {
    let number = |at: usize| first.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let (Some(entries), Some(length)) = (number(0), number(4)) else { return false };
    let name = first.get(8..8 + (length as usize).min(KIND_BYTES)).unwrap_or_default();
    (1..=MAX_IMATRIX_ENTRIES).contains(&entries) && name.ends_with(b".weight") && name.is_ascii()
}

fn text(first: &[u8]) -> Option<Kind> {
    // The end may be cut within a character.
    let valid = match std::str::from_utf8(first) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&first[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return None,
    };
    let start = super::without_mark(valid).trim_start();
    let is_printable = |c: char| !c.is_control() || c.is_whitespace();
    if start.is_empty() || !valid.chars().all(is_printable) {
        return None;
    }
    let lower = start.to_ascii_lowercase();
    let is_page =
        ["<!doctype", "<html", "<?xml", "<head", "<body", "<!--"].iter().any(|tag| lower.starts_with(tag));
    Some(match start.as_bytes()[0] {
        _ if is_page => Kind::WebPage,
        b'{' | b'[' => Kind::Json,
        _ => Kind::Text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_first_bytes() {
        let safetensors = [&64u64.to_le_bytes()[..], b"{\"w\":{\"dtype\":\"F32\""].concat();
        let imatrix =
            [&3u32.to_le_bytes()[..], &19u32.to_le_bytes(), b"blk.0.attn_q.weight", &[0; 8]].concat();
        let mut tar = vec![b'x'; 300];
        tar[257..262].copy_from_slice(b"ustar");
        let utf8 = [vec![b' '; KIND_BYTES - 1], "é".into()].concat();
        for (bytes, kind) in [
            (&b"GGUF\x03\0\0\0"[..], Some(Kind::Gguf)),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", Some(Kind::LfsPointer)),
            (b"\n <!DOCTYPE html><html>", Some(Kind::WebPage)),
            (b"\xef\xbb\xbf<html lang=en>", Some(Kind::WebPage)),
            (&safetensors, Some(Kind::Safetensors)),
            (b"PK\x03\x04\0\0\0\0model/data.pkl", Some(Kind::PyTorch)),
            (b"PK\x03\x04\0\0\0\0letters/one.txt", Some(Kind::Zip)),
            (b"\x80\x02\x8a\nl\xfc", Some(Kind::PyTorch)),
            (b"tjgg\x03\0\0\0", Some(Kind::OldGgml)),
            (&imatrix, Some(Kind::Imatrix)),
            (b"\x1f\x8b\x08\0", Some(Kind::Gzip)),
            (b"\x28\xb5\x2f\xfd\x24", Some(Kind::Zstd)),
            (b"\xfd7zXZ\0\0", Some(Kind::Xz)),
            (&tar, Some(Kind::Tar)),
            (&[0; 64], Some(Kind::Zeros)),
            (b"{\"model_type\": \"llama\"}", Some(Kind::Json)),
            (b"Dear model,", Some(Kind::Text)),
            (&utf8, None),
            (b"\x01\x02\x03\x04\xff\xfe", None),
            (b"", None),
        ] {
            assert_eq!(Kind::of(bytes), kind, "{:?}", bytes.escape_ascii().to_string());
        }
    }

    /// 0x0280 to 0x0580 begin as a pickle does.
    #[test]
    fn safetensors_may_have_any_length() {
        for length in (2..1u64 << 17).chain([0x0108_8b1f, 0x0403_4b50, MAX_SAFETENSORS_HEADER]) {
            let first = [&length.to_le_bytes()[..], b"{\"w\":{\"dtype\":"].concat();
            assert_eq!(Kind::of(&first), Some(Kind::Safetensors), "{length:#x}");
        }
        assert_ne!(Kind::of(&[&[0; 8][..], b"{}"].concat()), Some(Kind::Safetensors));
    }
}
