//! A part of a segment in memory, moved along as it is read.

use std::sync::Arc;

use super::Error;
use super::disk::SegmentFile;
use super::format;

/// Bytes read at once.
const BYTES: usize = 256 << 10;

/// Reads segments in large portions, whatever is asked for.
#[derive(Debug)]
pub(super) struct Window {
    file: Arc<SegmentFile>,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(super) fn new(file: Arc<SegmentFile>) -> Self {
        Self {
            file,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// From now on reads `file`.
    pub(super) fn turn_to(&mut self, file: &Arc<SegmentFile>) {
        if self.file.id != file.id {
            self.file = file.clone();
            self.bytes.clear();
        }
    }

    pub(super) fn file(&self) -> &Arc<SegmentFile> {
        &self.file
    }

    /// Bytes that the file has from `offset` on.
    pub(super) fn left(&self, offset: u64) -> u64 {
        self.file.bytes.saturating_sub(offset)
    }

    /// `len` bytes at `offset`, as they are in the file.
    pub(super) fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8], Error> {
        let end = offset + len as u64;
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            self.fill(offset, len)?;
        }
        let at = usize::try_from(offset - self.start).expect("within the window");
        Ok(&self.bytes[at..at + len])
    }

    /// A copy of `len` bytes at `offset` without their mask.
    pub(super) fn plain(&mut self, offset: u64, len: usize, mask: u32) -> Result<Vec<u8>, Error> {
        let mut out = self.bytes(offset, len)?.to_vec();
        format::apply_mask(mask, offset, &mut out);
        Ok(out)
    }

    fn fill(&mut self, offset: u64, len: usize) -> Result<(), Error> {
        let left = self.left(offset);
        if left < len as u64 {
            return Err(Error::corrupt(
                &self.file.path,
                offset,
                "the record is longer than the file",
            ));
        }
        let len = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(len.max(BYTES));
        self.bytes.resize(len, 0);
        self.start = offset;
        self.file.read_at(offset, &mut self.bytes)
    }
}
