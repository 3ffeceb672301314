//! Cuts a pinned state into chunks.
//!
//! The same state is always cut in the same places, so a chunk is known by its number alone.

use std::ops::ControlFlow;

use bytes::Bytes;
use metastore_engine::{Error, Space};
use metastore_proto::peerpb::{SnapshotChunk, SnapshotHeader};
use tokio::sync::mpsc;

use super::pins::{Pinned, Place};

const CHUNK_BYTES: usize = 1 << 20;

/// Reads the chunks from number `skip` on, and hands them over until nobody takes them any more. The first one
/// carries the header.
pub(super) fn read_chunks(
    pinned: &Pinned,
    header: SnapshotHeader,
    skip: u64,
    sender: &mpsc::Sender<SnapshotChunk>,
) {
    let mut header = Some(header);
    let (mut number, mut place) = pinned.place_before(skip);
    loop {
        let chunk = match cut(pinned, &place) {
            Ok(chunk) => chunk,
            Err(error) => {
                tracing::error!(error = %error, "reading a snapshot failed");
                return;
            }
        };
        let last = chunk.next.is_none();
        if number >= skip || last {
            let rows = Bytes::from(chunk.rows);
            let chunk = SnapshotChunk {
                header: header.take(),
                checksum: crc32c::crc32c(&rows),
                rows,
                number,
                last,
            };
            if sender.blocking_send(chunk).is_err() {
                return;
            }
        }
        let Some(next) = chunk.next else { return };
        number += 1;
        pinned.note_place(number, &next);
        place = next;
    }
}

impl Pinned {
    /// The nearest place at or before chunk `number` that is known.
    fn place_before(&self, number: u64) -> (u64, Place) {
        let places = self.places.lock();
        let known = usize::try_from(number)
            .unwrap_or(usize::MAX)
            .min(places.len());
        match known.checked_sub(1) {
            Some(at) => (known as u64, places[at].clone()),
            None => (
                0,
                Place {
                    space: Space::ALL[0],
                    key: Vec::new(),
                },
            ),
        }
    }

    /// Remembers where chunk `number` begins; the first begins at the beginning.
    fn note_place(&self, number: u64, place: &Place) {
        let mut places = self.places.lock();
        if places.len() as u64 + 1 == number {
            places.push(place.clone());
        }
    }
}

struct Cut {
    rows: Vec<u8>,
    /// Where the next chunk begins; none after the last.
    next: Option<Place>,
}

/// Reads one chunk.
fn cut(pinned: &Pinned, place: &Place) -> Result<Cut, Error> {
    let mut rows = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8);
    let mut next = None;
    let view = pinned.view();
    for space in Space::ALL.into_iter().filter(|space| *space >= place.space) {
        let from: &[u8] = if space == place.space {
            &place.key
        } else {
            &[]
        };
        view.scan(space, from, None, &mut |key, value| {
            if rows.len() >= CHUNK_BYTES {
                let key = key.to_vec();
                next = Some(Place { space, key });
                return ControlFlow::Break(());
            }
            put_row(&mut rows, space, key, value);
            ControlFlow::Continue(())
        })?;
        if next.is_some() {
            break;
        }
    }
    Ok(Cut { rows, next })
}

fn put_row(rows: &mut Vec<u8>, space: Space, key: &[u8], value: &[u8]) {
    rows.push(space as u8);
    rows.extend_from_slice(&(key.len() as u32).to_le_bytes());
    rows.extend_from_slice(&(value.len() as u32).to_le_bytes());
    rows.extend_from_slice(key);
    rows.extend_from_slice(value);
}

/// Space, key and value of the first row, and the rows behind it.
type Row<'r> = (Space, &'r [u8], &'r [u8], &'r [u8]);

/// The first row of a chunk; none where it is cut short.
pub(super) fn row(rows: &[u8]) -> Option<Row<'_>> {
    let (&number, rows) = rows.split_first()?;
    let (key_length, rows) = rows.split_first_chunk::<4>()?;
    let (value_length, rows) = rows.split_first_chunk::<4>()?;
    let (key, rows) = rows.split_at_checked(u32::from_le_bytes(*key_length) as usize)?;
    let (value, rest) = rows.split_at_checked(u32::from_le_bytes(*value_length) as usize)?;
    Some((*Space::ALL.get(number as usize)?, key, value, rest))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use metastore_engine::{Batch, Kind, Options};

    use super::*;
    use crate::types::SnapshotMeta;

    /// A state of a few MiB.
    fn pinned() -> Arc<Pinned> {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = metastore_engine::open(Kind::Memory, folder.path(), Options::default());
        let engine = engine.expect("an engine");
        let mut batch = Batch::new();
        for number in 0..40_u32 {
            batch.put(
                Space::Record,
                &number.to_be_bytes(),
                &[number as u8; 100_000],
            );
            batch.put(Space::System, &number.to_be_bytes(), b"row");
        }
        engine.write(&batch).expect("written");
        Pinned::new(
            SnapshotMeta::default(),
            "memory",
            engine.view().expect("a view"),
        )
    }

    fn chunks(pinned: &Pinned, skip: u64) -> Vec<SnapshotChunk> {
        let (sender, mut receiver) = mpsc::channel(100);
        read_chunks(pinned, SnapshotHeader::default(), skip, &sender);
        drop(sender);
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    #[test]
    fn a_transfer_goes_on_where_it_broke_whether_its_place_is_known_or_not() {
        let all = chunks(&pinned(), 0);
        assert_eq!(all.len(), 4);
        for skip in 0..=all.len() {
            let fresh = pinned();
            for pass in 0..2 {
                let rest = chunks(&fresh, skip as u64);
                // The last chunk ends a transfer, even when it is there already.
                let expected = &all[skip.min(all.len() - 1)..];
                assert_eq!(rest.len(), expected.len(), "skip {skip}, pass {pass}");
                assert!(rest[0].header.is_some());
                for (one, other) in rest.iter().zip(expected) {
                    assert_eq!(
                        (one.number, one.checksum, one.last),
                        (other.number, other.checksum, other.last)
                    );
                }
            }
        }
    }

    #[test]
    fn an_empty_state_is_one_last_chunk() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = metastore_engine::open(Kind::Memory, folder.path(), Options::default());
        let view = engine.expect("an engine").view().expect("a view");
        let all = chunks(&Pinned::new(SnapshotMeta::default(), "memory", view), 0);
        assert!(all.len() == 1 && all[0].last && all[0].rows.is_empty());
    }
}
