//! The archive that carries a package: ustar, written in one way only.
//!
//! What is read is compared with what would have been written, byte for byte: there is no room for a second name, a
//! longer path, an owner, a time, or anything between and after the files.

use std::io::{self, Read};

use super::PackageProblem;

/// Bytes of a block; everything begins at one.
pub(super) const BLOCK: usize = 512;
/// The blocks after the last file.
pub(super) const END_BYTES: usize = 2 * BLOCK;
/// Where the parts of a header are: name, size, checksum, type, magic, and the first part of a longer name.
const NAME: std::ops::Range<usize> = 0..100;
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const TYPE: usize = 156;
const MAGIC: std::ops::Range<usize> = 257..265;
const PREFIX: std::ops::Range<usize> = 345..500;

/// Writes the header of a regular file. Its owner is root, its mode 0644, its time the beginning of 1970.
pub(super) fn header(name: &str, bytes: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(NAME.start, name.as_bytes());
    put(100, b"0000644\x000000000\x000000000\0");
    put(SIZE.start, format!("{bytes:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(CHECKSUM.start, b"        ");
    put(TYPE, b"0");
    put(MAGIC.start, b"ustar\x0000");
    put(329, b"0000000\x000000000\0");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Zeros that fill the last block of so many bytes.
pub(super) fn padding(bytes: u64) -> usize {
    (bytes.next_multiple_of(BLOCK as u64) - bytes) as usize
}

/// Reads the header at offset `at`: the name of a regular file, and its bytes.
pub(super) fn read_header(block: &[u8; BLOCK], at: u64) -> Result<(String, u64), PackageProblem> {
    if block.iter().all(|byte| *byte == 0) {
        return Err(PackageProblem::Ends { at });
    }
    if !block[MAGIC].starts_with(b"ustar") {
        return Err(PackageProblem::NotUstar { at });
    }
    let name = &block[NAME];
    let name = &name[..name.iter().position(|byte| *byte == 0).unwrap_or(name.len())];
    let prefix = block[PREFIX].iter().position(|byte| *byte == 0).unwrap_or(PREFIX.len());
    let folder = String::from_utf8_lossy(&block[PREFIX][..prefix]);
    let file = match &*folder {
        "" => String::from_utf8_lossy(name).into_owned(),
        folder => format!("{folder}/{}", String::from_utf8_lossy(name)),
    };
    if let Some(found) = kind(block[TYPE]) {
        return Err(PackageProblem::NotAFile { file, found });
    }
    let size = std::str::from_utf8(&block[SIZE.start..SIZE.end - 1]).ok();
    let size = size.filter(|size| size.bytes().all(|byte| byte.is_ascii_digit()));
    let size = size.and_then(|size| u64::from_str_radix(size, 8).ok());
    match size {
        Some(size) if file.len() < NAME.len() && *block == header(&file, size) => Ok((file, size)),
        _ => Err(PackageProblem::Header { file, at }),
    }
}

/// What an entry is, other than a regular file.
fn kind(flag: u8) -> Option<&'static str> {
    Some(match flag {
        b'0' => return None,
        b'1' => "a hard link",
        b'2' => "a symbolic link",
        b'3' | b'4' => "a device",
        b'5' => "a folder",
        b'6' => "a named pipe",
        b'S' => "a sparse file",
        b'L' | b'K' => "a long name",
        b'x' | b'g' => "an extended header",
        _ => "of an unknown kind",
    })
}

/// Reads until the buffer is full or nothing follows; returns the bytes read.
pub(super) fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_is_written() {
        for (name, bytes) in
            [("model.gguf", 0), ("model.8.sig", 1), ("release.json", super::super::MAX_MODEL_BYTES)]
        {
            assert_eq!(read_header(&header(name, bytes), 0), Ok((name.into(), bytes)));
        }
    }

    #[test]
    fn every_other_bit_of_a_header_is_refused() {
        let good = header("model.gguf", 12345);
        for bit in 0..8 * BLOCK {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read_header(&bad, 0).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn blocks_are_filled() {
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
    }
}
