//! Models sealed with age to X25519 recipients.
//!
//! Sealing keeps a model from who has none of the keys. It does not say whose it is: anybody can seal anything to a known
//! recipient, so what comes out counts only once the digest in the signed release has been compared.

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

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
pub const SEALED_MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// Bytes between the header and the first chunk.
const NONCE_BYTES: u64 = 16;
/// Plain bytes of every chunk but the last, and what each has more when it is sealed.
const CHUNK_BYTES: u64 = 64 << 10;
const TAG_BYTES: u64 = 16;
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

/// Opens a sealed file that stands alone, of so many bytes: the plain data and how many bytes it has. The read that would
/// return 0 gives the judgement of `from`, if that judges what it reads.
///
/// # Errors
/// If the header is none, is too long or was changed, no key fits, or the file is too short.
pub fn open_sealed(
    from: Box<dyn Read + Send>,
    bytes: u64,
    name: &str,
    identities: &Identities,
) -> Result<(Box<dyn Read + Send>, u64), TrustError> {
    let from = Arc::new(Mutex::new(from));
    // Byte by byte: what is behind the header is not for this buffer.
    let header = read_header(&mut BufReader::with_capacity(1, Handle(from.clone())), name)?;
    let at = Cursor::new(header.clone()).chain(Handle(from.clone()));
    let plain_bytes = plain_bytes(bytes, header.len() as u64)
        .ok_or_else(|| Refusal::Sealed { file: name.into(), problem: "it ends in its header" })?;
    let plain = unseal(at, name, identities)?;
    Ok((Box::new(Judged { plain, from: Handle(from) }), plain_bytes))
}

/// How many plain bytes a sealed file of so many bytes has, behind a header of so many.
fn plain_bytes(bytes: u64, header: u64) -> Option<u64> {
    let payload = bytes.checked_sub(header)?.checked_sub(NONCE_BYTES)?;
    let chunks = payload.div_ceil(CHUNK_BYTES + TAG_BYTES);
    payload.checked_sub(chunks.max(1) * TAG_BYTES)
}

/// One of two who read sealed bytes.
struct Handle(Arc<Mutex<Box<dyn Read + Send>>>);

impl Read for Handle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buffer)
    }
}

/// Plain bytes, at whose end the sealed ones are judged too.
struct Judged<R> {
    plain: R,
    from: Handle,
}

impl<R: Read> Read for Judged<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.plain.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            io::copy(&mut self.from, &mut io::sink())?;
        }
        Ok(read)
    }
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
            _ if line == 0 && text != SEALED_MAGIC => return fail("it does not begin as one"),
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
