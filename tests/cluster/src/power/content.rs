//! The bytes of a file, in pages; a page of zeros takes no memory.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const PAGE: usize = 4096;
/// The unit that a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;

/// A change of a file's bytes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: u64, data: Arc<[u8]> },
    Resize(u64),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
    bytes: u64,
}

impl Content {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, data } => self.write(*offset, data),
            Change::Resize(bytes) => self.resize(*bytes),
        }
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        self.bytes = self.bytes.max(offset + data.len() as u64);
        let (mut at, mut left) = (offset, data);
        while !left.is_empty() {
            let within = (at % PAGE as u64) as usize;
            let (now, rest) = left.split_at(left.len().min(PAGE - within));
            self.write_page(at / PAGE as u64, within, now);
            at += now.len() as u64;
            left = rest;
        }
    }

    fn write_page(&mut self, number: u64, within: usize, data: &[u8]) {
        let is_zero = data.iter().all(|byte| *byte == 0);
        if is_zero && (data.len() == PAGE || !self.pages.contains_key(&number)) {
            self.pages.remove(&number);
            return;
        }
        let page = self.pages.entry(number);
        let page = Arc::make_mut(page.or_insert_with(|| Arc::new([0; PAGE])));
        page[within..within + data.len()].copy_from_slice(data);
    }

    fn resize(&mut self, bytes: u64) {
        if bytes < self.bytes {
            let last = bytes / PAGE as u64;
            self.pages.split_off(&(last + 1));
            if let Some(page) = self.pages.get_mut(&last) {
                Arc::make_mut(page)[(bytes % PAGE as u64) as usize..].fill(0);
            }
        }
        self.bytes = bytes;
    }

    pub(super) fn read(&self, offset: u64, size: usize) -> Vec<u8> {
        let end = self.bytes.min(offset.saturating_add(size as u64));
        if offset >= end {
            return Vec::new();
        }
        let mut out = vec![0; (end - offset) as usize];
        let pages = self
            .pages
            .range(offset / PAGE as u64..end.div_ceil(PAGE as u64));
        for (number, page) in pages {
            let begin = number * PAGE as u64;
            let from = begin.max(offset);
            let to = (begin + PAGE as u64).min(end);
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&page[(from - begin) as usize..(to - begin) as usize]);
        }
        out
    }

    /// Writes it all into an empty file.
    pub(super) fn lay_out(&self, file: &std::fs::File) -> io::Result<()> {
        file.set_len(self.bytes)?;
        for (number, page) in &self.pages {
            let begin = number * PAGE as u64;
            let len = self.bytes.saturating_sub(begin).min(PAGE as u64) as usize;
            file.write_all_at(&page[..len], begin)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_is_zero() {
        let mut content = Content::default();
        content.write(5000, &[7; 4000]);
        assert_eq!(content.bytes(), 9000);
        assert_eq!(content.read(0, 5000), vec![0; 5000]);
        assert_eq!(content.read(5000, 10_000), vec![7; 4000]);
        content.write(6000, &[0; 3000]);
        assert_eq!(content.read(5999, 2), vec![7, 0]);
    }

    #[test]
    fn what_was_cut_off_does_not_come_back() {
        let mut content = Content::default();
        content.write(0, &[7; 10_000]);
        content.apply(&Change::Resize(100));
        content.apply(&Change::Resize(10_000));
        assert_eq!(content.read(99, 3), vec![7, 0, 0]);
        assert_eq!(content.read(9000, 5), vec![0; 5]);
    }
}
