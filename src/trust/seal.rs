//! Models sealed with age to X25519 recipients.
//!
//! Sealing keeps a model from who has none of the keys. It does not say whose it is: anybody can seal anything to a known
//! recipient, so what comes out counts only once the digest in the signed release has been compared.

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};

use age::{DecryptError, Decryptor, Encryptor, x25519};

use super::{Identities, Refusal, TrustError};
use crate::files::ReadError;

/// Most bytes of the header of a sealed file.
const MAX_HEADER_BYTES: usize = 48 << 10;
/// Most stanzas in it: one for each recipient, and one that means nothing. Each costs a multiplication on the curve.
pub(super) const MAX_STANZAS: usize = 257;
/// Most recipients of one file.
pub const MAX_RECIPIENTS: usize = MAX_STANZAS - 1;
/// The first line of a sealed file.
const MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// Ciphertext that is read at once.
const BUFFER_BYTES: usize = 128 << 10;

/// Recipients that are the same for everybody: with them the key of the file would be no secret. Each is a point of low
/// order of the curve, in each of the ways to write it in 32 bytes.
pub(super) const LOW_ORDER: [&str; 14] = [
    "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z",
    "age1qyqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqj7vrya",
    "age1ur4h5lpmgxu2u9jku0a0r87ydtdqnr0tnsetrlvxvgz3vh6fhqqqzyt4v9",
    "age1t7wft09r2zxzfvwsk92eeql0tvzyghxytqwgapkcyf8dm5ylz9ts6wm9s8",
    "age1anlllllllllllllllllllllllllllllllllllllllllllllllals4n2t7m",
    "age1ahlllllllllllllllllllllllllllllllllllllllllllllllalsn46ayy",
    "age1amlllllllllllllllllllllllllllllllllllllllllllllllalselrwrv",
    "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqzqqsuwj9m",
    "age1qyqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqzqqk67yly",
    "age1ur4h5lpmgxu2u9jku0a0r87ydtdqnr0tnsetrlvxvgz3vh6fhzqqxqejhu",
    "age1t7wft09r2zxzfvwsk92eeql0tvzyghxytqwgapkcyf8dm5ylz8ts72fzt7",
    "age1anllllllllllllllllllllllllllllllllllllllllllllllllls3hcv9z",
    "age1ahlllllllllllllllllllllllllllllllllllllllllllllllllsh3g6la",
    "age1amlllllllllllllllllllllllllllllllllllllllllllllllllsam3fc4",
];

/// Public keys that a model is sealed to.
#[derive(Clone, Debug)]
pub struct Recipients(Vec<x25519::Recipient>);

impl Recipients {
    /// Reads recipients as `age-keygen` prints them.
    ///
    /// # Errors
    /// If one is none, is given twice or is the same for everybody; if there are none or too many.
    pub fn parse(texts: &[impl AsRef<str>]) -> Result<Self, Refusal> {
        let mut recipients: Vec<x25519::Recipient> = vec![];
        for text in texts.iter().map(AsRef::as_ref) {
            let fail = |problem| Refusal::Recipient { found: text.into(), problem };
            let recipient = text.parse().map_err(fail)?;
            if LOW_ORDER.iter().any(|low| low.parse().as_ref() == Ok(&recipient)) {
                return Err(fail("it is no secret to anybody what is sealed to it"));
            }
            if recipients.contains(&recipient) {
                return Err(fail("it is given twice"));
            }
            if recipients.len() == MAX_RECIPIENTS {
                return Err(fail("there are more recipients than a file may have"));
            }
            recipients.push(recipient);
        }
        match recipients.is_empty() {
            true => Err(Refusal::Recipient { found: String::new(), problem: "there is none" }),
            false => Ok(Self(recipients)),
        }
    }

    /// Seals all that is read from `from` into `to`.
    ///
    /// # Errors
    /// If one of them fails.
    pub fn seal(&self, mut from: impl Read, to: impl Write) -> io::Result<()> {
        let recipients = self.0.iter().map(|recipient| recipient as _);
        let sealer = Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        let mut to = sealer.wrap_output(to)?;
        io::copy(&mut from, &mut to)?;
        to.finish()?.flush()
    }
}

/// Opens the sealed file `name`; what is read from the result is the plain data. A read fails where the file was changed,
/// was cut or goes on after its end.
///
/// # Errors
/// If the header is none, is too long or was changed, or no key fits.
pub(super) fn unseal<R: Read>(
    from: R,
    name: &str,
    identities: &Identities,
) -> Result<age::stream::StreamReader<impl Read + use<R>>, TrustError> {
    let mut from = BufReader::with_capacity(BUFFER_BYTES, from);
    let header = read_header(&mut from, name)?;
    let from = Cursor::new(header).chain(from);
    let fail = |error| match error {
        DecryptError::Io(source) => TrustError::from(ReadError::Io { name: name.into(), source }),
        error => refusal(&error, name).into(),
    };
    Decryptor::new_buffered(from).map_err(fail)?.decrypt(identities.keys()).map_err(fail)
}

fn refusal(error: &DecryptError, name: &str) -> Refusal {
    let problem = match error {
        DecryptError::NoMatchingKeys => return Refusal::NoMatchingKey { file: name.into() },
        DecryptError::InvalidMac => "its header was changed",
        DecryptError::UnknownFormat => "of an unknown version",
        _ => "its header is none",
    };
    Refusal::Sealed { file: name.into(), problem }
}

/// Reads the lines up to the one with the header's own code, within the caps: the library has none.
fn read_header(from: &mut impl BufRead, name: &str) -> Result<Vec<u8>, TrustError> {
    let fail = |problem| Err(Refusal::Sealed { file: name.into(), problem }.into());
    let mut header = vec![];
    let mut stanzas = 0;
    loop {
        let line = header.len();
        let rest = (MAX_HEADER_BYTES - line) as u64;
        let read = from.by_ref().take(rest).read_until(b'\n', &mut header);
        read.map_err(|source| ReadError::Io { name: name.into(), source })?;
        let text = &header[line..];
        match text {
            _ if line == 0 && text != MAGIC => return fail("it does not begin as one"),
            [.., b'\n'] if text.starts_with(b"---") => return Ok(header),
            [.., b'\n'] if text.starts_with(b"->") && stanzas == MAX_STANZAS => {
                return fail("it has too many stanzas");
            }
            [.., b'\n'] => stanzas += usize::from(text.starts_with(b"->")),
            _ if header.len() == MAX_HEADER_BYTES => return fail("its header is too long"),
            _ => return fail("it ends in its header"),
        }
    }
}
