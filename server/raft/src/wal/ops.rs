//! What a record's body says: a row of *ops*, each a kind, a length and its content.

use bytes::BufMut;

use super::format::Input;
use super::history::{History, Position, Run, Vote};
use super::places::Place;

/// Bytes before the content of an op.
pub(super) const OP_HEAD_BYTES: usize = 8;
/// Bytes of an entry's op before its payload.
pub(super) const ENTRY_HEAD_BYTES: usize = OP_HEAD_BYTES + 20;
/// An upper bound of every op but entries and state.
pub(super) const SMALL_OP_BYTES: usize = 32;

/// Numbers of the kinds; never reused.
mod kind {
    pub(super) const ENTRY: u8 = 1;
    pub(super) const VOTE: u8 = 2;
    pub(super) const TRUNCATE: u8 = 3;
    pub(super) const PURGE: u8 = 4;
    pub(super) const COMMITTED: u8 = 5;
    pub(super) const STATE: u8 = 6;
}

/// The first op of each segment: all there is to know before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// Length of this segment's file.
    pub(super) capacity: u64,
    pub(super) history: History,
    /// The segment before this one; none for the first.
    pub(super) previous: Option<Summary>,
}

/// What is known of a finished segment, so that it need not be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) segment: u64,
    /// Where its last record ends.
    pub(super) end: u64,
    pub(super) places: Vec<Place>,
}

/// One op as it is read back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Op<'a> {
    Entry(Position, &'a [u8]),
    Vote(Vote),
    TruncateAfter(Option<Position>),
    Purge(Position),
    Committed(Position),
    State(State),
}

fn put_head(out: &mut Vec<u8>, kind: u8, len: usize) {
    out.put_u8(kind);
    out.put_bytes(0, 3);
    out.put_u32_le(u32::try_from(len).expect("the writer bounds an op by BODY_BYTES_MAX"));
}

