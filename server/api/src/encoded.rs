//! Answers that are encoded already.
//!
//! The rooms below hand over `KeyValue`s and whole bodies as encoded bytes. Here they get the gRPC
//! prefix, the response header and the few fields that stand beside them, and nothing is decoded or
//! encoded twice. protobuf lets fields come in any order: the small ones are written first, so that a
//! large body follows as the buffer it is.

use bytes::Bytes;
use metastore_proto::etcdserverpb::ResponseHeader;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len, message};

use crate::grpc::PREFIX_BYTES;

/// Up to so many bytes are copied behind the header rather than sent as a chunk of their own.
const COPY_BYTES: usize = 8 * 1024;

/// One gRPC message, prefix included, in one or more chunks.
#[derive(Debug, Default)]
pub struct Encoded {
    head: Bytes,
    tail: Vec<Bytes>,
}

/// The chunks of a message that are still to be sent.
#[derive(Debug, Default)]
pub struct Chunks {
    head: Bytes,
    tail: std::vec::IntoIter<Bytes>,
}

impl Encoded {
    /// Encodes a message.
    pub fn of(message: &impl Message) -> Self {
        let length = message.encoded_len();
        let mut bytes = start(length, length);
        message.encode_raw(&mut bytes);
        Self::raw(bytes.into())
    }

    /// Bytes that are a message with its prefix.
    pub(crate) fn raw(head: Bytes) -> Self {
        Self {
            head,
            tail: Vec::new(),
        }
    }

    /// A message whose field 1 is another message.
    pub(crate) fn nested(mut inner: Self) -> Self {
        let length = inner.len();
        let own = key_len(1) + encoded_len_varint(length as u64);
        let rest = inner.head.split_off(PREFIX_BYTES);
        let mut bytes = start(own + length, own + rest.len());
        encode_key(1, WireType::LengthDelimited, &mut bytes);
        encode_varint(length as u64, &mut bytes);
        bytes.extend_from_slice(&rest);
        Self {
            head: bytes.into(),
            tail: inner.tail,
        }
    }

    /// Length of the message without its prefix.
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.iter().map(Bytes::len).sum::<usize>() - PREFIX_BYTES
    }

    /// True when the message has no fields.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message in one piece, without its prefix.
    pub fn message(&self) -> Bytes {
        if self.tail.is_empty() {
            return self.head.slice(PREFIX_BYTES..);
        }
        let mut whole = Vec::with_capacity(self.len());
        whole.extend_from_slice(&self.head[PREFIX_BYTES..]);
        for chunk in &self.tail {
            whole.extend_from_slice(chunk);
        }
        whole.into()
    }

    /// Takes it apart for sending.
    pub fn into_chunks(self) -> Chunks {
        Chunks {
            head: self.head,
            tail: self.tail.into_iter(),
        }
    }
}

impl Chunks {
    /// Bytes that are left.
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.as_slice().iter().map(Bytes::len).sum::<usize>()
    }

    /// True when everything has been taken.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.tail.len() == 0
    }
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.head.is_empty() {
            return self.tail.next();
        }
        Some(std::mem::take(&mut self.head))
    }
}

/// A buffer of exactly `capacity` message bytes that begins with the prefix of a message of `length` bytes.
fn start(length: usize, capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + capacity);
    bytes.push(0);
    // A message is bounded far below 4 GiB by the store's own limits.
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    bytes
}

/// Writes one answer: header first, then single fields, then what is encoded already.
///
/// Fields are gathered before anything is written, so that the buffer has exactly the right size.
pub struct Writer<'a> {
    header: Option<&'a ResponseHeader>,
    fields: [Option<Field<'a>>; FIELDS],
    count: usize,
}

const FIELDS: usize = 5;

enum Field<'a> {
    Varint(u32, u64),
    /// An embedded message or a byte string.
    Bytes(u32, &'a [u8]),
}

impl Field<'_> {
    fn len(&self) -> usize {
        match *self {
            Self::Varint(tag, value) => key_len(tag) + encoded_len_varint(value),
            Self::Bytes(tag, value) => {
                key_len(tag) + encoded_len_varint(value.len() as u64) + value.len()
            }
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        match *self {
            Self::Varint(tag, value) => {
                encode_key(tag, WireType::Varint, bytes);
                encode_varint(value, bytes);
            }
            Self::Bytes(tag, value) => {
                encode_key(tag, WireType::LengthDelimited, bytes);
                encode_varint(value.len() as u64, bytes);
                bytes.extend_from_slice(value);
            }
        }
    }
}

