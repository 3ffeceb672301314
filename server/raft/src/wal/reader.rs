//! Reads entries back from the segments.
//!
//! What to read is fixed while the log is locked, the reading is not: files only grow, and a removed one
//! stays readable as long as it is open here.

use std::sync::Arc;

use bytes::Bytes;

use super::disk::SegmentFile;
use super::format::{self, Found, HEAD_BYTES, Head, Input, SECTOR};
use super::ops::{self, ENTRY_HEAD_BYTES, Op};
use super::places::Place;
use super::shared::View;
use super::window::Window;
use super::{Entry, Error};

/// Entries that are to be read from files.
#[derive(Debug)]
pub(super) struct OnDisk {
    from: u64,
    regions: Vec<Region>,
}

/// A stretch of one segment in which entries follow each other.
#[derive(Debug)]
struct Region {
    file: Arc<SegmentFile>,
    place: Place,
    /// One past the last entry to read here.
    stop: u64,
}

impl OnDisk {
    /// The way to the entries `from..to`, which are in the files; of at most `regions_max` regions.
    pub(super) fn plan<E>(view: &View<E>, from: u64, to: u64, regions_max: usize) -> Option<Self> {
        let covering = view.places.covering(from, to, regions_max)?;
        let regions = covering.into_iter().map(|(place, stop)| {
            let file = view.segment(place.segment)?.file.clone();
            Some(Region { file, place, stop })
        });
        Some(Self {
            from,
            regions: regions.collect::<Option<_>>()?,
        })
    }

    /// Reads them; stops after `bytes_max`, but not before the first.
    pub(super) fn read<E: Entry>(&self, bytes_max: usize) -> Result<Vec<E>, Error> {
        let mut out = Vec::new();
        let mut bytes = 0;
        let Some(first) = self.regions.first() else {
            return Ok(out);
        };
        let mut window = Window::new(first.file.clone());
        for region in &self.regions {
            window.turn_to(&region.file);
            if !region.read(self.from, &mut window, (&mut bytes, bytes_max), &mut out)? {
                break;
            }
        }
        Ok(out)
    }
}

impl Region {
    /// False when `bytes` of what is read have reached their limit.
    fn read<E: Entry>(
        &self,
        from: u64,
        window: &mut Window,
        (bytes, bytes_max): (&mut usize, usize),
        out: &mut Vec<E>,
    ) -> Result<bool, Error> {
        let (mut at, mut end, mut mask) = (
            u64::from(self.place.offset),
            u64::from(self.place.body_end),
            self.place.mask,
        );
        let mut next = self.place.index;
        while next < self.stop {
            if at >= end {
                let begin = end.next_multiple_of(SECTOR as u64);
                let head = self.head(window, begin)?;
                at = begin + HEAD_BYTES as u64;
                end = at + u64::from(head.body_bytes);
                mask = head.mask;
                continue;
            }
            let corrupt = |what: &str| Error::corrupt(&self.file.path, at, what);
            let len = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(ENTRY_HEAD_BYTES);
            let head = window.plain(at, len, mask)?;
            let (is_entry, len, index) =
                ops::peek(&head).ok_or_else(|| corrupt("the record ends within an op"))?;
            if at + len as u64 > end {
                return Err(corrupt("the record ends within an op"));
            }
            if is_entry {
                if index != next {
                    return Err(corrupt(&format!("entry {index} instead of {next}")));
                }
                if next >= from {
                    let entry: E =
                        decode(window.plain(at, len, mask)?).map_err(|what| corrupt(&what))?;
                    *bytes += entry.byte_len();
                    if *bytes > bytes_max && !out.is_empty() {
                        return Ok(false);
                    }
                    out.push(entry);
                }
                next += 1;
            }
            at += len as u64;
        }
        Ok(true)
    }

    fn head(&self, window: &mut Window, at: u64) -> Result<Head, Error> {
        match Head::find(&window.plain(at, SECTOR, 0)?) {
            Found::Record(head) if head.segment == self.file.id => Ok(head),
            Found::Newer(found) => Err(format::newer(&self.file.path, found)),
            _ => Err(Error::corrupt(&self.file.path, at, "not a record")),
        }
    }
}

fn decode<E: Entry>(op: Vec<u8>) -> Result<E, String> {
    let at = match ops::take_op(&mut Input::new(&op))? {
        Op::Entry(at, _) => at,
        _ => return Err("an op of another kind than expected".into()),
    };
    E::decode(at, Bytes::from(op).slice(ENTRY_HEAD_BYTES..))
}
