//! A disk in memory, of which calls fail, and which may lose what was not synced.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use crate::updates::disk::{Access, Disk, DiskFile};
use crate::updates::error::NotAFile;

/// What a call does in place of what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Eio,
    Enospc,
    Eintr,
    /// Half of what was asked is read or written.
    Half,
    /// The process ends before the call: this one and all later ones do nothing.
    Stop,
}

pub(super) const FAULTS: [Fault; 4] = [Fault::Eio, Fault::Enospc, Fault::Eintr, Fault::Half];

/// Something that a crash may undo.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Write { id: usize, at: u64, bytes: Vec<u8> },
    Create { name: String, id: usize },
    Remove { name: String },
}

/// Files as they lie on the disk.
pub(super) type Image = BTreeMap<String, Vec<u8>>;

#[derive(Default)]
struct Inner {
    names: BTreeMap<String, usize>,
    contents: Vec<Vec<u8>>,
    durable_names: BTreeMap<String, usize>,
    durable: Vec<Vec<u8>>,
    pending: Vec<Op>,
    /// What is no regular file.
    others: BTreeMap<String, &'static str>,
    calls: usize,
    fault: Option<(usize, Fault)>,
    is_stopped: bool,
    is_locked: bool,
    free: Option<u64>,
}

/// A disk in memory; its clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Memory(Rc<RefCell<Inner>>);

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.image().keys())
    }
}

/// Bytes of a file after a write.
fn put(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let end = at as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at as usize..end].copy_from_slice(bytes);
}

impl Memory {
    pub(super) fn of(image: &Image) -> Self {
        let memory = Self::default();
        {
            let mut inner = memory.0.borrow_mut();
            for (id, (name, content)) in image.iter().enumerate() {
                inner.names.insert(name.clone(), id);
                inner.contents.push(content.clone());
            }
            inner.durable_names = inner.names.clone();
            inner.durable = inner.contents.clone();
        }
        memory
    }

    /// What a process sees.
    pub(super) fn image(&self) -> Image {
        let inner = self.0.borrow();
        inner.names.iter().map(|(name, id)| (name.clone(), inner.contents[*id].clone())).collect()
    }

    /// Makes a call fail, of those from now on.
    pub(super) fn fail(&self, call: usize, fault: Fault) {
        let mut inner = self.0.borrow_mut();
        (inner.calls, inner.fault) = (0, Some((call, fault)));
    }

    /// Ends the process: no call does anything any more.
    pub(super) fn stop(&self) {
        self.0.borrow_mut().is_stopped = true;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.borrow().is_stopped
    }

    pub(super) fn calls(&self) -> usize {
        self.0.borrow().calls
    }

    /// Puts something else than a file in the place of one.
    pub(super) fn put_other(&self, name: &str, what: &'static str) {
        self.0.borrow_mut().others.insert(name.to_owned(), what);
    }

    pub(super) fn set_free(&self, free: u64) {
        self.0.borrow_mut().free = Some(free);
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) {
        let mut inner = self.0.borrow_mut();
        let id = inner.contents.len();
        inner.contents.push(bytes.to_vec());
        inner.durable.push(bytes.to_vec());
        inner.names.insert(name.to_owned(), id);
        inner.durable_names.insert(name.to_owned(), id);
    }

    /// All that may lie on the disk after the power was cut.
    pub(super) fn crash_states(&self) -> Vec<Image> {
        let inner = self.0.borrow();
        let ways = |op: &Op| if matches!(op, Op::Write { .. }) { 3 } else { 2 };
        let count =
            inner.pending.iter().map(ways).try_fold(1usize, |product, ways| product.checked_mul(ways));
        let mut choices: Vec<Vec<usize>> = vec![];
        match count {
            Some(count @ 0..=243) => {
                for mut number in 0..count {
                    let digit = |op| {
                        let ways = ways(op);
                        let digit = number % ways;
                        number /= ways;
                        digit
                    };
                    choices.push(inner.pending.iter().map(digit).collect());
                }
            }
            // All are kept or lost but for one.
            _ => {
                for base in 0..2 {
                    choices.push(vec![base; inner.pending.len()]);
                    for (at, op) in inner.pending.iter().enumerate() {
                        for way in 0..ways(op) {
                            let mut choice = vec![base; inner.pending.len()];
                            choice[at] = way;
                            choices.push(choice);
                        }
                    }
                }
            }
        }
        choices.iter().map(|choice| inner.after(choice)).collect()
    }