impl<'a> Writer<'a> {
    /// Begins an answer whose field 1 is `header`.
    pub const fn new(header: &'a ResponseHeader) -> Self {
        Self {
            header: Some(header),
            ..Self::bare()
        }
    }

    /// Begins an answer without a header.
    pub const fn bare() -> Self {
        Self {
            header: None,
            fields: [const { None }; FIELDS],
            count: 0,
        }
    }

    /// An integer or boolean field; zero is left out as proto3 does.
    #[must_use]
    pub fn varint(self, tag: u32, value: u64) -> Self {
        if value == 0 {
            return self;
        }
        self.field(Field::Varint(tag, value))
    }

    /// A signed integer field.
    #[must_use]
    pub fn int(self, tag: u32, value: i64) -> Self {
        self.varint(tag, value.cast_unsigned())
    }

    /// A boolean field.
    #[must_use]
    pub fn flag(self, tag: u32, value: bool) -> Self {
        self.varint(tag, u64::from(value))
    }

    /// An embedded message that is encoded already; `None` leaves the field out.
    #[must_use]
    pub fn embedded(self, tag: u32, message: Option<&'a [u8]>) -> Self {
        match message {
            Some(message) => self.field(Field::Bytes(tag, message)),
            None => self,
        }
    }

    /// A text field; empty is left out.
    #[must_use]
    pub fn text(self, tag: u32, text: &'a str) -> Self {
        if text.is_empty() {
            return self;
        }
        self.field(Field::Bytes(tag, text.as_bytes()))
    }

    fn field(mut self, field: Field<'a>) -> Self {
        debug_assert!(
            self.count < FIELDS,
            "an answer has at most {FIELDS} single fields"
        );
        self.fields[self.count] = Some(field);
        self.count += 1;
        self
    }

    /// The answer, with nothing behind the fields.
    pub fn finish(self) -> Encoded {
        self.finish_with(Bytes::new())
    }

    /// The answer, with fields that are encoded already behind the others.
    pub fn finish_with(self, body: impl Into<Bytes>) -> Encoded {
        let body = body.into();
        let small = body.len() <= COPY_BYTES;
        let mut bytes = self.write(body.len(), if small { body.len() } else { 0 });
        if small {
            bytes.extend_from_slice(&body);
            return Encoded::raw(bytes.into());
        }
        Encoded {
            head: bytes.into(),
            tail: vec![body],
        }
    }

    /// The answer, with fields behind the others that `encode` writes: exactly `length` bytes.
    pub fn finish_encoding(self, length: usize, encode: impl FnOnce(&mut Vec<u8>)) -> Encoded {
        let mut bytes = self.write(length, length);
        encode(&mut bytes);
        Encoded::raw(bytes.into())
    }

    /// As [`Writer::finish_with`], for a body in pieces.
    pub fn finish_with_pieces(self, mut pieces: Vec<Bytes>) -> Encoded {
        if pieces.len() <= 1 {
            return self.finish_with(pieces.pop().unwrap_or_default());
        }
        let body = pieces.iter().map(Bytes::len).sum();
        Encoded {
            head: self.write(body, 0).into(),
            tail: pieces,
        }
    }

