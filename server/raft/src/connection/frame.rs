//! The frames of a connection between members.
//!
//! A frame: length of the body (u32, little endian), kind (u8), number (u64, little endian), body (a message of
//! `peer.proto`). An answer bears the number of its question; of the log's questions all of one session have the
//! same, and are answered in order.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::propose::MESSAGE_BYTES_MAX;
use crate::wire::Malformed;

/// Bytes before the body.
pub(crate) const HEAD_BYTES: usize = 4 + 1 + 8;
/// Longer bodies are nonsense.
const BODY_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// What a frame says. The numbers are on the wire and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// `AppendRequest`, of a session of the log.
    Append = 1,
    /// `AppendRequest` without entries.
    Heartbeat = 2,
    /// `ProposeRequest`.
    Propose = 3,
    /// `ReadIndexRequest`.
    ReadIndex = 4,
    /// `LeaseRenewRequest`.
    LeaseRenew = 5,
    /// `LeaseRemainingRequest`.
    LeaseRemaining = 6,
    /// Nothing: whether anybody is there.
    Ping = 7,
    /// The response that belongs to the question's request; nothing, to a ping.
    Answer = 8,
    /// `Refusal`.
    Refusal = 9,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        use Kind::*;
        let kinds = [
            Append,
            Heartbeat,
            Propose,
            ReadIndex,
            LeaseRenew,
            LeaseRemaining,
            Ping,
            Answer,
            Refusal,
        ];
        kinds.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// One frame as it has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) number: u64,
    pub(crate) body: Bytes,
}

impl Frame {
    /// What it took on the wire.
    pub(crate) fn bytes(&self) -> usize {
        HEAD_BYTES + self.body.len()
    }
}

/// Appends a frame to `buffer`; how many bytes it has.
///
/// # Errors
/// The body is too long; nothing has been appended.
pub(crate) fn put(
    buffer: &mut BytesMut,
    kind: Kind,
    number: u64,
    body: &impl Message,
) -> Result<usize, Malformed> {
    let bytes = put_head(buffer, kind, number, body.encoded_len())?;
    body.encode_raw(buffer);
    Ok(bytes)
}

/// As [`put`], of a message that has been encoded already.
pub(crate) fn put_encoded(
    buffer: &mut BytesMut,
    kind: Kind,
    number: u64,
    body: &[u8],
) -> Result<usize, Malformed> {
    let bytes = put_head(buffer, kind, number, body.len())?;
    buffer.extend_from_slice(body);
    Ok(bytes)
}

fn put_head(
    buffer: &mut BytesMut,
    kind: Kind,
    number: u64,
    length: usize,
) -> Result<usize, Malformed> {
    if length > BODY_BYTES_MAX {
        return Err(Malformed(format!("a message of {length} bytes")));
    }
    buffer.reserve(HEAD_BYTES + length);
    buffer.put_u32_le(length as u32);
    buffer.put_u8(kind as u8);
    buffer.put_u64_le(number);
    Ok(HEAD_BYTES + length)
}

/// Takes the first frame off `buffer`, where it is there as a whole.
///
/// # Errors
/// What is there is no frame.
pub(crate) fn take(buffer: &mut BytesMut) -> Result<Option<Frame>, Malformed> {
    let Some(head) = buffer.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let mut head = &head[..];
    let (length, kind, number) = (head.get_u32_le(), head.get_u8(), head.get_u64_le());
    let length = length as usize;
    if length > BODY_BYTES_MAX {
        return Err(Malformed(format!("a frame of {length} bytes")));
    }
    let kind = Kind::of(kind).ok_or_else(|| Malformed(format!("a frame of kind {kind}")))?;
    if buffer.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    buffer.advance(HEAD_BYTES);
    let body = buffer.split_to(length).freeze();
    Ok(Some(Frame { kind, number, body }))
}

/// How many bytes are missing until the first frame in `buffer` is there, as far as they tell.
pub(crate) fn missing(buffer: &BytesMut) -> usize {
    let whole = match buffer.first_chunk::<4>() {
        Some(length) => HEAD_BYTES + u32::from_le_bytes(*length) as usize,
        None => HEAD_BYTES,
    };
    whole.saturating_sub(buffer.len())
}

#[cfg(test)]
mod tests {
    use metastore_proto::peerpb::{LeaseRenewRequest, ProposeRequest};

    use super::*;
    use crate::propose::COMMAND_BYTES_MAX;

    #[test]
    fn frames_come_out_as_they_went_in_wherever_they_are_cut() {
        let mut whole = BytesMut::new();
        let entry = Bytes::from(vec![7; 300]);
        put(&mut whole, Kind::Propose, 1, &ProposeRequest { entry }).expect("short");
        put(&mut whole, Kind::Ping, u64::MAX, &()).expect("short");
        put(
            &mut whole,
            Kind::LeaseRenew,
            2,
            &LeaseRenewRequest { id: -3 },
        )
        .expect("short");
        for cut in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..cut]);
            let mut frames = Vec::new();
            while let Some(frame) = take(&mut buffer).expect("well formed") {
                frames.push(frame);
            }
            assert!(frames.len() < 3, "{cut}");
            assert!(missing(&buffer) > 0);
            buffer.extend_from_slice(&whole[cut..]);
            while let Some(frame) = take(&mut buffer).expect("well formed") {
                frames.push(frame);
            }
            let said: Vec<_> = frames.iter().map(|f| (f.kind, f.number)).collect();
            let expected = [
                (Kind::Propose, 1),
                (Kind::Ping, u64::MAX),
                (Kind::LeaseRenew, 2),
            ];
            assert_eq!(said, expected);
            assert_eq!(frames.iter().map(Frame::bytes).sum::<usize>(), whole.len());
            let renewal = LeaseRenewRequest::decode(frames[2].body.clone());
            assert_eq!(renewal.expect("a message").id, -3);
        }
    }

    #[test]
    fn the_largest_command_fits_with_what_goes_along() {
        let entry = Bytes::from(vec![0; COMMAND_BYTES_MAX + (1 << 20)]);
        let mut buffer = BytesMut::new();
        put(&mut buffer, Kind::Propose, 1, &ProposeRequest { entry }).expect("fits");
        let entry = Bytes::from(vec![0; MESSAGE_BYTES_MAX]);
        buffer.clear();
        put(&mut buffer, Kind::Propose, 1, &ProposeRequest { entry }).expect_err("too long");
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_is_no_frame_is_refused_before_it_is_there() {
        for (length, fits) in [
            (BODY_BYTES_MAX as u32, true),
            (BODY_BYTES_MAX as u32 + 1, false),
            (u32::MAX, false),
        ] {
            let mut head = BytesMut::new();
            head.put_u32_le(length);
            head.put_u8(Kind::Ping as u8);
            head.put_u64_le(1);
            assert_eq!(take(&mut head).is_ok(), fits, "{length}");
        }
        let mut unknown = BytesMut::new();
        unknown.put_u32_le(5);
        unknown.put_u8(99);
        unknown.put_u64_le(1);
        assert!(take(&mut unknown).is_err());
    }
}
