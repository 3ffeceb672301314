//! Looking after the tables, on a thread of its own, once in some flushes.
//!
//! Each flush leaves a table in each family, and since their rows are appended in order RocksDB
//! only moves them down and never merges them. So runs of adjacent small tables are made one here,
//! in steps of one table's size; tables of full size are never rewritten for this. Where many rows
//! have been deleted, their space is reclaimed.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rocksdb::{BottommostLevelCompaction, CompactOptions, DB, LiveFile};

use super::options::TABLE_BYTES;
use super::{Database, family, family_name, reclaim};
use crate::Space;

/// Flushes after which the tables are looked at.
const FLUSHES: u32 = 16;

/// A table below this size is small.
const SMALL_BYTES: usize = TABLE_BYTES / 4;

/// Adjacent small tables that are worth merging.
const TABLES_MIN: usize = 8;

/// Counts flushes and wakes the thread. Dropping it waits for the step under way.
pub(super) struct Gatherer {
    flushes: AtomicU32,
    is_stopping: Arc<AtomicBool>,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Adjacent small tables of one family: their first and last key.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    from: Vec<u8>,
    to: Vec<u8>,
    tables: usize,
    bytes: usize,
}

impl Gatherer {
    pub(super) fn start(database: Arc<Database>) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let is_stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_stopping);
        let thread = std::thread::Builder::new()
            .name("engine-gather".to_owned())
            .spawn(move || gather_when_woken(&database, &woken, &stop))?;
        Ok(Self {
            flushes: AtomicU32::new(0),
            is_stopping,
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// Notes that a flush has added tables.
    pub(super) fn note_flush(&self) {
        let flushes = self.flushes.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(wake) = self.wake.as_ref()
            && flushes.is_multiple_of(FLUSHES)
        {
            // A full channel means that it will look anyway.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Gatherer {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by its own hook.
            let _ = thread.join();
        }
    }
}

fn gather_when_woken(database: &Database, woken: &Receiver<()>, is_stopping: &AtomicBool) {
    while woken.recv().is_ok() {
        look_after(&database.db, is_stopping);
    }
}

/// A failure is RocksDB's background error, which the next write or flush reports.
fn look_after(db: &DB, is_stopping: &AtomicBool) {
    let Ok(files) = db.live_files() else {
        return;
    };
    if reclaim::is_due(&files) {
        let _ = reclaim::reclaim(db, &|_| match is_stopping.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        });
    }
    gather(db, &|| is_stopping.load(Ordering::Relaxed));
}

/// Merges the runs that are worth it, until `is_stopping`.
pub(super) fn gather(db: &DB, is_stopping: &dyn Fn() -> bool) {
    let Ok(files) = db.live_files() else {
        return;
    };
    let mut options = CompactOptions::default();
    options.set_exclusive_manual_compaction(false);
    options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
    for space in Space::ALL {
        for run in runs(family_name(space), &files) {
            if is_stopping() {
                return;
            }
            let (from, to) = (Some(&run.from), Some(&run.to));
            db.compact_range_cf_opt(family(db, space), from, to, &options);
        }
    }
}

/// The runs of a family that are worth merging, each of about one table's size.
fn runs(family: &str, files: &[LiveFile]) -> Vec<Run> {
    let mut tables: Vec<(&[u8], &[u8], usize)> = files
        .iter()
        // Level 0 is RocksDB's to empty.
        .filter(|file| file.column_family_name == family && file.level > 0)
        .filter_map(|file| {
            Some((
                file.start_key.as_deref()?,
                file.end_key.as_deref()?,
                file.size,
            ))
        })
        .collect();
    tables.sort_unstable();
    let mut runs: Vec<Run> = Vec::new();
    let mut is_open = false;
    for (from, to, bytes) in tables {
        if bytes >= SMALL_BYTES {
            is_open = false;
            continue;
        }
        match runs.last_mut().filter(|_| is_open) {
            Some(run) if run.bytes + bytes <= TABLE_BYTES => {
                run.to = run.to.as_slice().max(to).to_vec();
                run.tables += 1;
                run.bytes += bytes;
            }
            _ => runs.push(Run {
                from: from.to_vec(),
                to: to.to_vec(),
                tables: 1,
                bytes,
            }),
        }
        is_open = true;
    }
    runs.retain(|run| run.tables >= TABLES_MIN);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(number: u8, level: i32, size: usize) -> LiveFile {
        LiveFile {
            column_family_name: "record".to_owned(),
            name: String::new(),
            size,
            level,
            start_key: Some(vec![number, 0]),
            end_key: Some(vec![number, 9]),
            num_entries: 1,
            num_deletions: 0,
        }
    }

    fn bounds(files: &[LiveFile]) -> Vec<(u8, u8)> {
        let runs = runs("record", files);
        runs.iter().map(|run| (run.from[0], run.to[0])).collect()
    }

    #[test]
    fn a_run_is_adjacent_small_tables_below_level_0() {
        let small = |number| table(number, 6, 1000);
        assert_eq!(bounds(&[]), []);
        assert_eq!(bounds(&(0..7).map(small).collect::<Vec<_>>()), []);
        assert_eq!(
            bounds(&(0..8).rev().map(small).collect::<Vec<_>>()),
            [(0, 7)]
        );
        let mut files: Vec<_> = (0..20).map(small).collect();
        files[9].size = TABLE_BYTES;
        files[19].level = 0;
        assert_eq!(bounds(&files), [(0, 8), (10, 18)]);
        assert_eq!(runs("meta", &files), []);
    }

    #[test]
    fn a_run_is_about_one_table_s_size() {
        let size = SMALL_BYTES / 4;
        let files: Vec<_> = (0..40).map(|number| table(number, 6, size)).collect();
        assert_eq!(bounds(&files), [(0, 15), (16, 31), (32, 39)]);
    }
}