    fn write(&self, body: usize, room: usize) -> Vec<u8> {
        let fields = || self.fields.iter().flatten();
        let header = self
            .header
            .map_or(0, |header| message::encoded_len(1, header));
        let own = header + fields().map(Field::len).sum::<usize>();
        let mut bytes = start(own + body, own + room);
        if let Some(header) = self.header {
            message::encode(1, header, &mut bytes);
        }
        for field in fields() {
            field.write(&mut bytes);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_proto::etcdserverpb::{
        PutResponse, RangeResponse, RangeStreamResponse, WatchResponse,
    };
    use metastore_proto::mvccpb::KeyValue;

    fn header() -> ResponseHeader {
        ResponseHeader {
            cluster_id: 14_841_639_068_965_178_418,
            member_id: 10_276_657_743_932_975_437,
            revision: 42,
            raft_term: 3,
        }
    }

    fn key_value(value: usize) -> KeyValue {
        KeyValue {
            key: Bytes::from_static(b"key"),
            value: vec![7; value].into(),
            create_revision: 2,
            mod_revision: 300,
            version: 2,
            lease: -5,
        }
    }

    fn kvs(list: &[KeyValue]) -> Vec<u8> {
        let response = RangeResponse {
            kvs: list.to_vec(),
            ..Default::default()
        };
        response.encode_to_vec()
    }

    fn check_prefix(encoded: &Encoded) {
        let chunks: Vec<_> = Chunks {
            head: encoded.head.clone(),
            tail: encoded.tail.clone().into_iter(),
        }
        .collect();
        let whole = chunks.concat();
        let length = u32::from_be_bytes(whole[1..5].try_into().expect("four bytes")) as usize;
        assert_eq!((whole[0], length), (0, whole.len() - PREFIX_BYTES));
        assert_eq!(encoded.len(), length);
        assert_eq!(
            encoded.head.len() + encoded.tail.iter().map(Bytes::len).sum::<usize>(),
            whole.len()
        );
    }

    #[test]
    fn a_put_answer_is_what_prost_would_write() {
        for prev in [None, Some(key_value(10))] {
            let expected = PutResponse {
                header: Some(header()),
                prev_kv: prev.clone(),
            };
            let prev = prev.map(|prev| prev.encode_to_vec());
            let encoded = Writer::new(&header()).embedded(2, prev.as_deref()).finish();
            check_prefix(&encoded);
            assert_eq!(encoded.message(), expected.encode_to_vec());
        }
    }

    #[test]
    fn a_range_answer_decodes_to_what_was_found() {
        for value in [10, COPY_BYTES, 3 * COPY_BYTES] {
            let list = vec![key_value(value), key_value(1)];
            let encoded = Writer::new(&header())
                .flag(3, true)
                .int(4, 7)
                .finish_with(kvs(&list));
            check_prefix(&encoded);
            let decoded = RangeResponse::decode(encoded.message()).expect("valid");
            let expected = RangeResponse {
                header: Some(header()),
                kvs: list,
                more: true,
                count: 7,
            };
            assert_eq!(decoded, expected);
        }
    }

    #[test]
    fn a_large_body_is_not_copied() {
        let body = Bytes::from(kvs(&[key_value(2 * COPY_BYTES)]));
        let mut chunks = Writer::new(&header())
            .finish_with(body.clone())
            .into_chunks();
        assert!(chunks.next().is_some_and(|head| head.len() < 64));
        assert_eq!(chunks.next().expect("body").as_ptr(), body.as_ptr());
        assert!(chunks.is_empty());
    }

    #[test]
    fn pieces_come_out_as_one_message() {
        let pieces: Vec<Bytes> = (1..4)
            .map(|value| kvs(&[key_value(value)]).into())
            .collect();
        let encoded = Writer::new(&header()).finish_with_pieces(pieces);
        check_prefix(&encoded);
        let decoded = RangeResponse::decode(encoded.message()).expect("valid");
        assert_eq!(decoded.kvs, [key_value(1), key_value(2), key_value(3)]);
    }

    #[test]
    fn a_part_of_a_streamed_range_holds_a_range_answer() {
        for value in [10, 2 * COPY_BYTES] {
            let list = vec![key_value(value)];
            let last = Writer::new(&header()).int(4, 1).finish_with(kvs(&list));
            let first = Writer::bare().finish_with(kvs(&list));
            for (inner, header) in [(last, Some(header())), (first, None)] {
                let encoded = Encoded::nested(inner);
                check_prefix(&encoded);
                let decoded = RangeStreamResponse::decode(encoded.message()).expect("valid");
                let inner = decoded.range_response.expect("present");
                assert_eq!((inner.header, inner.kvs), (header, list.clone()));
            }
        }
    }

    #[test]
    fn every_field_of_a_watch_answer_finds_its_place() {
        let expected = WatchResponse {
            header: Some(header()),
            watch_id: -1,
            created: true,
            canceled: true,
            compact_revision: 9,
            cancel_reason: "because".to_owned(),
            ..Default::default()
        };
        let encoded = Writer::new(&header())
            .int(2, -1)
            .flag(3, true)
            .flag(4, true)
            .int(5, 9)
            .text(6, "because")
            .finish();
        assert_eq!(encoded.message(), expected.encode_to_vec());
    }
}
