//! Counting the elements of an answer as its bytes go by.
//!
//! Nothing is copied or kept, and values are stepped over unread: what the client spends is spent on the machine that the
//! servers share with it. Promises to tell a whole answer from one that is cut off. Must not know HTTP.

use anyhow::{Result, bail};

/// What comes before a gRPC message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Counts the fields of one number in one gRPC message, whatever pieces it arrives in.
#[derive(Debug)]
pub(crate) struct Elements {
    field: u64,
    count: u64,
    prefix: usize,
    at: At,
    /// Of the varint that is being read.
    value: u64,
    shift: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Tag,
    Number,
    Length,
    /// So many bytes are stepped over.
    Bytes(u64),
}

impl Elements {
    /// Counts fields of this number, whose values have a length.
    pub(crate) fn of(field: u64) -> Self {
        Self {
            field,
            count: 0,
            prefix: PREFIX_BYTES,
            at: At::Tag,
            value: 0,
            shift: 0,
        }
    }

    /// Goes on with the next bytes.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Result<()> {
        let skipped = self.prefix.min(bytes.len());
        self.prefix -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            bytes = match self.at {
                At::Bytes(left) => self.step(left, bytes),
                At::Tag | At::Number | At::Length => self.varint(bytes)?,
            };
        }
        Ok(())
    }

    /// How many there were; an error when the message is cut off.
    pub(crate) fn end(self) -> Result<u64> {
        if self.prefix > 0 || self.at != At::Tag || self.shift > 0 {
            bail!("an answer that is cut off");
        }
        Ok(self.count)
    }

    fn step<'b>(&mut self, left: u64, bytes: &'b [u8]) -> &'b [u8] {
        let skipped = left.min(bytes.len() as u64);
        self.skip(left - skipped);
        &bytes[skipped as usize..]
    }

    fn skip(&mut self, left: u64) {
        self.at = if left == 0 { At::Tag } else { At::Bytes(left) };
    }

    fn varint<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8]> {
        let (byte, rest) = (u64::from(bytes[0]), &bytes[1..]);
        if self.shift > 63 {
            bail!("a varint that is too long");
        }
        self.value |= (byte & 0x7f) << self.shift;
        self.shift += 7;
        if byte < 0x80 {
            self.shift = 0;
            let value = std::mem::take(&mut self.value);
            self.take(value)?;
        }
        Ok(rest)
    }

    /// A whole varint.
    fn take(&mut self, value: u64) -> Result<()> {
        match self.at {
            At::Tag => match value & 7 {
                0 => self.at = At::Number,
                1 => self.at = At::Bytes(8),
                2 => {
                    self.count += u64::from(value >> 3 == self.field);
                    self.at = At::Length;
                }
                5 => self.at = At::Bytes(4),
                wire_type => bail!("wire type {wire_type} in an answer"),
            },
            At::Length => self.skip(value),
            At::Number | At::Bytes(_) => self.at = At::Tag,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use metastore_proto::etcdserverpb::{RangeResponse, ResponseHeader};
    use metastore_proto::mvccpb::KeyValue;
    use prost::Message;

    use super::*;

    #[test]
    fn elements_are_counted_whatever_pieces_the_answer_comes_in() {
        let kv = |key: &'static [u8]| KeyValue {
            key: key.into(),
            value: vec![b'\x12'; 300].into(),
            ..Default::default()
        };
        let answer = RangeResponse {
            header: Some(ResponseHeader {
                revision: 70_000,
                ..Default::default()
            }),
            kvs: vec![kv(b"a"), KeyValue::default(), kv(b"b")],
            more: true,
            count: 900,
        };
        let bytes = [vec![0; PREFIX_BYTES], answer.encode_to_vec()].concat();
        for size in 1..=bytes.len() {
            let mut elements = Elements::of(2);
            for piece in bytes.chunks(size) {
                elements.read(piece).expect("well formed");
            }
            assert_eq!(elements.end().expect("whole"), 3, "pieces of {size}");
        }
        let mut cut = Elements::of(2);
        cut.read(&bytes[..bytes.len() - 1]).expect("so far");
        assert!(cut.end().is_err());
        assert!(Elements::of(2).end().is_err(), "no answer at all");
        assert!(Elements::of(2).read(&[0, 0, 0, 0, 0, 7]).is_err());
    }
}
