//! Giving disk space back: tombstones are carried down to the rows that they delete.
//!
//! Promises: work is done in key ranges of bounded size, one at a time, beside reads, writes and
//! RocksDB's own compactions. What holds no deleted rows is not rewritten.

use std::ops::ControlFlow;

use rocksdb::{BottommostLevelCompaction, CompactOptions, DB, LiveFile, properties};

use super::{failed, family, family_name};
use crate::{Error, Progress, Space};

/// Bytes of tables in one range.
const RANGE_BYTES: usize = 64 << 20;

/// A key range of a space; None is beyond its last table.
struct Range {
    space: Space,
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

pub(super) fn reclaim(
    db: &DB,
    progress: &dyn Fn(Progress) -> ControlFlow<()>,
) -> Result<(), Error> {
    let files = db
        .live_files()
        .map_err(|error| failed("list tables", db.path(), error))?;
    let ranges: Vec<Range> = Space::ALL
        .into_iter()
        .flat_map(|space| ranges(space, &files))
        .collect();
    let errors_before = background_errors(db);
    let mut options = CompactOptions::default();
    options.set_exclusive_manual_compaction(false);
    options.set_bottommost_level_compaction(BottommostLevelCompaction::IfHaveCompactionFilter);
    let total = ranges.len() as u64;
    for (done, range) in (1..).zip(&ranges) {
        db.compact_range_cf_opt(
            family(db, range.space),
            Some(&range.from),
            range.to.as_ref(),
            &options,
        );
        if background_errors(db) != errors_before {
            return Err(Error::Storage {
                action: "compact",
                source: "a background job failed, see the file LOG".into(),
            });
        }
        if progress(Progress { done, total }).is_break() {
            break;
        }
    }
    Ok(())
}

/// Cuts the keys of a space into ranges of about [`RANGE_BYTES`], at the beginnings of tables.
fn ranges(space: Space, files: &[LiveFile]) -> Vec<Range> {
    let mut tables: Vec<(&[u8], usize)> = files
        .iter()
        .filter(|file| file.column_family_name == family_name(space))
        .filter_map(|file| Some((file.start_key.as_deref()?, file.size)))
        .collect();
    tables.sort_unstable();
    let mut ranges: Vec<Range> = Vec::new();
    let mut bytes = 0;
    for (start, size) in tables {
        let is_full = bytes >= RANGE_BYTES;
        if let Some(last) = ranges.last_mut().filter(|_| is_full) {
            last.to = Some(start.to_vec());
        }
        if is_full || ranges.is_empty() {
            bytes = 0;
            ranges.push(Range {
                space,
                from: start.to_vec(),
                to: None,
            });
        }
        bytes += size;
    }
    ranges
}

fn background_errors(db: &DB) -> u64 {
    db.property_int_value(properties::BACKGROUND_ERRORS)
        .ok()
        .flatten()
        .unwrap_or(0)
}
