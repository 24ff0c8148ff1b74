//! The operator's picture.

use std::io::Read;
use std::path::Path;

use super::Asset;
use super::fields::{Field, KioskError};
use crate::files::{Kind, ReadError, open};

/// Most bytes of a picture: the page is loaded by small computers, often.
const MAX_LOGO: usize = 256 << 10;

/// The operator's picture.
#[derive(Clone, Debug)]
pub(super) struct Logo {
    content_type: &'static str,
    bytes: Vec<u8>,
}

impl Logo {
    pub(super) fn asset(&self) -> Asset<'_> {
        Asset { content_type: self.content_type, bytes: &self.bytes }
    }
}

/// Reads the picture that a field names, beside the file.
pub(super) fn read(field: &Field<'_>, folder: &Path) -> Result<Logo, KioskError> {
    let path = folder.join(field.text()?);
    let mut bytes = vec![];
    let read = open(&path)?.take(MAX_LOGO as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|source| ReadError::Io { name: path.display().to_string(), source })?;
    if bytes.len() > MAX_LOGO {
        return Err(field.wrong(format!("a picture of at most {} KiB", MAX_LOGO >> 10), "a larger one"));
    }
    match content_type(&bytes) {
        Some(content_type) => Ok(Logo { content_type, bytes }),
        None => {
            let found = Kind::of(&bytes).map_or("other data", Kind::what);
            Err(field.wrong("a PNG, JPEG, WebP or SVG picture", found))
        }
    }
}

/// The kind of a picture, told from its bytes.
fn content_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => {
            let text = std::str::from_utf8(bytes).ok()?.trim_start_matches('\u{feff}').trim_start();
            let begins =
                ["<svg", "<?xml", "<!--", "<!DOCTYPE svg"].iter().any(|start| text.starts_with(start));
            (begins && text.contains("<svg")).then_some("image/svg+xml")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_by_their_bytes() {
        let cases: [(&[u8], Option<&str>); 9] = [
            (b"\x89PNG\r\n\x1a\n....", Some("image/png")),
            (b"\xff\xd8\xff\xe0", Some("image/jpeg")),
            (b"RIFF\x01\x02\x03\x04WEBPVP8 ", Some("image/webp")),
            (b"RIFF\x01\x02\x03\x04WAVEfmt ", None),
            (b"<?xml version=\"1.0\"?>\n<svg xmlns=\"x\"/>", Some("image/svg+xml")),
            (b"\n <svg/>", Some("image/svg+xml")),
            (b"<?xml version=\"1.0\"?><html/>", None),
            (b"<html><svg/></html>", None),
            (b"", None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(content_type(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
