//! The memory engine's file: its whole state at one batch boundary.
//!
//! ```text
//! header   magic (8), generation (u64), crc32c of both (u32)
//! block    payload bytes (u32), rows (u32), space (u8), crc32c of these and the payload (u32),
//!          payload: the rows of one leaf
//! end      a block of space 255 without rows: blocks before it (u64), rows of each space (3 u64)
//! ```
//!
//! Numbers are little-endian. Blocks come space by space, their rows in ascending order. Promises:
//! a file under its final name is whole and on the disk, or reading it says what is wrong. Must
//! not know when a dump is written.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::Spaces;
use super::leaf::Leaf;
use super::tree::Tree;
use crate::{Error, Space, directory};

const MAGIC: &[u8; 8] = b"MSDUMP\0\x01";
const HEADER_BYTES: usize = 20;
const HEAD_BYTES: usize = 13;
const END: u8 = 255;

/// Bytes handed to the operating system at once.
const WRITE_BYTES: usize = 1 << 20;

/// Bytes after which the file is synced, so that other files' syncs never wait for much of it.
const SYNC_BYTES: usize = 8 << 20;

const SUFFIX: &str = ".dump";
const TEMPORARY_SUFFIX: &str = ".dump.tmp";

/// Writes `spaces` as generation `generation`. When Ok, the file survives a crash and is the only
/// one; on an error the dump before it still is.
pub(super) fn write(directory: &Path, generation: u64, spaces: &Spaces) -> Result<(), Error> {
    let temporary = directory.join(format!("{generation:016x}{TEMPORARY_SUFFIX}"));
    let name = file_name(directory, generation);
    let written = write_file(&temporary, generation, spaces)
        .map_err(Error::io("write", &temporary))
        .and_then(|()| fs::rename(&temporary, &name).map_err(Error::io("rename", &temporary)));
    if let Err(error) = written {
        // Its space may be what is missing. It is removed at the next open otherwise.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    directory::sync(directory)?;
    remove_before(directory, generation)
}

/// Reads the newest dump and removes what is older or was not finished. Generation 0 is the
/// empty state of a directory without a dump.
pub(super) fn read(directory: &Path) -> Result<(u64, Spaces), Error> {
    let newest = generations(directory)?.into_iter().max().unwrap_or(0);
    let spaces = match newest {
        0 => Spaces::default(),
        _ => read_file(&file_name(directory, newest), newest)?,
    };
    remove_before(directory, newest)?;
    remove_temporary(directory)?;
    Ok((newest, spaces))
}

fn file_name(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("{generation:016x}{SUFFIX}"))
}

fn generations(directory: &Path) -> Result<Vec<u64>, Error> {
    let mut generations = Vec::new();
    for name in names(directory)? {
        if let Some(digits) = name.strip_suffix(SUFFIX) {
            let generation = u64::from_str_radix(digits, 16)
                .map_err(|_| Error::damaged(&directory.join(&name), "not a name of a dump"))?;
            generations.push(generation);
        }
    }
    Ok(generations)
}

fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let read = || -> io::Result<Vec<String>> {
        fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    read().map_err(Error::io("read", directory))
}

fn remove_before(directory: &Path, generation: u64) -> Result<(), Error> {
    for older in generations(directory)? {
        if older < generation {
            remove(&file_name(directory, older))?;
        }
    }
    Ok(())
}

fn remove_temporary(directory: &Path) -> Result<(), Error> {
    for name in names(directory)? {
        if name.ends_with(TEMPORARY_SUFFIX) {
            remove(&directory.join(name))?;
        }
    }
    Ok(())
}

fn remove(file: &Path) -> Result<(), Error> {
    fs::remove_file(file).map_err(Error::io("remove", file))
}

fn write_file(path: &Path, generation: u64, spaces: &Spaces) -> io::Result<()> {
    let mut writer = Writer {
        file: File::create(path)?,
        buffer: Vec::with_capacity(WRITE_BYTES + WRITE_BYTES / 4),
        blocks: 0,
        unsynced: 0,
    };
    writer.buffer.extend_from_slice(MAGIC);
    writer.buffer.extend_from_slice(&generation.to_le_bytes());
    let checksum = crc32c::crc32c(&writer.buffer);
    writer.buffer.extend_from_slice(&checksum.to_le_bytes());
    let mut end = [0; 32];
    for space in Space::ALL {
        let tree = spaces.tree(space);
        tree.leaves(|leaf| writer.block(space as u8, leaf.rows(), |buffer| leaf.encode(buffer)))?;
        let at = 8 + 8 * space as usize;
        end[at..at + 8].copy_from_slice(&(tree.size().rows as u64).to_le_bytes());
    }
    end[..8].copy_from_slice(&writer.blocks.to_le_bytes());
    writer.block(END, 0, |buffer| buffer.extend_from_slice(&end))?;
    writer.write()?;
    writer.file.sync_all()
}

