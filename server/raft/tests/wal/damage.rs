//! Logs with something wrong in them: only a torn last write is cut, everything else is refused, and a
//! log that is refused stays as it is.

use std::fs;
use std::path::{Path, PathBuf};

use metastore_raft::wal::{Error, Options};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::scratch::{Item, Log, append, copy, directory, item, items, options, segments, vote};

const SECTOR: usize = 512;
const HEAD: usize = 64;

/// A log in one segment: a state, four records of entries, and a vote between them.
struct Sample {
    directory: TempDir,
    options: Options,
    /// Where each record ends.
    ends: Vec<usize>,
    items: Vec<Item>,
}

impl Sample {
    /// Records of so many entries of so many bytes, each followed by nothing.
    fn new(records: &[(u64, usize)]) -> Self {
        let directory = directory();
        let options = options(directory.path());
        let log = Log::open(options.clone()).unwrap();
        let mut ends = vec![log.kept_bytes() as usize];
        let mut written = Vec::new();
        for (count, len) in records {
            let next = written.len() as u64;
            let more = items(1, next..next + count, *len);
            written.extend_from_slice(&more);
            append(&log, more);
            ends.push(log.kept_bytes() as usize);
        }
        drop(log);
        Self {
            directory,
            options,
            ends,
            items: written,
        }
    }

    fn usual() -> Self {
        Self::new(&[(1, 100), (3, 200), (1, 1200), (2, 700)])
    }

    fn file(&self) -> PathBuf {
        segments(&self.options)[0].clone()
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.file()).unwrap()
    }

    fn end(&self) -> usize {
        *self.ends.last().unwrap()
    }

    /// Where the last record begins.
    fn last(&self) -> usize {
        self.ends[self.ends.len() - 2]
    }

    /// The log with another content of its file. Without the segment in reserve: that makes it quick.
    fn with(&self, bytes: &[u8]) -> Damaged {
        let path = self.directory.path().join("damaged");
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        let file = path.join(self.file().file_name().unwrap());
        fs::write(&file, bytes).unwrap();
        Damaged {
            options: Options {
                directory: path,
                ..self.options.clone()
            },
            file,
        }
    }
}

struct Damaged {
    options: Options,
    file: PathBuf,
}

impl Damaged {
    /// Opens the log, which must be refused for damage of this file, and left alone.
    fn is_refused(&self) -> u64 {
        let before = fs::read(&self.file).unwrap();
        let names = |path: &Path| fs::read_dir(path).unwrap().count();
        let count = names(&self.options.directory);
        let Err(Error::Corrupt { file, offset, .. }) = Log::open(self.options.clone()) else {
            panic!("a damaged log was not refused")
        };
        assert_eq!(file, self.file);
        assert_eq!(fs::read(&self.file).unwrap(), before);
        assert_eq!(names(&self.options.directory), count);
        offset
    }

    /// Opens the log, which must hold these entries, goes on with it and opens it again.
    fn holds(&self, expected: &[Item]) {
        let log = Log::open(self.options.clone()).unwrap();
        assert_eq!(log.read(0..u64::MAX).unwrap(), expected);
        let next = expected.len() as u64;
        append(&log, items(2, next..next + 2, 300));
        drop(log);
        let log = Log::open(self.options.clone()).unwrap();
        assert_eq!(log.read(0..next).unwrap(), expected);
        assert_eq!(
            log.read(next..u64::MAX).unwrap(),
            items(2, next..next + 2, 300)
        );
    }
}

#[test]
fn a_changed_byte_in_any_record_is_refused_and_named() {
    let sample = Sample::usual();
    let bytes = sample.bytes();
    for at in 0..sample.end() {
        for change in [0xff, 1, bytes[at]] {
            if change == 0 {
                continue;
            }
            let mut changed = bytes.clone();
            changed[at] ^= change;
            let offset = sample.with(&changed).is_refused() as usize;
            let begin = sample
                .ends
                .iter()
                .rev()
                .find(|end| **end <= at)
                .copied()
                .unwrap_or(0);
            assert_eq!(offset, begin, "a change at {at}");
        }
    }
}

