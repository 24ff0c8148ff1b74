//! Files that are read once from front to back, such as ones that are checked or decrypted while they are read.
//!
//! The header is read into private memory, the data of the tensors is handed out as it passes. What a reader checks it
//! can only judge at its end: it is therefore read to its last byte, and once more after it, and an error there is an
//! error of the whole. Who asked for the tensors must use nothing of them before. Where something else is wrong, the
//! rest is read too: a judgement on the file goes before an error that follows from what it holds.
//!
//! A thread reads ahead into a few blocks that are used over and over, so that reading costs no more time than the
//! longer of itself and of what is done with the data.

use std::fmt;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use super::parse::Header;
use super::sample::Samples;
use super::{GgufError, MAX_STREAMED_HEADER_BYTES, Place, TensorInfo};
use crate::runtime::{AllocError, Buffer, Secrecy};

/// Bytes of the file that are read before the header is looked at.
const FIRST_BYTES: u64 = 256 << 10;
/// Bytes of tensor data that are handed out together, unless a row has more.
pub(super) const CHUNK_BYTES: usize = 1 << 20;
/// Blocks that are read ahead.
const BLOCKS: usize = 3;

/// What takes the data of tensors: with the bytes of the tensor before it.
pub type Take<'a, E> = dyn FnMut(&TensorInfo, usize, &[u8]) -> Result<(), E> + 'a;
/// What takes pieces.
type TakePiece<'a, E> = dyn FnMut(Piece, &[u8]) -> Result<(), E> + 'a;

/// A file that is read once.
pub(super) struct Streamed {
    /// The file up to the data of its tensors.
    header: Buffer<u8>,
    bytes: u64,
    secrecy: Secrecy,
    rest: Mutex<Option<Rest>>,
    fingerprint: OnceLock<u64>,
}

/// What of a file is still to be read.
struct Rest {
    file: String,
    reader: Box<dyn Read + Send>,
    /// What was read together with the header, and how much of it was used.
    ahead: Option<(Buffer<u8>, usize)>,
    /// Bytes of the file before what comes next.
    position: u64,
    bytes: u64,
}

/// Rows of a tensor that are handed out together.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    /// Number of the tensor.
    tensor: usize,
    /// Offset in the file.
    offset: u64,
    /// Bytes of the tensor before it.
    pub(super) start: usize,
    pub(super) len: usize,
}

/// Cuts the data of a tensor into pieces of whole rows.
pub(super) fn pieces(data_start: u64, tensor: usize, info: &TensorInfo) -> impl Iterator<Item = Piece> {
    let (offset, all) = (data_start + info.offset, usize::try_from(info.bytes).unwrap_or(usize::MAX));
    let step = piece_bytes(info);
    (0..all).step_by(step).map(move |start| Piece {
        tensor,
        offset: offset + start as u64,
        start,
        len: step.min(all - start),
    })
}

/// Bytes of the pieces of a tensor, but the last.
fn piece_bytes(info: &TensorInfo) -> usize {
    let row = info.bytes as usize / info.rows().max(1);
    (CHUNK_BYTES / row.max(1)).max(1) * row.max(1)
}

impl Streamed {
    /// Reads the header of a file of `bytes`.
    pub(super) fn read(
        file: &str,
        reader: Box<dyn Read + Send>,
        bytes: u64,
        secrecy: Secrecy,
    ) -> Result<(Self, Header), GgufError> {
        let mut rest = Rest { file: file.to_owned(), reader, ahead: None, position: 0, bytes };
        match rest.header(secrecy) {
            Ok((header, held)) => {
                let (rest, fingerprint) = (Mutex::new(Some(rest)), OnceLock::new());
                Ok((Self { header: held, bytes, secrecy, rest, fingerprint }, header))
            }
            Err(error) => Err(rest.judged(error)),
        }
    }

