//! The thread that writes the log.
//!
//! Promises: what was queued together goes out with one write and one sync, in order; a caller is told
//! "done" only after the sync. After a write or sync that failed nothing more is written, and everybody
//! is told.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::disk::SegmentFile;
use super::format::{BODY_BYTES_MAX, HEAD_BYTES, Seal, record_bytes, seal};
use super::history::History;
use super::ops::{self, ENTRY_HEAD_BYTES, SMALL_OP_BYTES, State, Summary};
use super::places::Place;
use super::shared::{Op, Queued, Segment, Shared};
use super::{Done, Entry, Error};

/// A buffer that grew beyond this is given back.
const BUFFER_BYTES_KEPT: usize = 16 << 20;

/// Where the writer stands: everything before has been written and synced.
pub(super) struct Cursor {
    pub(super) log: u64,
    pub(super) segment: Arc<SegmentFile>,
    pub(super) offset: u64,
    /// Number of the next record.
    pub(super) sequence: u64,
    /// The state that the files hold.
    pub(super) history: History,
}

pub(super) struct Writer<E> {
    shared: Arc<Shared<E>>,
    cursor: Cursor,
    truncations: u64,
    buffer: Vec<u8>,
    notes: Vec<Note>,
    entries: u64,
}

/// What a record changes in the index of places.
enum Note {
    Entry(Place),
    TruncateAfter(Option<u64>),
}

impl<E: Entry> Writer<E> {
    pub(super) fn new(shared: Arc<Shared<E>>, cursor: Cursor) -> Self {
        Self {
            shared,
            cursor,
            truncations: 0,
            buffer: Vec::new(),
            notes: Vec::new(),
            entries: 0,
        }
    }

    /// The thread.
    pub(super) fn run(mut self) {
        let mut group = Vec::new();
        while self.next_group(&mut group).is_continue() {
            let written = self.write(&group);
            let bytes = group.iter().map(|queued| queued.bytes).sum();
            self.shared.pending.fetch_sub(bytes, Relaxed);
            if let Err(error) = written {
                tracing::error!(%error, "the raft log has stopped");
                return self.fail(&error, group);
            }
            for done in group.drain(..).filter_map(|queued| queued.done) {
                done(Ok(()));
            }
        }
    }

    /// Waits for something to write and takes as much as one record may hold.
    fn next_group(&mut self, group: &mut Vec<Queued<E>>) -> ControlFlow<()> {
        let mut queue = self.shared.queue.lock();
        loop {
            let due = queue
                .lazy_since
                .map(|since| since + self.shared.options.lazy_delay);
            if queue.urgent
                || (queue.closing && !queue.ops.is_empty())
                || due.is_some_and(|due| due <= Instant::now())
            {
                break;
            }
            if queue.closing {
                return ControlFlow::Break(());
            }
            match due {
                Some(due) => {
                    self.shared.wake.wait_until(&mut queue, due);
                }
                None => self.shared.wake.wait(&mut queue),
            }
        }
        let mut room = self.shared.options.record_bytes;
        while let Some(mut next) = queue.ops.pop_front() {
            if next.bytes > room {
                let part = split(&mut next, room, group.is_empty());
                queue.ops.push_front(next);
                group.extend(part);
                break;
            }
            room = room.saturating_sub(next.bytes + SMALL_OP_BYTES);
            group.push(next);
        }
        queue.urgent = queue.ops.iter().any(|queued| queued.done.is_some());
        queue.lazy_since = (!queue.ops.is_empty()).then(Instant::now);
        ControlFlow::Continue(())
    }

    fn write(&mut self, group: &[Queued<E>]) -> Result<(), Error> {
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        self.buffer.resize(HEAD_BYTES, 0);
        let bytes: usize = group
            .iter()
            .map(|queued| queued.bytes + SMALL_OP_BYTES)
            .sum();
        if self.cursor.offset + record_bytes(bytes) as u64 > self.cursor.segment.bytes {
            self.begin_segment(bytes)?;
        }
        for queued in group {
            self.put(&queued.op)?;
        }
        if self.buffer.len() == HEAD_BYTES {
            return Ok(());
        }
        let head = seal(
            &mut self.buffer,
            Seal {
                log: self.cursor.log,
                segment: self.cursor.segment.id,
                sequence: self.cursor.sequence,
                offset: self.cursor.offset,
            },
        );
        if self.cursor.offset + self.buffer.len() as u64 > self.cursor.segment.bytes {
            return Err(Error::TooLarge(self.buffer.len()));
        }
        let before = Instant::now();
        self.cursor
            .segment
            .write_at(self.cursor.offset, &self.buffer)?;
        let entries = std::mem::take(&mut self.entries);
        let bytes = self.buffer.len() as u64;
        let counters = &self.shared.counters;
        counters.written(bytes, entries, before.elapsed());
        self.sync()?;
        let body_end = self.cursor.offset + (HEAD_BYTES as u64) + u64::from(head.body_bytes);
        self.cursor.offset += self.buffer.len() as u64;
        self.cursor.sequence += 1;
        self.publish(to_u32(body_end), head.mask);
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        if !self.shared.options.fsync {
            return Ok(());
        }
        let before = Instant::now();
        self.cursor.segment.sync()?;
        let took = before.elapsed();
        self.shared.counters.synced(took);
        if let Some(on_sync) = &self.shared.options.on_sync {
            on_sync(took);
        }
        Ok(())
    }