#[test]
fn a_changed_byte_in_a_last_record_of_zeros_is_refused_too() {
    let sample = Sample::usual();
    let directory = directory();
    let options = Options {
        directory: directory.path().join("zeros"),
        ..sample.options.clone()
    };
    let log = Log::open(options.clone()).unwrap();
    let begin = log.kept_bytes() as usize;
    let mut zeros = items(1, 0..1, 3000);
    zeros[0].bytes = vec![0; 3000].into();
    append(&log, zeros);
    let end = log.kept_bytes() as usize;
    drop(log);
    let bytes = fs::read(&segments(&options)[0]).unwrap();
    for at in begin..end {
        for change in [0xff, bytes[at]] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            if changed != bytes {
                sample.with(&changed).is_refused();
            }
        }
    }
}

#[test]
fn a_last_record_whose_end_was_not_written_is_cut_if_a_sector_is_missing_and_else_refused() {
    let sample = Sample::usual();
    let bytes = sample.bytes();
    let (last, end) = (sample.last(), sample.end());
    let before = &sample.items[..sample.items.len() - 2];
    for from in last..end {
        let mut torn = bytes.clone();
        torn[from..end].fill(0);
        let torn = sample.with(&torn);
        // The first sector is written whole or not at all: half a head is no torn write.
        let head = &bytes[from.min(last + HEAD)..last + HEAD];
        let head_is_torn = from > last && head.iter().any(|byte| *byte != 0);
        if from <= end - SECTOR && !head_is_torn {
            torn.holds(before);
        } else {
            assert_eq!(torn.is_refused() as usize, last);
        }
    }
}

#[test]
fn a_last_record_is_cut_whichever_of_its_sectors_are_missing() {
    let sample = Sample::usual();
    let bytes = sample.bytes();
    let (last, end) = (sample.last(), sample.end());
    let before = &sample.items[..sample.items.len() - 2];
    let sectors: Vec<usize> = (last..end).step_by(SECTOR).collect();
    for missing in 1u32..1 << sectors.len() {
        let mut torn = bytes.clone();
        for (bit, sector) in sectors.iter().enumerate() {
            if missing >> bit & 1 == 1 {
                torn[*sector..sector + SECTOR].fill(0);
            }
        }
        sample.with(&torn).holds(before);
    }
}

#[test]
fn a_missing_sector_before_another_record_is_refused() {
    let sample = Sample::usual();
    let bytes = sample.bytes();
    for sector in (0..sample.last()).step_by(SECTOR) {
        let mut torn = bytes.clone();
        torn[sector..sector + SECTOR].fill(0);
        sample.with(&torn).is_refused();
    }
}

#[test]
fn a_file_that_has_been_cut_at_any_byte_is_refused() {
    let sample = Sample::usual();
    let bytes = sample.bytes();
    for len in (0..bytes.len()).filter(|len| *len <= sample.end() + SECTOR || len % 97 == 0) {
        sample.with(&bytes[..len]).is_refused();
    }
    let longer = [bytes, vec![0; SECTOR]].concat();
    sample.with(&longer).is_refused();
}

#[test]
fn what_lies_after_the_last_record_is_refused_next_to_it_and_cut_further_on() {
    let sample = Sample::usual();
    let bytes = sample.bytes();
    let end = sample.end();
    for at in (end..bytes.len()).step_by(61) {
        let mut changed = bytes.clone();
        changed[at] = 0x77;
        let damaged = sample.with(&changed);
        // The next record would begin in that sector, which is written whole or not at all.
        if at < end + SECTOR {
            damaged.is_refused();
        } else {
            damaged.holds(&sample.items)
        }
    }
}