    /// The file up to the data of its tensors.
    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }

    /// Size of the file.
    pub(super) fn len(&self) -> u64 {
        self.bytes
    }

    pub(super) fn secrecy(&self) -> Secrecy {
        self.secrecy
    }

    /// The fingerprint, once all was read.
    pub(super) fn fingerprint(&self) -> Option<u64> {
        self.fingerprint.get().copied()
    }

    /// Takes it that all was read, with this fingerprint.
    #[cfg(feature = "trust")]
    pub(super) fn set_unread(&self, fingerprint: u64) {
        drop(self.rest.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.fingerprint.get_or_init(|| fingerprint);
    }

    /// Hands out the data of all tensors in the order of the file; `order` are their numbers in it.
    pub(super) fn each<E: From<GgufError>>(
        &self,
        file: &str,
        (header, order): (&Header, &[usize]),
        take: &mut Take<'_, E>,
    ) -> Result<(), E> {
        let rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut rest = rest.ok_or_else(|| GgufError::AlreadyRead { file: file.to_owned() })?;
        let pieces = order.iter().flat_map(|i| pieces(header.data_start, *i, &header.tensors[*i]));
        let pieces: Vec<Piece> = pieces.collect();
        let mut samples = Samples::new(header.tensors.len());
        let mut use_piece = |piece: Piece, bytes: &[u8]| {
            samples.add(piece.tensor, bytes);
            take(&header.tensors[piece.tensor], piece.start, bytes)
        };
        let largest = order.iter().map(|i| piece_bytes(&header.tensors[*i])).max().unwrap_or(0);
        let block = || Buffer::guarded(largest.max(CHUNK_BYTES), "reading ahead", self.secrecy);
        rest.each(&block, &pieces, &mut use_piece)?;
        self.fingerprint.get_or_init(|| samples.fingerprint(&header.tensors));
        Ok(())
    }
}

/// Why no more is read ahead.
enum Stop {
    /// Nobody takes what is read.
    Unwanted,
    Failed(GgufError),
}

impl From<GgufError> for Stop {
    fn from(error: GgufError) -> Self {
        Self::Failed(error)
    }
}

