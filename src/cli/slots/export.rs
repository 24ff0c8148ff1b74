//! The files of a package, out of its archive.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::path::Path;

use crate::trust::{CheckedPackage, PLAIN_FILE, RELEASE_FILE, SEALED_FILE, SIGNATURE_FILES};

/// Bytes of a block of the archive; everything begins at one.
const BLOCK: u64 = 512;
/// Where a header has the name and the size.
const NAME: std::ops::Range<usize> = 0..100;
const SIZE: std::ops::Range<usize> = 124..135;

/// Writes the files of a package into a folder. What was signed is compared on the way, to the last byte.
pub(super) fn unpack(package: &CheckedPackage, folder: &Path) -> io::Result<()> {
    let mut archive = package.archive();
    let mut header = [0; BLOCK as usize];
    loop {
        archive.read_exact(&mut header)?;
        let Some((name, bytes)) = entry(&header) else { break };
        let path = folder.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let mut content = archive.by_ref().take(bytes);
        if io::copy(&mut content, &mut file)? != bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.sync_all()?;
        io::copy(&mut archive.by_ref().take(bytes.next_multiple_of(BLOCK) - bytes), &mut io::sink())?;
    }
    // The verdict comes with the end.
    io::copy(&mut archive, &mut io::sink())?;
    Ok(())
}

/// The name and the size in a header; nothing at the end of the archive.
fn entry(header: &[u8]) -> Option<(&'static str, u64)> {
    let text = |range: std::ops::Range<usize>| {
        let field = header[range].split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(field).ok()
    };
    let mut known = SIGNATURE_FILES.into_iter().chain([RELEASE_FILE, PLAIN_FILE, SEALED_FILE]);
    let name = text(NAME)?;
    Some((known.find(|known| *known == name)?, u64::from_str_radix(text(SIZE)?, 8).ok()?))
}