#[test]
fn records_of_another_place_or_another_log_are_refused() {
    let sample = Sample::usual();
    let bytes = sample.bytes();
    let other = Sample::usual().bytes();
    let (last, end) = (sample.last(), sample.end());
    // A record again, one in the place of another, and one of another log.
    let mut again = bytes.clone();
    again.copy_within(last..end, end);
    assert_eq!(sample.with(&again).is_refused() as usize, end);
    let mut elsewhere = bytes.clone();
    elsewhere.copy_within(last..end, sample.ends[0]);
    sample.with(&elsewhere).is_refused();
    let mut foreign = bytes.clone();
    foreign[last..end].copy_from_slice(&other[last..end]);
    assert_eq!(sample.with(&foreign).is_refused() as usize, last);
}

#[test]
fn a_log_of_a_later_format_is_refused() {
    let sample = Sample::usual();
    let mut bytes = sample.bytes();
    bytes[12] = 2;
    let crc = crc32c::crc32c(&bytes[12..64]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    let damaged = sample.with(&bytes);
    let opened = Log::open(damaged.options.clone());
    assert!(matches!(
        opened,
        Err(Error::NewerFormat {
            found: 2,
            known: 1,
            ..
        })
    ));
}

/// A log of many segments.
fn long() -> (TempDir, Options, u64) {
    let directory = directory();
    let options = options(directory.path());
    let log = Log::open(options.clone()).unwrap();
    for index in 0..100 {
        append(&log, items(1, index..index + 1, 1000));
        if index % 10 == 0 {
            vote(&log, index);
        }
    }
    drop(log);
    (directory, options, 100)
}

/// Opens a log and reads all of it; the first error of either.
fn read_all(options: &Options) -> Result<Vec<Item>, Error> {
    Log::open(options.clone())?.read(0..u64::MAX)
}

#[test]
fn a_changed_byte_in_any_segment_is_noticed_when_the_log_is_opened_or_read() {
    let (_directory, options, count) = long();
    let scratch = directory();
    let files = segments(&options);
    assert!(files.len() > 6);
    // The newest may be one in reserve, without a record.
    let used = files
        .iter()
        .filter(|file| fs::read(file).unwrap().iter().any(|byte| *byte != 0))
        .count();
    for path in &files[..used] {
        let bytes = fs::read(path).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        for offset in (0..=end).step_by(173) {
            let damaged = copy(&options, scratch.path());
            let file = damaged.directory.join(path.file_name().unwrap());
            let mut changed = bytes.clone();
            changed[offset] ^= 0x20;
            fs::write(&file, changed).unwrap();
            match read_all(&damaged) {
                Err(Error::Corrupt { file: named, .. }) => assert_eq!(named, file),
                Err(error) => panic!("{error}"),
                // Padding, or the vote between: not needed any more, nothing is lost.
                Ok(read) => assert_eq!(
                    read,
                    items(1, 0..count, 1000),
                    "a change at {offset} of {}",
                    file.display()
                ),
            }
        }
    }
}

#[test]
fn segments_missing_at_the_beginning_count_as_purged_and_in_between_are_an_error() {
    let (_directory, options, count) = long();
    let files = segments(&options);
    let scratch = directory();
    let purged = copy(&options, scratch.path());
    for file in &files[..2] {
        fs::remove_file(purged.directory.join(file.file_name().unwrap())).unwrap();
    }
    let log = Log::open(purged.clone()).unwrap();
    let floor = log.history().purged.unwrap().index;
    assert!(floor > 0 && floor < count - 1);
    assert_eq!(
        log.read(0..count).unwrap(),
        items(1, floor + 1..count, 1000)
    );
    drop(log);
    let holed = copy(&options, scratch.path());
    fs::remove_file(holed.directory.join(files[2].file_name().unwrap())).unwrap();
    assert!(matches!(read_all(&holed), Err(Error::Corrupt { .. })));
}

#[test]
fn a_segment_whose_first_record_was_torn_is_dropped_for_the_one_before() {
    let (_directory, options, _) = long();
    let scratch = directory();
    let files = segments(&options);
    let used: Vec<_> = files
        .iter()
        .filter(|file| fs::read(file).unwrap().iter().any(|byte| *byte != 0))
        .collect();
    let newest = used[used.len() - 1];
    let bytes = fs::read(newest).unwrap();
    // Leave the first record alone in it, and tear that.
    let second = bytes
        .chunks(SECTOR)
        .skip(1)
        .position(|sector| sector.starts_with(&bytes[..8]))
        .unwrap()
        + 1;
    for missing in 0..second {
        let torn = copy(&options, scratch.path());
        let file = torn.directory.join(newest.file_name().unwrap());
        let mut first = bytes.clone();
        first[second * SECTOR..].fill(0);
        first[missing * SECTOR..(missing + 1) * SECTOR].fill(0);
        fs::write(&file, &first).unwrap();
        let log = Log::open(torn.clone()).unwrap();
        let read = log.read(0..u64::MAX).unwrap();
        assert_eq!(read, items(1, 0..read.len() as u64, 1000));
        let next = read.len() as u64;
        append(&log, items(2, next..next + 30, 1000));
        drop(log);
        assert_eq!(read_all(&torn).unwrap().len() as u64, next + 30);
        // With a record behind it, it has been synced: not torn, but damaged.
        let mut damaged = bytes.clone();
        damaged[missing * SECTOR..(missing + 1) * SECTOR].fill(0);
        let torn = copy(&options, scratch.path());
        fs::write(&file, &damaged).unwrap();
        assert!(matches!(read_all(&torn), Err(Error::Corrupt { .. })));
    }
}

#[test]
fn a_log_whose_files_are_all_empty_is_refused() {
    let (_directory, options, _) = long();
    for zeros in [0, 4096] {
        for file in segments(&options) {
            fs::write(file, vec![0; zeros]).unwrap();
        }
        assert!(matches!(read_all(&options), Err(Error::Corrupt { .. })));
    }
}

#[test]
fn a_log_is_open_once_at_a_time() {
    let sample = Sample::usual();
    let log = Log::open(sample.options.clone()).unwrap();
    assert!(matches!(
        Log::open(sample.options.clone()),
        Err(Error::InUse(_))
    ));
    drop(log);
    Log::open(sample.options).unwrap();
}

proptest! {
    /// What a power failure may leave: all that was synced, and of the last write any of its sectors.
    #[test]
    fn a_log_always_opens_after_a_power_failure_with_all_that_was_durable(
        batches in proptest::collection::vec(
            (proptest::collection::vec(0usize..3000, 1..6), any::<bool>()), 1..12),
        missing in proptest::collection::vec(any::<bool>(), 64),
    ) {
        let (directory, scratch) = (directory(), directory());
        let options = options(directory.path());
        let log = Log::open(options.clone()).unwrap();
        let mut written: Vec<Item> = Vec::new();
        let mut before = None;
        for (lens, zeros) in batches {
            let kept = segments(&options).iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>();
            before = Some((kept, written.clone()));
            let next = written.len() as u64;
            let batch: Vec<Item> = (next..).zip(lens).map(|(index, len)| {
                let mut item = item(1, index, len);
                if zeros {
                    item.bytes = vec![0; len].into();
                }
                item
            }).collect();
            written.extend_from_slice(&batch);
            append(&log, batch);
        }
        let (kept, durable) = before.unwrap();
        drop(log);
        let torn = copy(&options, scratch.path());
        let mut left_out = false;
        let mut missing = missing.into_iter().cycle();
        for (at, file) in segments(&torn).iter().enumerate() {
            let mut bytes = fs::read(file).unwrap();
            let synced = kept.get(at).cloned().unwrap_or_else(|| vec![0; bytes.len()]);
            for (sector, synced) in bytes.chunks_mut(SECTOR).zip(synced.chunks(SECTOR)) {
                if sector != synced && missing.next().unwrap() {
                    sector.copy_from_slice(synced);
                    left_out = true;
                }
            }
            fs::write(file, bytes).unwrap();
        }
        let expected = if left_out { &durable } else { &written };
        let log = Log::open(torn.clone()).unwrap();
        prop_assert_eq!(&log.read(0..u64::MAX).unwrap(), expected);
        let next = expected.len() as u64;
        append(&log, items(2, next..next + 5, 2000));
        drop(log);
        prop_assert_eq!(read_all(&torn).unwrap().len() as u64, next + 5);
    }
}
