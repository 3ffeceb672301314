//! Giving disk space back: tombstones are carried down to the rows that they delete.
//!
//! Promises: work is done in key ranges of bounded size, one at a time, beside reads, writes and
//! RocksDB's own compactions. Tables that no tombstone reaches are not rewritten.

use std::ops::ControlFlow;

use rocksdb::{BottommostLevelCompaction, CompactOptions, DB, LiveFile, properties};

use super::{failed, family, family_name};
use crate::{Error, Progress, Space};

/// Bytes of tables in one range.
const RANGE_BYTES: usize = 64 << 20;

/// Tombstones below which their rows are left to RocksDB, and to the next reclaim.
const TOMBSTONES_MIN: u64 = 200_000;

/// Entries for each tombstone at which the space of deleted rows is worth the work.
const ENTRIES_PER_TOMBSTONE: u64 = 4;

/// A key range of a space, both ends included; None is the last key.
#[derive(Debug, PartialEq, Eq)]
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

/// Whether the tables hold so many tombstones that their rows should not wait for RocksDB, which
/// goes by the bytes of a table: a tombstone is small, and the row it deletes may not be.
pub(super) fn is_due(files: &[LiveFile]) -> bool {
    let tombstones: u64 = files.iter().map(|file| file.num_deletions).sum();
    let entries: u64 = files.iter().map(|file| file.num_entries).sum();
    tombstones >= TOMBSTONES_MIN && tombstones * ENTRIES_PER_TOMBSTONE >= entries
}

/// Cuts the keys of a space into ranges of about [`RANGE_BYTES`], between its tables.
fn ranges(space: Space, files: &[LiveFile]) -> Vec<Range> {
    let mut tables: Vec<(&[u8], usize)> = files
        .iter()
        // Tables of level 0 may reach over all keys.
        .filter(|file| file.column_family_name == family_name(space) && file.level > 0)
        .filter_map(|file| Some((file.end_key.as_deref()?, file.size)))
        .collect();
    tables.sort_unstable();
    let mut ranges = Vec::new();
    let mut from = Vec::new();
    let mut bytes = 0;
    for (end, size) in tables {
        bytes += size;
        if bytes >= RANGE_BYTES {
            bytes = 0;
            // The least key behind this table.
            let next = [end, &[0]].concat();
            let from = std::mem::replace(&mut from, next);
            ranges.push(Range {
                space,
                from,
                to: Some(end.to_vec()),
            });
        }
    }
    ranges.push(Range {
        space,
        from,
        to: None,
    });
    ranges
}

fn background_errors(db: &DB) -> u64 {
    db.property_int_value(properties::BACKGROUND_ERRORS)
        .ok()
        .flatten()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(number: u8, level: i32, num_entries: u64, num_deletions: u64) -> LiveFile {
        LiveFile {
            column_family_name: "meta".to_owned(),
            name: String::new(),
            size: RANGE_BYTES / 2,
            level,
            start_key: Some(vec![number]),
            end_key: Some(vec![number, 9]),
            num_entries,
            num_deletions,
        }
    }

    #[test]
    fn ranges_cover_every_key_and_end_with_tables() {
        let range = |from: &[u8], to: Option<&[u8]>| Range {
            space: Space::Meta,
            from: from.to_vec(),
            to: to.map(<[u8]>::to_vec),
        };
        assert_eq!(ranges(Space::Meta, &[]), [range(&[], None)]);
        let files: Vec<_> = [3, 1, 2, 5, 4]
            .map(|number| table(number, 6, 1, 0))
            .into_iter()
            .chain([table(0, 0, 1, 0)])
            .collect();
        assert_eq!(
            ranges(Space::Meta, &files),
            [
                range(&[], Some(&[2, 9])),
                range(&[2, 9, 0], Some(&[4, 9])),
                range(&[4, 9, 0], None),
            ]
        );
        assert_eq!(
            ranges(Space::Record, &files),
            [Range {
                space: Space::Record,
                ..range(&[], None)
            }]
        );
    }

    #[test]
    fn a_reclaim_is_due_where_a_quarter_are_tombstones_and_they_are_many() {
        assert!(!is_due(&[]));
        assert!(!is_due(&[table(1, 6, 1000, 1000)]));
        assert!(!is_due(&[table(1, 6, 1_000_000, 240_000)]));
        assert!(is_due(&[
            table(1, 6, 700_000, 0),
            table(2, 0, 300_000, 250_000)
        ]));
    }
}
