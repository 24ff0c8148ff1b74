//! The tokens of which each request must have one.

use std::path::Path;

use axum::http::{HeaderMap, header};
use subtle::{Choice, ConstantTimeEq};

use crate::files::{Sha256Hex, open, read_text_from, sha256_of};

use super::options::ServeError;

/// Bytes of a file of tokens.
const MOST_BYTES: u64 = 64 << 10;
/// Characters of a token; fewer can be guessed.
const LEAST_LENGTH: usize = 16;

/// Reads a file that nobody else can read: a token a line, empty lines and those that begin with `#` left out.
///
/// # Errors
/// If others can read it, or it holds no token, or what is none.
pub fn read_tokens(path: &Path) -> Result<Vec<String>, ServeError> {
    let name = || path.display().to_string();
    let file = open(path)?;
    #[cfg(unix)]
    {
        let found = file.metadata().map_err(|source| ServeError::TokenAccess { file: name(), source })?;
        if let Some(mode) = crate::files::mode_for_others(&found) {
            return Err(ServeError::TokensOpen { file: name(), mode });
        }
    }
    let text = read_text_from(file, &name(), MOST_BYTES)?;
    let mut tokens = vec![];
    for (line, token) in (1..).zip(text.lines().map(str::trim)) {
        if token.is_empty() || token.starts_with('#') {
            continue;
        }
        if token.len() < LEAST_LENGTH || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ServeError::Token { file: name(), line, least: LEAST_LENGTH });
        }
        tokens.push(token.to_owned());
    }
    if tokens.is_empty() {
        return Err(ServeError::NoToken { file: name() });
    }
    Ok(tokens)
}

/// The tokens of which each request must have one.
pub(super) struct Tokens(Vec<Sha256Hex>);

impl Tokens {
    /// Reads a file of them.
    ///
    /// # Errors
    /// As [`read_tokens`].
    pub(super) fn read(path: &Path) -> Result<Tokens, ServeError> {
        Ok(Tokens(read_tokens(path)?.iter().map(|token| digest(token.as_bytes())).collect()))
    }

    /// Whether a request has one of them. How long this takes says nothing about them.
    pub(super) fn has(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, token)) = value.as_bytes().split_at_checked(7) else { return false };
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return false;
        }
        // Of equal length, whatever the length of a token is.
        let given = digest(token.trim_ascii());
        let compare = |found: Choice, known: &Sha256Hex| found | known.as_bytes().ct_eq(given.as_bytes());
        self.0.iter().fold(Choice::from(0), compare).into()
    }
}

fn digest(token: &[u8]) -> Sha256Hex {
    sha256_of([token].into_iter())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use std::os::unix::fs::PermissionsExt;

    const FIRST: &str = "0123456789abcdef";

    fn read(name: &str, text: &str, mode: u32) -> Result<Tokens, ServeError> {
        let path = std::env::temp_dir().join(format!("smolt-tokens-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let read = Tokens::read(&path);
        std::fs::remove_file(&path).unwrap();
        read
    }

    #[test]
    fn one_of_the_tokens_is_needed() {
        let tokens =
            read("two", &format!("# of the door\n{FIRST}\n\n  fedcba9876543210  \n"), 0o600).unwrap();
        let has = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::try_from(*value).unwrap());
            }
            tokens.has(&headers)
        };
        assert!(has(&["Bearer 0123456789abcdef"]) && has(&["bearer fedcba9876543210"]));
        for wrong in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["Bearer 0123456789abcde"],
            &["Bearer 0123456789abcdef0"],
            &["Bearer 0123456789ABCDEF"],
            &["Basic 0123456789abcdef"],
            &["0123456789abcdef"],
            &["Bearer # of the door"],
            &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"],
        ] {
            assert!(!has(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn files_that_hold_no_secret_are_refused() {
        for mode in [0o640, 0o604, 0o660, 0o620, 0o644] {
            let refused = read("open", FIRST, mode).err().unwrap();
            assert!(matches!(refused, ServeError::TokensOpen { .. }), "{mode:o}: {refused}");
        }
        assert!(read("private", FIRST, 0o400).is_ok());
        assert!(matches!(read("none", "\n# nothing\n", 0o600), Err(ServeError::NoToken { .. })));
        for (name, token) in
            [("short", "0123456789abcde"), ("spaces", "0123456789 abcdef"), ("text", "ééééééééé")]
        {
            assert!(matches!(read(name, token, 0o600), Err(ServeError::Token { line: 1, .. })), "{name}");
        }
        assert!(matches!(Tokens::read(Path::new("/nowhere")), Err(ServeError::TokenFile(_))));
    }
}
