//! What follows the head of a package, as it is carried.

use std::io::{self, Read, Take};

use super::plain::refuse;
use super::{CheckedReader, PackageProblem, Part, Refusal};

/// Reads the model and the end of an archive, and compares on the way.
pub struct Carried<R> {
    state: State<R>,
    package: String,
    /// Bytes of the end that are still to come.
    zeros: u64,
}

enum State<R> {
    Model(Box<CheckedReader<Take<R>>>),
    End(R),
    Refused,
}

impl<R: Read> Carried<R> {
    /// Expects the parts of a model, so many zeros, and the end of `from`.
    pub(super) fn new(from: R, package: &str, model: &str, parts: Vec<Part>, zeros: u64) -> Self {
        let bytes = parts.last().map_or(0, |part| part.end);
        let reader = CheckedReader::new(from.take(bytes), format!("{model} of {package}"), parts);
        Self { state: State::Model(Box::new(reader)), package: package.into(), zeros }
    }

    fn refuse(&self, problem: PackageProblem) -> io::Error {
        refuse(Refusal::Package { package: self.package.clone(), problem })
    }

    /// Reads zeros, and makes sure that nothing follows.
    fn read_end(&mut self, mut from: R, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.zeros).map_or(buffer.len(), |zeros| zeros.min(buffer.len()));
        // Of what should be over one byte is too much.
        let mut more = [0];
        let wanted = if left == 0 { &mut more[..] } else { &mut buffer[..left] };
        let read = loop {
            match from.read(wanted) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        match (self.zeros, read) {
            (0, 0) => {}
            (0, _) => return Err(self.refuse(PackageProblem::GoesOn)),
            (_, 0) => return Err(self.refuse(PackageProblem::EndsInZeros)),
            (_, read) if wanted[..read].iter().any(|byte| *byte != 0) => {
                return Err(self.refuse(PackageProblem::NoZeros));
            }
            (_, read) => self.zeros -= read as u64,
        }
        self.state = State::End(from);
        Ok(read)
    }
}

impl<R: Read> Read for Carried<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        // Whatever fails once has failed.
        match std::mem::replace(&mut self.state, State::Refused) {
            State::Model(mut model) => match model.read(buffer) {
                Ok(0) => {
                    let from = model.into_inner().into_inner();
                    self.read_end(from, buffer)
                }
                Ok(read) => {
                    self.state = State::Model(model);
                    Ok(read)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.state = State::Model(model);
                    Err(error)
                }
                Err(error) => Err(error),
            },
            State::End(from) => self.read_end(from, buffer),
            State::Refused => Err(io::Error::other("it was refused already")),
        }
    }
}
