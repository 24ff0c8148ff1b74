//! Digests of what is read.

use std::fmt;
use std::io::{self, Read};

use sha2::Digest as _;

/// Bytes read at once.
const CHUNK: usize = 1 << 18;

/// How files are hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HashType {
    /// SHA-256, which every verifier knows.
    #[default]
    Sha256,
    /// BLAKE2b with 512 bits.
    Blake2b,
    /// BLAKE3 with 256 bits.
    Blake3,
}

impl HashType {
    /// All of them.
    pub const ALL: [HashType; 3] = [HashType::Sha256, HashType::Blake2b, HashType::Blake3];

    /// The name in statements.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake2b => "blake2b",
            Self::Blake3 => "blake3",
        }
    }

    /// Finds it by its name.
    pub fn by_name(name: &str) -> Option<HashType> {
        Self::ALL.into_iter().find(|hash| hash.name() == name)
    }

    /// Bytes of a digest.
    pub fn bytes(self) -> usize {
        match self {
            Self::Sha256 | Self::Blake3 => 32,
            Self::Blake2b => 64,
        }
    }
}

/// What came out of a hash, with its kind.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Digest {
    hash: HashType,
    bytes: Vec<u8>,
}

impl Digest {
    /// Takes bytes for a digest, if there are as many as the hash gives.
    pub fn new(hash: HashType, bytes: Vec<u8>) -> Option<Digest> {
        (bytes.len() == hash.bytes()).then_some(Digest { hash, bytes })
    }

    /// Reads hexadecimal digits in small letters.
    pub fn from_hex(hash: HashType, digits: &str) -> Option<Digest> {
        Digest::new(hash, from_hex(digits)?)
    }

    /// Hashes bytes in memory.
    pub fn of(hash: HashType, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(hash);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Reads to the end, and returns how many bytes there were.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(hash: HashType, from: &mut dyn Read) -> io::Result<(Digest, u64)> {
        let mut hasher = Hasher::new(hash);
        let mut chunk = vec![0; CHUNK];
        let mut total = 0;
        loop {
            match from.read(&mut chunk) {
                Ok(0) => return Ok((hasher.finish(), total)),
                Ok(count) => {
                    hasher.update(&chunk[..count]);
                    total += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The kind of hash.
    pub fn hash(&self) -> HashType {
        self.hash
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Hexadecimal digits in small letters.
    pub fn hex(&self) -> String {
        to_hex(&self.bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.hash.name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Hashes bytes that come in parts.
pub struct Hasher(Inner);

enum Inner {
    Sha256(sha2::Sha256),
    Blake2b(Box<blake2::Blake2b512>),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// Begins.
    pub fn new(hash: HashType) -> Hasher {
        Hasher(match hash {
            HashType::Sha256 => Inner::Sha256(sha2::Sha256::new()),
            HashType::Blake2b => Inner::Blake2b(Box::default()),
            HashType::Blake3 => Inner::Blake3(Box::default()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Inner::Sha256(hash) => hash.update(bytes),
            Inner::Blake2b(hash) => hash.update(bytes),
            Inner::Blake3(hash) => _ = hash.update(bytes),
        }
    }

    /// Returns the digest of all that was added.
    pub fn finish(self) -> Digest {
        match self.0 {
            Inner::Sha256(hash) => Digest { hash: HashType::Sha256, bytes: hash.finalize().to_vec() },
            Inner::Blake2b(hash) => Digest { hash: HashType::Blake2b, bytes: hash.finalize().to_vec() },
            Inner::Blake3(hash) => {
                Digest { hash: HashType::Blake3, bytes: hash.finalize().as_bytes().to_vec() }
            }
        }
    }
}

/// Hexadecimal digits in small letters.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// The bytes of hexadecimal digits in small letters.
fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?)).collect()
}