struct Writer {
    file: File,
    buffer: Vec<u8>,
    blocks: u64,
    unsynced: usize,
}

impl Writer {
    fn block(&mut self, space: u8, rows: usize, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let begin = self.buffer.len();
        self.buffer.resize(begin + HEAD_BYTES, 0);
        fill(&mut self.buffer);
        let size = |size: usize| {
            u32::try_from(size)
                .map(u32::to_le_bytes)
                .map_err(|_| io::Error::other("a row exceeds 4 GiB"))
        };
        let payload = begin + HEAD_BYTES;
        let payload_size = size(self.buffer.len() - payload)?;
        let rows = size(rows)?;
        let head = &mut self.buffer[begin..payload];
        head[..4].copy_from_slice(&payload_size);
        head[4..8].copy_from_slice(&rows);
        head[8] = space;
        let checksum = checksum(&self.buffer[begin..begin + 9], &self.buffer[payload..]);
        self.buffer[begin + 9..payload].copy_from_slice(&checksum.to_le_bytes());
        self.blocks += 1;
        if self.buffer.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.unsynced += self.buffer.len();
        self.buffer.clear();
        if self.unsynced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), payload)
}

fn read_file(path: &Path, generation: u64) -> Result<Spaces, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let size = file.metadata().map_err(Error::io("read", path))?.len();
    let mut reader = Reader {
        input: BufReader::with_capacity(WRITE_BYTES, file),
        left: size,
        path,
    };
    reader.header(generation)?;
    let mut leaves: [Vec<Leaf>; 3] = Default::default();
    let mut blocks = 0u64;
    loop {
        let block = reader.block()?;
        if block.space == END {
            let trees = leaves.map(Tree::from_leaves);
            let rows = trees.each_ref().map(|tree| tree.size().rows as u64);
            let [a, b, c] = rows;
            let expected = [blocks, a, b, c].map(u64::to_le_bytes).concat();
            if block.payload != expected || reader.left != 0 {
                return Err(reader.damaged("the end does not fit"));
            }
            return Ok(Spaces { trees, batches: 0 });
        }
        blocks += 1;
        let leaves = leaves
            .get_mut(usize::from(block.space))
            .ok_or_else(|| reader.damaged("unknown space"))?;
        let leaf =
            Leaf::decode(block.payload, block.rows).map_err(|reason| reader.damaged(reason))?;
        let follows = |last: &Leaf| last.key(last.rows() - 1) < leaf.key(0);
        if leaf.rows() == 0 || !leaves.last().is_none_or(follows) {
            return Err(reader.damaged("keys do not ascend"));
        }
        leaves.push(leaf);
    }
}

struct Reader<'a> {
    input: BufReader<File>,
    /// Bytes of the file not read yet.
    left: u64,
    path: &'a Path,
}

struct Block {
    space: u8,
    rows: usize,
    payload: Vec<u8>,
}

impl Reader<'_> {
    fn header(&mut self, generation: u64) -> Result<(), Error> {
        let header = self.take(HEADER_BYTES)?;
        let expected = [&MAGIC[..], &generation.to_le_bytes()].concat();
        let checksum = crc32c::crc32c(&expected).to_le_bytes();
        if header[..16] != expected || header[16..] != checksum {
            return Err(self.damaged("the header does not fit"));
        }
        Ok(())
    }

    fn block(&mut self) -> Result<Block, Error> {
        let head = self.take(HEAD_BYTES)?;
        let number = |at: usize| {
            let bytes = head[at..at + 4].try_into().expect("four bytes");
            u32::from_le_bytes(bytes)
        };
        let payload = self.take(number(0) as usize)?;
        if checksum(&head[..9], &payload) != number(9) {
            let at = self.left + (HEAD_BYTES + payload.len()) as u64;
            return Err(self.damaged(format!("checksum mismatch {at} bytes before its end")));
        }
        Ok(Block {
            space: head[8],
            rows: number(4) as usize,
            payload,
        })
    }

    fn take(&mut self, size: usize) -> Result<Vec<u8>, Error> {
        let left = self.left.checked_sub(size as u64);
        self.left = left.ok_or_else(|| self.damaged("it ends too early"))?;
        let mut bytes = Vec::with_capacity(size);
        let read = (&mut self.input).take(size as u64).read_to_end(&mut bytes);
        match read.map_err(Error::io("read", self.path))? {
            read if read == size => Ok(bytes),
            _ => Err(self.damaged("it ends too early")),
        }
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::damaged(self.path, what)
    }
}
