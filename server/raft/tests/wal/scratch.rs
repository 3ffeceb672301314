//! A directory, an entry and a few steps that all tests of the log take.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::{fmt, fs};

use bytes::Bytes;
use metastore_raft::wal::{self, Error, Options, Position, Vote, Wal};
use tempfile::TempDir;

/// An entry of the tests: its position and any bytes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) at: Position,
    pub(crate) bytes: Bytes,
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, crc) = (self.at, crc32c::crc32c(&self.bytes));
        write!(
            f,
            "{}/{}: {} bytes {crc:08x}",
            at.term,
            at.index,
            self.bytes.len()
        )
    }
}

impl wal::Entry for Item {
    fn position(&self) -> Position {
        self.at
    }

    fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }

    fn decode(at: Position, bytes: Bytes) -> Result<Self, String> {
        Ok(Self { at, bytes })
    }
}

pub(crate) type Log = Wal<Item>;

pub(crate) fn at(term: u64, index: u64) -> Position {
    Position { term, index }
}

/// An entry whose bytes can be told from every other's.
pub(crate) fn item(term: u64, index: u64, len: usize) -> Item {
    let seed = term.wrapping_mul(31).wrapping_add(index);
    let bytes: Vec<u8> = (0..len as u64)
        .map(|n| (seed.wrapping_mul(167).wrapping_add(n * 13) % 251) as u8)
        .collect();
    Item {
        at: at(term, index),
        bytes: bytes.into(),
    }
}

pub(crate) fn items(term: u64, indexes: std::ops::Range<u64>, len: usize) -> Vec<Item> {
    indexes.map(|index| item(term, index, len)).collect()
}

/// In memory where there is such a place: these tests sync a lot.
pub(crate) fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        TempDir::new_in(memory)
    } else {
        TempDir::new()
    }
    .unwrap()
}

/// Short segments and a short memory.
pub(crate) fn options(directory: &Path) -> Options {
    let mut options = Options::new(directory.join("log"));
    options.segment_bytes = 16 << 10;
    options.first_segment_bytes = 8 << 10;
    options.cache_bytes = 4 << 10;
    options.reserve_bytes = 0;
    options
}

/// Runs what takes a callback and waits for that.
pub(crate) fn wait(start: impl FnOnce(wal::Done) -> Result<(), Error>) -> Result<(), Error> {
    let (sender, done) = channel();
    start(Box::new(move |result| sender.send(result).unwrap()))?;
    done.recv().unwrap()
}

pub(crate) fn append(log: &Log, items: Vec<Item>) {
    wait(|done| log.append(items, done)).unwrap();
}

pub(crate) fn vote(log: &Log, term: u64) {
    wait(|done| {
        log.save_vote(
            Vote {
                term,
                member: 7,
                granted: false,
            },
            done,
        )
    })
    .unwrap();
}

/// The segments of a log, oldest first.
pub(crate) fn segments(options: &Options) -> Vec<PathBuf> {
    let files = fs::read_dir(&options.directory)
        .unwrap()
        .map(|item| item.unwrap().path());
    let mut segments: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "wal"))
        .collect();
    segments.sort();
    segments
}

/// Copies a log as it is now into another directory.
pub(crate) fn copy(from: &Options, into: &Path) -> Options {
    let to = Options {
        directory: into.join("log"),
        ..from.clone()
    };
    let _ = fs::remove_dir_all(&to.directory);
    fs::create_dir(&to.directory).unwrap();
    for path in segments(from) {
        fs::copy(&path, to.directory.join(path.file_name().unwrap())).unwrap();
    }
    to
}
