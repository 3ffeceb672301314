//! Reads a log back after whatever ended the process before.
//!
//! The rule: the log is cut only at its last record, when that record has a sector that was never
//! written and nothing valid follows. That is what a power failure leaves of a write that was not synced,
//! and nobody was told of it. Everything else that is wrong is an error, and then nothing is changed.

use std::sync::Arc;

use super::Error;
use super::disk::{Directory, SegmentFile};
use super::format::{self, Found, HEAD_BYTES, Head, Input, SECTOR, Whole};
use super::history::{History, Position};
use super::ops::{self, Op, State};
use super::places::{Place, Places};
use super::shared::Segment;
use super::window::Window;
use super::writer::Cursor;

/// A log as it was found.
pub(super) struct Recovered {
    pub(super) cursor: Cursor,
    pub(super) history: History,
    pub(super) places: Places,
    pub(super) segments: Vec<Segment>,
    repair: Repair,
}

/// What has to be done before the log is used.
struct Repair {
    /// Segments without a record, newest first.
    unused: Vec<u64>,
    /// Remains of a torn record in the last segment: from, to.
    torn: Option<(u64, u64)>,
    /// The last record and where it is.
    last_record: (u64, Vec<u8>),
}

/// What is in a log's directory.
pub(super) enum Examined {
    Nothing,
    Log(Box<Recovered>),
}

/// Segments that may be there without a record: one that was begun, one in reserve.
const UNUSED_MAX: usize = 2;

/// Reads the log of `directory` and changes nothing.
pub(super) fn examine(directory: &Directory) -> Result<Examined, Error> {
    let mut ids = directory.list()?.segments;
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        let missing = directory.path_of(pair[0] + 1);
        return Err(Error::corrupt(&missing, 0, "the segment is missing"));
    }
    let Some(newest) = ids.last().copied() else {
        return Ok(Examined::Nothing);
    };
    let mut unused = Vec::new();
    while let Some(id) = ids.last().copied() {
        if let Some(scan) = Scan::new(directory.open_segment(id)?).run()? {
            let log = scan.finish(directory, &ids, unused)?;
            return Ok(Examined::Log(Box::new(log)));
        }
        unused.push(id);
        if unused.len() > UNUSED_MAX {
            break;
        }
        ids.pop();
    }
    // The first segment of a log begins with a record before it has a name.
    let what = "neither this segment nor the ones before it have a record";
    Err(Error::corrupt(&directory.path_of(newest), 0, what))
}

/// One segment being read from its beginning to its end.
struct Scan {
    window: Window,
    log: u64,
    /// Number of the last record.
    sequence: Option<u64>,
    offset: u64,
    first: Option<State>,
    history: History,
    /// Where the entries of this segment are.
    places: Places,
    torn: Option<(u64, u64)>,
    last_record: (u64, usize),
}

impl Scan {
    fn new(file: SegmentFile) -> Self {
        Self {
            window: Window::new(Arc::new(file)),
            log: 0,
            sequence: None,
            offset: 0,
            first: None,
            history: History::default(),
            places: Places::default(),
            torn: None,
            last_record: (0, 0),
        }
    }

    fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::corrupt(&self.window.file().path, self.offset, what)
    }

    /// Reads all records; none when there is not even a first.
    fn run(mut self) -> Result<Option<Self>, Error> {
        while let Some(whole) = self.next_record()? {
            let bytes = format::record_bytes(whole.body.len());
            self.take(&whole)?;
            self.log = whole.head.log;
            self.sequence = Some(whole.head.sequence);
            self.last_record = (self.offset, bytes);
            self.offset += bytes as u64;
        }
        let file = self.window.file();
        match &self.first {
            Some(first) if first.capacity == file.bytes => Ok(Some(self)),
            Some(first) => {
                let what = format!(
                    "the file has {} bytes instead of {}",
                    file.bytes, first.capacity
                );
                Err(Error::corrupt(&file.path, file.bytes, what))
            }
            None if file.bytes == 0 => Err(self.corrupt("the file is empty")),
            None => Ok(None),
        }
    }

    /// The record at `offset`; none where the log ends, be it in a torn record.
    fn next_record(&mut self) -> Result<Option<Whole>, Error> {
        let left = self.window.left(self.offset);
        let sector = usize::try_from(left).unwrap_or(usize::MAX).min(SECTOR);
        let head = match Head::find(self.window.bytes(self.offset, sector)?) {
            Found::Record(head) => head,
            Found::Newer(found) => return Err(format::newer(&self.window.file().path, found)),
            Found::Garbage => return Err(self.corrupt("not a record")),
            Found::Nothing => return self.end(),
        };
        self.check(head)?;
        if head.record_bytes() > left {
            return Err(self.corrupt("the record is longer than what is left of the file"));
        }
        let record = self
            .window
            .bytes(self.offset, format::record_bytes(head.body_bytes as usize))?;
        match format::open(head, self.offset, record) {
            Some(whole) => Ok(Some(whole)),
            None if format::has_unwritten_sector(record) => self.end(),
            None => Err(self.corrupt("the record has a wrong checksum")),
        }
    }

    /// The head is whole; it must also be the one that belongs here.
    fn check(&self, head: Head) -> Result<(), Error> {
        if head.segment != self.window.file().id {
            return Err(self.corrupt(format!("a record of segment {:016x}", head.segment)));
        }
        let Some(last) = self.sequence else {
            return Ok(());
        };
        if head.log != self.log {
            return Err(self.corrupt("a record of another log"));
        }
        if head.sequence != last + 1 {
            return Err(self.corrupt(format!("record {} after record {last}", head.sequence)));
        }
        Ok(())
    }

    /// The log ends here, if nothing valid follows.
    fn end(&mut self) -> Result<Option<Whole>, Error> {
        let mut at = self.offset;
        while self.window.left(at) > 0 {
            let len = usize::try_from(self.window.left(at))
                .unwrap_or(usize::MAX)
                .min(SECTOR);
            let found = Head::find(self.window.bytes(at, len)?);
            let follows = match found {
                Found::Record(head) => {
                    at > self.offset && (self.sequence.is_none() || head.log == self.log)
                }
                Found::Newer(_) => true,
                Found::Nothing | Found::Garbage => false,
            };
            if follows {
                let what = format!("the record is missing or torn, but another follows at {at}");
                return Err(self.corrupt(what));
            }
            at += len as u64;
            if found != Found::Nothing {
                self.torn = Some((self.offset, at));
            }
        }
        Ok(None)
    }

    fn take(&mut self, whole: &Whole) -> Result<(), Error> {
        let mut input = Input::new(&whole.body);
        let body = self.offset + HEAD_BYTES as u64;
        let body_end = to_u32(body + whole.body.len() as u64);
        if self.first.is_none() {
            match ops::take_op(&mut input) {
                Ok(Op::State(state)) => {
                    self.history = state.history.clone();
                    self.first = Some(state);
                }
                Ok(_) => return Err(self.corrupt("a segment that does not begin with its state")),
                Err(what) => return Err(self.corrupt(what)),
            }
        }
        while input.len() > 0 {
            let offset = to_u32(body + (whole.body.len() - input.len()) as u64);
            let op = ops::take_op(&mut input).map_err(|what| self.corrupt(what))?;
            match op {
                Op::Entry(at, _) => {
                    self.history
                        .append(at)
                        .map_err(|error| self.corrupt(error.to_string()))?;
                    let (segment, mask) = (self.window.file().id, whole.head.mask);
                    self.places.note(Place {
                        index: at.index,
                        segment,
                        offset,
                        body_end,
                        mask,
                    });
                }
                Op::Vote(vote) => self.history.vote = Some(vote),
                Op::TruncateAfter(after) => {
                    let index = after.map(|at| at.index);
                    self.history.truncate_after(index);
                    self.places.truncate_after(index);
                }
                Op::Purge(at) => self.history.purge(at),
                Op::Committed(at) => self.history.committed = Some(at),
                Op::State(_) => return Err(self.corrupt("a second state in a segment")),
            }
        }
        Ok(())
    }

    /// Adds what is known of the finished segments before this one, which are not read again.
    fn finish(
        mut self,
        directory: &Directory,
        ids: &[u64],
        unused: Vec<u64>,
    ) -> Result<Recovered, Error> {
        let mut places = Places::default();
        let mut segments = Vec::new();
        let mut state = self.first.take();
        if ids.len() > 1 {
            // Every other segment is checked as the next of its predecessor.
            read_state(&directory.open_segment(ids[0])?, self.log)?;
        }
        for id in &ids[..ids.len() - 1] {
            let next = match state.take_if(|_| id + 1 == self.window.file().id) {
                Some(state) => state,
                None => read_state(&directory.open_segment(id + 1)?, self.log)?,
            };
            let (segment, found) = finished_segment(directory, *id, next)?;
            segments.push(segment);
            places.extend(found);
        }
        places.extend(self.places.into_list());
        // After a truncation that nothing was appended after.
        let entries = self.history.first_index().and(self.history.last);
        places.truncate_after(entries.map(|last| last.index));
        raise_floor(&mut self.history, &places);
        let file = self.window.file().clone();
        let (offset, len) = self.last_record;
        let last_record = (offset, self.window.bytes(offset, len)?.to_vec());
        segments.push(Segment {
            file: file.clone(),
            end: self.offset,
            finished: None,
        });
        let cursor = Cursor {
            log: self.log,
            segment: file,
            offset: self.offset,
            sequence: self.sequence.map_or(0, |last| last + 1),
            history: self.history.clone(),
        };
        let repair = Repair {
            unused,
            torn: self.torn,
            last_record,
        };
        Ok(Recovered {
            cursor,
            history: self.history,
            places,
            segments,
            repair,
        })
    }
}