impl Rest {
    /// Reads pieces on a thread and hands them out on this one; does both here where no thread can be had.
    fn each<E: From<GgufError>>(
        &mut self,
        block: &dyn Fn() -> Result<Buffer<u8>, AllocError>,
        pieces: &[Piece],
        take: &mut TakePiece<'_, E>,
    ) -> Result<(), E> {
        let (full, filled) = sync_channel(BLOCKS);
        let (empty, emptied) = channel();
        for _ in 0..BLOCKS {
            // The other end is here.
            drop(empty.send(block().map_err(GgufError::from)?));
        }
        let at_once = thread::scope(|scope| {
            let reading = || self.read_ahead(pieces, emptied, full);
            let reading = thread::Builder::new().spawn_scoped(scope, reading).ok()?;
            let taken = take_all(filled, empty, take);
            let read = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Some((read, taken))
        });
        let (read, taken) = match at_once {
            Some(both) => both,
            None => self.each_here(block().map_err(GgufError::from)?, pieces, take),
        };
        match (read, taken) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(Stop::Failed(error)), _) => Err(self.judged(error).into()),
            (_, Err(error)) => match self.drain() {
                Err(verdict @ GgufError::Io { .. }) => Err(verdict.into()),
                _ => Err(error),
            },
            (Err(Stop::Unwanted), Ok(())) => Err(self.ended().into()),
        }
    }

    /// Reads each piece and hands it out.
    fn each_here<E>(
        &mut self,
        mut block: Buffer<u8>,
        pieces: &[Piece],
        take: &mut TakePiece<'_, E>,
    ) -> (Result<(), Stop>, Result<(), E>) {
        for piece in pieces.iter().copied() {
            let read = self.skip(piece.offset).and_then(|()| self.fill(&mut block[..piece.len]));
            if let Err(error) = read {
                return (Err(error.into()), Ok(()));
            }
            if let Err(error) = take(piece, &block[..piece.len]) {
                return (Err(Stop::Unwanted), Err(error));
            }
        }
        (self.drain().map_err(Stop::from), Ok(()))
    }

    /// Fills blocks with pieces, then reads to the end.
    fn read_ahead(
        &mut self,
        pieces: &[Piece],
        emptied: Receiver<Buffer<u8>>,
        full: SyncSender<(Piece, Buffer<u8>)>,
    ) -> Result<(), Stop> {
        for piece in pieces.iter().copied() {
            let mut block = emptied.recv().map_err(|_| Stop::Unwanted)?;
            self.skip(piece.offset)?;
            self.fill(&mut block[..piece.len])?;
            full.send((piece, block)).map_err(|_| Stop::Unwanted)?;
        }
        drop(full);
        Ok(self.drain()?)
    }

    /// Reads the header; also gives the bytes that it has.
    fn header(&mut self, secrecy: Secrecy) -> Result<(Header, Buffer<u8>), GgufError> {
        let memory = |len: u64| Buffer::guarded(len as usize, "the header of a model", secrecy);
        let mut held = memory(FIRST_BYTES.min(self.bytes))?;
        let mut filled = 0;
        loop {
            self.fill(&mut held[filled..])?;
            filled = held.len();
            let header = match Header::parse(&self.file, &held, self.bytes) {
                Err(GgufError::Truncated { file, place, offset, needed, .. }) => {
                    let left = self.bytes - offset;
                    if needed > left {
                        return Err(GgufError::Truncated { file, place, offset, needed, left });
                    }
                    let larger = memory(self.larger(filled as u64, place)?)?;
                    let smaller = std::mem::replace(&mut held, larger);
                    held[..filled].copy_from_slice(&smaller);
                    continue;
                }
                header => header?,
            };
            let (own, ahead) =
                held.split_at(filled.min(usize::try_from(header.data_start).unwrap_or(filled)));
            let (mut kept, mut next) = (memory(own.len() as u64)?, memory(ahead.len() as u64)?);
            kept.copy_from_slice(own);
            next.copy_from_slice(ahead);
            self.position = own.len() as u64;
            self.ahead = Some((next, 0));
            return Ok((header, kept));
        }
    }

    /// Bytes to read where those read are not yet the whole header.
    fn larger(&self, filled: u64, place: Place) -> Result<u64, GgufError> {
        if filled >= MAX_STREAMED_HEADER_BYTES {
            let (file, what, limit) = (self.file.clone(), "size of the header", MAX_STREAMED_HEADER_BYTES);
            return Err(GgufError::LimitExceeded { file, place, offset: filled, what, found: filled, limit });
        }
        Ok((filled * 2).min(MAX_STREAMED_HEADER_BYTES).min(self.bytes))
    }

    /// Reads up to an offset in the file.
    fn skip(&mut self, offset: u64) -> Result<(), GgufError> {
        let mut passed = [0; 4096];
        while self.position < offset {
            let step = (offset - self.position).min(passed.len() as u64);
            self.fill(&mut passed[..step as usize])?;
        }
        Ok(())
    }

    /// Reads to the end of the file, and the judgement of the reader.
    fn drain(&mut self) -> Result<(), GgufError> {
        self.skip(self.bytes)?;
        match self.read_some(&mut [0])? {
            0 => Ok(()),
            _ => Err(GgufError::Longer { file: self.file.clone(), expected: self.bytes }),
        }
    }

    /// The judgement of the reader if it has one, else an error that came before.
    fn judged(&mut self, error: GgufError) -> GgufError {
        if matches!(error, GgufError::Io { .. }) {
            return error;
        }
        match self.drain() {
            Err(verdict @ GgufError::Io { .. }) => verdict,
            _ => error,
        }
    }

    /// Fills `out` with what comes next.
    fn fill(&mut self, mut out: &mut [u8]) -> Result<(), GgufError> {
        while !out.is_empty() {
            match self.read_some(out)? {
                0 => return Err(self.ended()),
                read => out = &mut out[read..],
            }
        }
        Ok(())
    }

    fn ended(&self) -> GgufError {
        GgufError::Shorter { file: self.file.clone(), expected: self.bytes, found: self.position }
    }

    fn read_some(&mut self, out: &mut [u8]) -> Result<usize, GgufError> {
        if self.ahead.as_ref().is_some_and(|(ahead, used)| *used == ahead.len()) {
            self.ahead = None;
        }
        let read = match &mut self.ahead {
            Some((ahead, used)) => {
                let len = out.len().min(ahead.len() - *used);
                out[..len].copy_from_slice(&ahead[*used..*used + len]);
                *used += len;
                len
            }
            None => self.read_on(out)?,
        };
        self.position += read as u64;
        Ok(read)
    }

    fn read_on(&mut self, out: &mut [u8]) -> Result<usize, GgufError> {
        loop {
            match self.reader.read(out) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A reader that claims more than there was room for is broken.
                Ok(read) => return Ok(read.min(out.len())),
                Err(source) => {
                    return Err(GgufError::Io { file: self.file.clone(), action: "read", source });
                }
            }
        }
    }
}

/// Hands out what is read until there is no more.
fn take_all<E>(
    filled: Receiver<(Piece, Buffer<u8>)>,
    empty: Sender<Buffer<u8>>,
    take: &mut TakePiece<'_, E>,
) -> Result<(), E> {
    for (piece, block) in filled {
        take(piece, &block[..piece.len])?;
        // Nobody waits for it after the last piece.
        drop(empty.send(block));
    }
    Ok(())
}

impl fmt::Debug for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streamed").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