    /// Counts a call; says whether it does half, or how it fails.
    fn call(&self) -> io::Result<bool> {
        let mut inner = self.0.borrow_mut();
        inner.calls += 1;
        if inner.is_stopped {
            return Err(io::Error::other("the process has ended"));
        }
        match inner.fault {
            Some((at, fault)) if at == inner.calls => match fault {
                Fault::Eio => Err(io::Error::from_raw_os_error(5)),
                Fault::Enospc => Err(io::Error::from_raw_os_error(28)),
                Fault::Eintr => Err(io::Error::from_raw_os_error(4)),
                Fault::Half => Ok(true),
                Fault::Stop => {
                    inner.is_stopped = true;
                    Err(io::Error::other("the process has ended"))
                }
            },
            _ => Ok(false),
        }
    }
}

impl Inner {
    /// The files after a crash: of each thing that was not synced it is said whether it is kept (0), lost (1) or torn (2).
    fn after(&self, choice: &[usize]) -> Image {
        let (mut names, mut contents) = (self.durable_names.clone(), self.durable.clone());
        for (op, way) in self.pending.iter().zip(choice) {
            match (op, way) {
                (_, 1) => {}
                (Op::Write { id, at, bytes }, 0) => put(&mut contents[*id], *at, bytes),
                (Op::Write { id, at, bytes }, _) => put(&mut contents[*id], *at, &bytes[..bytes.len() / 2]),
                (Op::Create { name, id }, _) => {
                    names.insert(name.clone(), *id);
                }
                (Op::Remove { name }, _) => {
                    names.remove(name);
                }
            }
        }
        names.into_iter().map(|(name, id)| (name, contents[id].clone())).collect()
    }

    fn other(&self, name: &str) -> io::Result<()> {
        self.others.get(name).map_or(Ok(()), |what| Err(io::Error::other(NotAFile(what))))
    }
}

/// An open file.
#[derive(Clone, Debug)]
pub(super) struct MemoryFile {
    disk: Memory,
    id: usize,
}

/// Holds the lock.
pub(super) struct Lock(Memory);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.0.borrow_mut().is_locked = false;
    }
}

impl Disk for Memory {
    type File = MemoryFile;
    type Lock = Lock;

    fn open(&self, name: &str, _: Access) -> io::Result<Option<MemoryFile>> {
        self.call()?;
        let inner = self.0.borrow();
        inner.other(name)?;
        Ok(inner.names.get(name).map(|id| MemoryFile { disk: self.clone(), id: *id }))
    }

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
        self.call()?;
        let mut inner = self.0.borrow_mut();
        inner.other(name)?;
        if inner.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = inner.contents.len();
        inner.contents.push(vec![]);
        inner.durable.push(vec![]);
        inner.names.insert(name.to_owned(), id);
        inner.pending.push(Op::Create { name: name.to_owned(), id });
        Ok(MemoryFile { disk: self.clone(), id })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call()?;
        let mut inner = self.0.borrow_mut();
        inner.other(name)?;
        if inner.names.remove(name).is_some() {
            inner.pending.push(Op::Remove { name: name.to_owned() });
        }
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.call()?;
        let mut inner = self.0.borrow_mut();
        inner.durable_names = inner.names.clone();
        inner.pending.retain(|op| matches!(op, Op::Write { .. }));
        Ok(())
    }

    fn free(&self) -> io::Result<Option<u64>> {
        self.call()?;
        Ok(self.0.borrow().free)
    }

    fn lock(&self) -> io::Result<Option<Lock>> {
        self.call()?;
        let mut inner = self.0.borrow_mut();
        if inner.is_locked {
            return Ok(None);
        }
        inner.is_locked = true;
        Ok(Some(Lock(self.clone())))
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let is_half = self.disk.call()?;
        let inner = self.disk.0.borrow();
        let content = inner.contents[self.id].get(at as usize..).unwrap_or_default();
        let most = if is_half && buffer.len() > 1 { buffer.len() / 2 } else { buffer.len() };
        let read = content.len().min(most);
        buffer[..read].copy_from_slice(&content[..read]);
        Ok(read)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        let is_half = self.disk.call()?;
        let bytes = if is_half && bytes.len() > 1 { &bytes[..bytes.len() / 2] } else { bytes };
        let mut inner = self.disk.0.borrow_mut();
        put(&mut inner.contents[self.id], at, bytes);
        inner.pending.push(Op::Write { id: self.id, at, bytes: bytes.to_vec() });
        Ok(bytes.len())
    }

    fn length(&self) -> io::Result<u64> {
        self.disk.call()?;
        Ok(self.disk.0.borrow().contents[self.id].len() as u64)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.disk.call()?;
        match self.disk.0.borrow().free {
            Some(free) if bytes > free => Err(io::Error::from_raw_os_error(28)),
            _ => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.call()?;
        let mut inner = self.disk.0.borrow_mut();
        inner.durable[self.id] = inner.contents[self.id].clone();
        let id = self.id;
        inner.pending.retain(|op| !matches!(op, Op::Write { id: of, .. } if *of == id));
        Ok(())
    }

    fn forget(&self) {}
}