fn put_position(out: &mut Vec<u8>, at: Position) {
    out.put_u64_le(at.term);
    out.put_u64_le(at.index);
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

/// Appends an entry; `payload` writes its bytes.
pub(super) fn put_entry(out: &mut Vec<u8>, at: Position, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put_head(out, kind::ENTRY, 0);
    out.put_u32_le(0);
    put_position(out, at);
    payload(out);
    let len = u32::try_from(out.len() - start - OP_HEAD_BYTES)
        .expect("the writer bounds an op by BODY_BYTES_MAX");
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    let crc = crc32c::crc32c(&out[start + 12..]);
    out[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
}

pub(super) fn put_vote(out: &mut Vec<u8>, vote: Vote) {
    put_head(out, kind::VOTE, 17);
    put_vote_fields(out, vote);
}

fn put_vote_fields(out: &mut Vec<u8>, vote: Vote) {
    out.put_u64_le(vote.term);
    out.put_u64_le(vote.member);
    out.put_u8(u8::from(vote.granted));
}

pub(super) fn put_truncate_after(out: &mut Vec<u8>, after: Option<Position>) {
    put_head(out, kind::TRUNCATE, 1 + after.map_or(0, |_| 16));
    put_option(out, after, put_position);
}

pub(super) fn put_purge(out: &mut Vec<u8>, at: Position) {
    put_head(out, kind::PURGE, 16);
    put_position(out, at);
}

pub(super) fn put_committed(out: &mut Vec<u8>, at: Position) {
    put_head(out, kind::COMMITTED, 16);
    put_position(out, at);
}

pub(super) fn put_state(out: &mut Vec<u8>, state: &State) {
    let start = out.len();
    put_head(out, kind::STATE, 0);
    out.put_u64_le(state.capacity);
    let history = &state.history;
    put_option(out, history.vote, put_vote_fields);
    put_option(out, history.purged, put_position);
    put_option(out, history.committed, put_position);
    put_option(out, history.last, put_position);
    out.put_u32_le(history.runs.len() as u32);
    for run in &history.runs {
        out.put_u64_le(run.first);
        out.put_u64_le(run.term);
    }
    put_option(out, state.previous.as_ref(), |out, previous| {
        out.put_u64_le(previous.segment);
        out.put_u64_le(previous.end);
        out.put_u32_le(previous.places.len() as u32);
        for place in &previous.places {
            out.put_u64_le(place.index);
            out.put_u32_le(place.offset);
            out.put_u32_le(place.body_end);
            out.put_u32_le(place.mask);
        }
    });
    let len = u32::try_from(out.len() - start - OP_HEAD_BYTES)
        .expect("a state is far below BODY_BYTES_MAX");
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
}

/// An upper bound of what [`put_state`] appends.
pub(super) fn state_bytes_max(runs: usize, places: usize) -> usize {
    OP_HEAD_BYTES + 160 + runs * 16 + places * 20
}

/// Reads the next op; an error says what is wrong with it.
pub(super) fn take_op<'a>(input: &mut Input<'a>) -> Result<Op<'a>, &'static str> {
    const SHORT: &str = "the record ends within an op";
    let number = input.u8().ok_or(SHORT)?;
    input.take(3).ok_or(SHORT)?;
    let len = input.u32().ok_or(SHORT)?;
    let mut content = Input::new(input.take(len as usize).ok_or(SHORT)?);
    let op = match number {
        kind::ENTRY => return take_entry(content),
        kind::VOTE => take_vote(&mut content).map(Op::Vote),
        kind::TRUNCATE => take_option(&mut content, take_position).map(Op::TruncateAfter),
        kind::PURGE => take_position(&mut content).map(Op::Purge),
        kind::COMMITTED => take_position(&mut content).map(Op::Committed),
        kind::STATE => take_state(&mut content).map(Op::State),
        _ => return Err("an op of unknown kind"),
    };
    match op {
        Some(op) if content.len() == 0 => Ok(op),
        _ => Err("an op of the wrong length"),
    }
}

/// Reads the content of an entry's op and checks it.
fn take_entry(mut content: Input<'_>) -> Result<Op<'_>, &'static str> {
    const SHORT: &str = "an entry without its position";
    let crc = content.u32().ok_or(SHORT)?;
    let checked = content.take(content.len()).ok_or(SHORT)?;
    if crc32c::crc32c(checked) != crc {
        return Err("an entry with a wrong checksum");
    }
    let mut content = Input::new(checked);
    let at = take_position(&mut content).ok_or(SHORT)?;
    let payload = content.take(content.len()).ok_or(SHORT)?;
    Ok(Op::Entry(at, payload))
}

/// What an op's first bytes say without its content: whether it is an entry, its whole length, and an
/// entry's index.
pub(super) fn peek(head: &[u8]) -> Option<(bool, usize, u64)> {
    let mut input = Input::new(head);
    let is_entry = input.u8()? == kind::ENTRY;
    input.take(3)?;
    let len = OP_HEAD_BYTES + input.u32()? as usize;
    if !is_entry {
        return Some((false, len, 0));
    }
    input.take(12)?;
    Some((true, len, input.u64()?))
}

fn take_position(input: &mut Input<'_>) -> Option<Position> {
    Some(Position {
        term: input.u64()?,
        index: input.u64()?,
    })
}

fn take_vote(input: &mut Input<'_>) -> Option<Vote> {
    Some(Vote {
        term: input.u64()?,
        member: input.u64()?,
        granted: input.u8()? != 0,
    })
}

fn take_option<T>(
    input: &mut Input<'_>,
    take: impl FnOnce(&mut Input<'_>) -> Option<T>,
) -> Option<Option<T>> {
    match input.u8()? {
        0 => Some(None),
        _ => take(input).map(Some),
    }
}

fn take_state(input: &mut Input<'_>) -> Option<State> {
    let capacity = input.u64()?;
    let vote = take_option(input, take_vote)?;
    let purged = take_option(input, take_position)?;
    let committed = take_option(input, take_position)?;
    let last = take_option(input, take_position)?;
    let count = input.u32()? as usize;
    let mut runs = Vec::with_capacity(count.min(input.len() / 16));
    for _ in 0..count {
        runs.push(Run {
            first: input.u64()?,
            term: input.u64()?,
        });
    }
    let previous = take_option(input, take_summary)?;
    Some(State {
        capacity,
        history: History {
            vote,
            purged,
            committed,
            last,
            runs,
        },
        previous,
    })
}

fn take_summary(input: &mut Input<'_>) -> Option<Summary> {
    let segment = input.u64()?;
    let end = input.u64()?;
    let count = input.u32()? as usize;
    let mut places = Vec::with_capacity(count.min(input.len() / 20));
    for _ in 0..count {
        places.push(Place {
            index: input.u64()?,
            segment,
            offset: input.u32()?,
            body_end: input.u32()?,
            mask: input.u32()?,
        });
    }
    Some(Summary {
        segment,
        end,
        places,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(term: u64, index: u64) -> Position {
        Position { term, index }
    }

    fn state(previous: Option<Summary>) -> State {
        let history = History {
            vote: Some(Vote {
                term: 3,
                member: 9,
                granted: true,
            }),
            purged: None,
            committed: Some(at(1, 2)),
            last: Some(at(2, 5)),
            runs: vec![Run { first: 2, term: 1 }, Run { first: 4, term: 2 }],
        };
        State {
            capacity: 4096,
            history,
            previous,
        }
    }

    #[test]
    fn every_op_is_read_as_it_was_written() {
        let place = Place {
            index: 2,
            segment: 4,
            offset: 576,
            body_end: 900,
            mask: 1,
        };
        let full = state(Some(Summary {
            segment: 4,
            end: 1024,
            places: vec![place],
        }));
        let vote = Vote {
            term: 1,
            member: 2,
            granted: false,
        };
        let mut out = Vec::new();
        put_state(&mut out, &full);
        assert!(out.len() <= state_bytes_max(2, 1));
        put_state(&mut out, &state(None));
        put_vote(&mut out, vote);
        put_truncate_after(&mut out, None);
        put_truncate_after(&mut out, Some(at(1, 1)));
        put_purge(&mut out, at(1, 2));
        put_committed(&mut out, at(1, 3));
        let before = out.len();
        put_entry(&mut out, at(1, 4), |out| out.extend_from_slice(b"payload"));
        assert_eq!(out.len() - before, ENTRY_HEAD_BYTES + 7);
        assert_eq!(peek(&out[before..]), Some((true, ENTRY_HEAD_BYTES + 7, 4)));
        let mut input = Input::new(&out);
        let expected = [
            Op::State(full),
            Op::State(state(None)),
            Op::Vote(vote),
            Op::TruncateAfter(None),
            Op::TruncateAfter(Some(at(1, 1))),
            Op::Purge(at(1, 2)),
            Op::Committed(at(1, 3)),
            Op::Entry(at(1, 4), b"payload"),
        ];
        for op in expected {
            assert_eq!(take_op(&mut input), Ok(op));
        }
        assert_eq!(input.len(), 0);
    }

    #[test]
    fn an_op_that_is_cut_changed_or_unknown_is_refused() {
        let mut out = Vec::new();
        put_entry(&mut out, at(1, 4), |out| out.extend_from_slice(b"payload"));
        for len in 0..out.len() {
            assert!(take_op(&mut Input::new(&out[..len])).is_err());
        }
        *out.last_mut().unwrap() ^= 1;
        assert!(take_op(&mut Input::new(&out)).is_err());
        assert!(take_op(&mut Input::new(&[99, 0, 0, 0, 0, 0, 0, 0])).is_err());
    }
}
