//! Packages and trust files as tests need them: one line, signed with a key, and a body.

use std::io::{Cursor, Read};

use super::memory::Memory;
use crate::updates::error::Refused;
use crate::updates::judge::{Head, HeadError, Judge, Purpose};
use crate::updates::record::{Hex, PackageId};
use crate::updates::store::Store;

pub(super) const KEY: u64 = 7;
/// Bytes of a head.
pub(super) const HEAD: usize = 320;
pub(super) const GOLDEN: &str = "/usr/share/model.tar";

/// What a package says.
#[derive(Clone, Debug)]
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) version: u64,
    pub(super) floor: u64,
    pub(super) created: u64,
    pub(super) expires: u64,
    pub(super) key: u64,
}

impl Package {
    pub(super) fn version(version: u64) -> Self {
        Self { name: "kiosk", version, floor: 0, created: 1000 + version, expires: u64::MAX, key: KEY }
    }

    pub(super) fn body(&self) -> Vec<u8> {
        format!("the model {} of version {};", self.name, self.version).repeat(9).into_bytes()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let body = self.body();
        let Self { name, version, floor, created, expires, key } = self;
        let hash = blake3::hash(&body).to_hex();
        let said = format!("{name} {version} {floor} {created} {expires} {} {hash}", body.len());
        let mut package = format!("{said} {}", signature(*key, &said)).into_bytes();
        package.resize(HEAD, b' ');
        package.extend(body);
        package
    }
}

fn signature(key: u64, said: &str) -> String {
    blake3::hash(format!("{key} {said}").as_bytes()).to_hex().to_string()
}

/// A trust file with a version and a key.
pub(super) fn trust(version: u64, key: u64) -> Vec<u8> {
    format!("trust {version} {key}\n").into_bytes()
}

/// Judges [`Package`]s.
#[derive(Clone, Debug)]
pub(super) struct Fake {
    /// A wrong one does not.
    pub(super) verifies: bool,
    pub(super) golden: Option<Vec<u8>>,
}

impl Default for Fake {
    fn default() -> Self {
        Self { verifies: true, golden: None }
    }
}

fn refuse<T>(why: &str) -> Result<T, HeadError> {
    Err(Refused(why.to_owned()).into())
}

impl Judge for Fake {
    type Trust = (u64, u64);
    type Opened = [u8; 32];

    fn trust(&self, text: &[u8]) -> Result<(u64, u64), Refused> {
        let wrong = || Refused("it is no trust file".to_owned());
        let text =
            std::str::from_utf8(text).ok().and_then(|text| text.strip_suffix('\n')).ok_or_else(wrong)?;
        let words: Vec<&str> = text.split(' ').collect();
        let ["trust", version, key] = words[..] else { return Err(wrong()) };
        Ok((version.parse().map_err(|_| wrong())?, key.parse().map_err(|_| wrong())?))
    }

    fn version(&self, trust: &(u64, u64)) -> u64 {
        trust.0
    }

    fn head(
        &self,
        trust: &(u64, u64),
        _: Purpose,
        package: &mut dyn Read,
    ) -> Result<(Head, [u8; 32]), HeadError> {
        let mut line = [0; HEAD];
        package.read_exact(&mut line).or_else(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => refuse("there is no head"),
            _ => Err(error.into()),
        })?;
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let Some((said, signed)) = text.rsplit_once(' ') else { return refuse("no signature") };
        if self.verifies && signed != signature(trust.1, said) {
            return refuse("the signature is of nobody who is trusted");
        }
        let words: Vec<&str> = said.split(' ').collect();
        let [name, version, floor, created, expires, bytes, hash] = words[..] else { return refuse("words") };
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        let package = PackageId {
            name: name.to_owned(),
            version: number(version),
            floor: number(floor),
            created: number(created),
            bytes: HEAD as u64 + number(bytes),
            head: Hex([0; 32]),
        };
        let Ok(hash) = blake3::Hash::from_hex(hash) else { return refuse("no hash") };
        Ok((Head { package, expires: Some(number(expires)) }, *hash.as_bytes()))
    }

    fn rest(&self, opened: &[u8; 32], rest: &mut dyn Read) -> Result<(), HeadError> {
        let mut body = vec![];
        rest.read_to_end(&mut body)?;
        let is_it = *blake3::hash(&body).as_bytes() == *opened;
        if self.verifies && !is_it { refuse("the model is not the one that was signed") } else { Ok(()) }
    }

    fn golden(&self, path: &str) -> Result<Box<dyn Read>, HeadError> {
        match &self.golden {
            Some(golden) if path == GOLDEN => Ok(Box::new(Cursor::new(golden.clone()))),
            _ => refuse("there is none"),
        }
    }

    fn suits(&self, _: &(u64, u64), _: &[u8; 32], _: u64) -> Result<(), Refused> {
        Ok(())
    }

    fn not_before(&self) -> u64 {
        0
    }
}

/// A store on a disk.
pub(super) fn store(disk: &Memory, judge: &Fake) -> Store<Memory, Fake> {
    Store::new(disk.clone(), judge.clone(), "store").patience(std::time::Duration::ZERO)
}

/// A source that gives a part at a time.
pub(super) struct Slowly<'a>(pub(super) &'a [u8]);

impl Read for Slowly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(self.0.len()).min(160);
        buffer[..most].copy_from_slice(&self.0[..most]);
        self.0 = &self.0[most..];
        Ok(most)
    }
}