    /// Puts one op into the buffer.
    fn put(&mut self, op: &Op<E>) -> Result<(), Error> {
        let history = &mut self.cursor.history;
        match op {
            Op::Entries(entries) => {
                for entry in entries {
                    let at = entry.position();
                    history.append(at)?;
                    self.notes.push(Note::Entry(Place {
                        index: at.index,
                        segment: self.cursor.segment.id,
                        offset: to_u32(self.cursor.offset + self.buffer.len() as u64),
                        body_end: 0,
                        mask: 0,
                    }));
                    ops::put_entry(&mut self.buffer, at, |out| entry.encode(out));
                }
                self.entries += entries.len() as u64;
            }
            Op::Vote(vote) => {
                history.vote = Some(*vote);
                ops::put_vote(&mut self.buffer, *vote);
            }
            Op::TruncateAfter(after) => {
                let index = after.map(|at| at.index);
                history.truncate_after(index);
                self.truncations += 1;
                self.notes.push(Note::TruncateAfter(index));
                ops::put_truncate_after(&mut self.buffer, *after);
            }
            Op::Purge(at) => {
                history.purge(*at);
                ops::put_purge(&mut self.buffer, *at);
            }
            Op::Committed(at) => {
                history.committed = Some(*at);
                ops::put_committed(&mut self.buffer, *at);
            }
            Op::Barrier => {}
        }
        Ok(())
    }

    /// Goes on in the next segment, whose first op says all there is to know of the log so far.
    fn begin_segment(&mut self, bytes: usize) -> Result<(), Error> {
        let finished = self.cursor.segment.id;
        let places = self.shared.view.read().places.of_segment(finished);
        let state_bytes = ops::state_bytes_max(self.cursor.history.runs.len(), places.len());
        let next = Arc::new(
            self.shared
                .keeper
                .take(record_bytes(state_bytes + bytes) as u64)?,
        );
        let state = State {
            capacity: next.bytes,
            history: self.cursor.history.clone(),
            previous: Some(Summary {
                segment: finished,
                end: self.cursor.offset,
                places,
            }),
        };
        ops::put_state(&mut self.buffer, &state);
        self.cursor.segment = next.clone();
        self.cursor.offset = 0;
        let mut view = self.shared.view.write();
        if let Some(last) = view.segments.back_mut() {
            last.finished = Some(self.cursor.history.last.map(|last| last.index));
        }
        view.segments.push_back(Segment {
            file: next,
            end: 0,
            finished: None,
        });
        Ok(())
    }

    /// Lets readers find in the files what has been written.
    fn publish(&mut self, body_end: u32, mask: u32) {
        let mut view = self.shared.view.write();
        for note in self.notes.drain(..) {
            match note {
                Note::Entry(place) => view.places.note(Place {
                    body_end,
                    mask,
                    ..place
                }),
                Note::TruncateAfter(index) => view.places.truncate_after(index),
            }
        }
        if let Some(segment) = view.segments.back_mut() {
            segment.end = self.cursor.offset;
        }
        // While a truncation is queued, an index does not tell what was written of it.
        if self.truncations == view.truncations {
            view.written = self.cursor.history.next_index().unwrap_or(0);
        }
        let written = view.written;
        view.tail.shrink(written);
    }

    /// Tells everybody that the log has stopped.
    fn fail(&self, error: &Error, group: Vec<Queued<E>>) {
        let rest = {
            let mut queue = self.shared.queue.lock();
            queue.failed = Some(error.clone());
            std::mem::take(&mut queue.ops)
        };
        for done in group
            .into_iter()
            .chain(rest)
            .filter_map(|queued| queued.done)
        {
            done(Err(error.clone()));
        }
    }
}

/// Offsets fit: a segment is never longer.
fn to_u32(offset: u64) -> u32 {
    u32::try_from(offset).expect("a segment is shorter than 4 GiB")
}

/// Takes the entries that fit into `room` out of `queued`, which nobody is told about; at least one when `force`.
fn split<E: Entry>(queued: &mut Queued<E>, room: usize, force: bool) -> Option<Queued<E>> {
    let Op::Entries(entries) = &mut queued.op else {
        return None;
    };
    let mut bytes = 0;
    let mut count = 0;
    for entry in entries.iter() {
        let next = bytes + ENTRY_HEAD_BYTES + entry.byte_len();
        if next > room && !(force && count == 0) {
            break;
        }
        (bytes, count) = (next, count + 1);
    }
    if count == 0 {
        return None;
    }
    let rest = entries.split_off(count);
    let part = std::mem::replace(entries, rest);
    queued.bytes -= bytes;
    // The caller is told when the last part is done, even if nothing is left for it.
    let done: Option<Done> = None;
    Some(Queued {
        op: Op::Entries(part),
        bytes,
        done,
    })
}

/// Bytes that entries take in a record; an error when one cannot be in any.
pub(super) fn bytes_of<E: Entry>(entries: &[E]) -> Result<usize, Error> {
    let mut sum = 0;
    for entry in entries {
        let bytes = ENTRY_HEAD_BYTES + entry.byte_len();
        if bytes > BODY_BYTES_MAX / 2 {
            return Err(Error::TooLarge(entry.byte_len()));
        }
        sum += bytes;
    }
    Ok(sum)
}

/// The first record of a new log, for a segment of `capacity` bytes.
pub(super) fn first_record(log: u64, segment: u64, capacity: u64) -> Vec<u8> {
    let mut record = vec![0; HEAD_BYTES];
    let state = State {
        capacity,
        history: History::default(),
        previous: None,
    };
    ops::put_state(&mut record, &state);
    seal(
        &mut record,
        Seal {
            log,
            segment,
            sequence: 0,
            offset: 0,
        },
    );
    record
}