/// Segments are removed without waiting for the record of the purge: what is not there has been purged.
fn raise_floor(history: &mut History, places: &Places) {
    let found = places
        .first_index()
        .filter(|_| history.first_index().is_some());
    let floor = match found {
        None => history.last,
        Some(first) => first.checked_sub(1).and_then(|index| {
            let term = history.term_at(index)?;
            Some(Position { term, index })
        }),
    };
    if let Some(floor) = floor {
        history.purge(floor);
    }
    history.committed = history.committed.min(history.last);
}

/// A finished segment and the places of its entries, as the state after it tells.
fn finished_segment(
    directory: &Directory,
    id: u64,
    next: State,
) -> Result<(Segment, Vec<Place>), Error> {
    let Some(summary) = next.previous.filter(|previous| previous.segment == id) else {
        let what = "the state names another segment as the one before";
        return Err(Error::corrupt(&directory.path_of(id + 1), 0, what));
    };
    let file = directory.open_segment(id)?;
    if file.bytes < summary.end {
        let what = format!(
            "the file is shorter than its {} bytes of records",
            summary.end
        );
        return Err(Error::corrupt(&file.path, file.bytes, what));
    }
    let finished = Some(next.history.last.map(|last| last.index));
    Ok((
        Segment {
            file: Arc::new(file),
            end: summary.end,
            finished,
        },
        summary.places,
    ))
}

/// The state at the beginning of a finished segment.
fn read_state(file: &SegmentFile, log: u64) -> Result<State, Error> {
    let corrupt = |what: String| Error::corrupt(&file.path, 0, what);
    if file.bytes < SECTOR as u64 {
        return Err(corrupt("the file is shorter than a record".into()));
    }
    let mut sector = [0; SECTOR];
    file.read_at(0, &mut sector)?;
    let head = match Head::find(&sector) {
        Found::Record(head) if head.segment == file.id && head.log == log => head,
        Found::Newer(found) => return Err(format::newer(&file.path, found)),
        _ => {
            return Err(corrupt(
                "not the first record of this segment of this log".into(),
            ));
        }
    };
    let bytes = head.record_bytes();
    if bytes > file.bytes {
        return Err(corrupt("the record is longer than the file".into()));
    }
    let mut record = vec![0; usize::try_from(bytes).expect("a record fits memory")];
    file.read_at(0, &mut record)?;
    let whole = format::open(head, 0, &record)
        .ok_or_else(|| corrupt("the record has a wrong checksum".into()))?;
    match ops::take_op(&mut Input::new(&whole.body)) {
        Ok(Op::State(state)) if state.capacity == file.bytes => Ok(state),
        Ok(Op::State(state)) => {
            let what = format!(
                "the file has {} bytes instead of {}",
                file.bytes, state.capacity
            );
            Err(Error::corrupt(&file.path, file.bytes, what))
        }
        Ok(_) => Err(corrupt(
            "a segment that does not begin with its state".into(),
        )),
        Err(what) => Err(corrupt(what.into())),
    }
}

fn to_u32(offset: u64) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

impl Recovered {
    /// Makes the log fit for use: removes what a crash left, and makes durable what was read.
    ///
    /// The last record is written once more: it may never have reached the disk, and be only in the
    /// memory of the operating system, even after a sync that failed.
    pub(super) fn repair(&self, directory: &Directory) -> Result<(), Error> {
        for id in &self.repair.unused {
            directory.remove(*id)?;
        }
        let segment = &self.cursor.segment;
        if let Some((from, to)) = self.repair.torn {
            tracing::warn!(
                file = %segment.path.display(),
                offset = from,
                "the last write to the raft log was torn; it is cut, nobody was told of it"
            );
            let len = usize::try_from(to - from).expect("a segment fits memory");
            segment.write_at(from, &vec![0; len])?;
        }
        let (offset, record) = &self.repair.last_record;
        segment.write_at(*offset, record)?;
        segment.sync()?;
        directory.sync()
    }
}
