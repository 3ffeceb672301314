//! A row of the key space `Meta`: what the index must know about one revision, without the value.
//!
//! Key: the revision (12 bytes). Value: kind (1 byte: 0 put, 1 deletion), then as varints the length of the record,
//! create revision, version and lease (a put only), then the key to the end of the row.
//! Promises: what was encoded decodes to the same; anything else is refused. Must not know the index.

use crate::record::{put_varint, take_varint};

const KIND_PUT: u8 = 0;
const KIND_DELETION: u8 = 1;

/// What a row says, beside its revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MetaRow<'a> {
    /// The key that changed.
    pub(crate) key: &'a [u8],
    /// The revision that created the key; 0 in a deletion.
    pub(crate) create: i64,
    /// Writes since creation; 0 in a deletion, and only there.
    pub(crate) version: i64,
    /// The lease; 0 is none.
    pub(crate) lease: i64,
    /// Bytes of the row of the same revision in `Record`.
    pub(crate) record_len: u32,
}

impl<'a> MetaRow<'a> {
    /// Appends the row's value.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.key.len() + 40);
        if self.version == 0 {
            out.push(KIND_DELETION);
            put_varint(out, u64::from(self.record_len));
        } else {
            out.push(KIND_PUT);
            put_varint(out, u64::from(self.record_len));
            put_varint(out, self.create as u64);
            put_varint(out, self.version as u64);
            put_varint(out, self.lease as u64);
        }
        out.extend_from_slice(self.key);
    }

    /// Reads a row's value; `None` when it is none.
    pub(crate) fn decode(row: &'a [u8]) -> Option<Self> {
        let (&kind, mut rest) = row.split_first()?;
        let record_len = u32::try_from(take_varint(&mut rest)?).ok()?;
        let [create, version, lease] = match kind {
            KIND_DELETION => [0; 3],
            KIND_PUT => {
                let mut number = || take_varint(&mut rest).map(|value| value as i64);
                let numbers = [number()?, number()?, number()?];
                if numbers[0] <= 0 || numbers[1] <= 0 {
                    return None;
                }
                numbers
            }
            _ => return None,
        };
        Some(Self {
            key: rest,
            create,
            version,
            lease,
            record_len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_round_trip(
            key in proptest::collection::vec(any::<u8>(), 0..100),
            create in 1..i64::MAX,
            version in 1..i64::MAX,
            lease in any::<i64>(),
            record_len in any::<u32>(),
        ) {
            let put = MetaRow { key: &key, create, version, lease, record_len };
            let deletion = MetaRow { create: 0, version: 0, lease: 0, ..put };
            for row in [put, deletion] {
                let mut bytes = Vec::new();
                row.encode(&mut bytes);
                prop_assert_eq!(MetaRow::decode(&bytes), Some(row));
            }
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = MetaRow::decode(&bytes);
        }
    }

    #[test]
    fn other_kinds_and_impossible_numbers_are_refused() {
        assert_eq!(MetaRow::decode(b""), None);
        assert_eq!(MetaRow::decode(&[2, 0]), None);
        assert_eq!(MetaRow::decode(&[KIND_PUT, 1, 0, 1, 0, b'k']), None);
        assert_eq!(MetaRow::decode(&[KIND_PUT, 1, 1, 0, 0, b'k']), None);
    }
}
