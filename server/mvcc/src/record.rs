//! The encoded `mvccpb.KeyValue`: what the key space `Record` holds, what watchers and readers get.
//!
//! Promises: the bytes are those that etcd stores for the same key-value (fields in order of their number, zero and
//! empty ones left out), so that hashes agree and an answer is a copy. Must not know the engine or the index.

use std::ops::Range;

const TAG_KEY: u8 = 0x0a;
const TAG_CREATE_REVISION: u8 = 0x10;
pub(crate) const TAG_MOD_REVISION: u8 = 0x18;
const TAG_VERSION: u8 = 0x20;
const TAG_VALUE: u8 = 0x2a;
const TAG_LEASE: u8 = 0x30;

/// A decoded `mvccpb.KeyValue`, borrowed from its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyValue<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The revision that created the key; 0 in a deletion.
    pub create_revision: i64,
    /// The revision that wrote it.
    pub mod_revision: i64,
    /// How often it was written since its creation; 0 in a deletion.
    pub version: i64,
    /// The value.
    pub value: &'a [u8],
    /// The lease it hangs on; 0 is none.
    pub lease: i64,
}

impl<'a> KeyValue<'a> {
    /// Reads an encoding; `None` when it is none.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut kv = Self::default();
        let mut rest = bytes;
        while let Some((&tag, after)) = rest.split_first() {
            rest = after;
            match tag {
                TAG_KEY => kv.key = take_bytes(&mut rest)?,
                TAG_VALUE => kv.value = take_bytes(&mut rest)?,
                TAG_CREATE_REVISION => kv.create_revision = take_varint(&mut rest)? as i64,
                TAG_MOD_REVISION => kv.mod_revision = take_varint(&mut rest)? as i64,
                TAG_VERSION => kv.version = take_varint(&mut rest)? as i64,
                TAG_LEASE => kv.lease = take_varint(&mut rest)? as i64,
                _ => return None,
            }
        }
        Some(kv)
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.key.len() + self.value.len() + 64);
        put_bytes(out, TAG_KEY, self.key);
        put_number(out, TAG_CREATE_REVISION, self.create_revision);
        put_number(out, TAG_MOD_REVISION, self.mod_revision);
        put_number(out, TAG_VERSION, self.version);
        put_bytes(out, TAG_VALUE, self.value);
        put_number(out, TAG_LEASE, self.lease);
    }
}

/// Where the key lies in an encoding that starts with it, as all of this store do. `None` for another's encoding.
pub(crate) fn key_range(bytes: &[u8]) -> Option<Range<u32>> {
    let mut rest = bytes;
    let (&tag, after) = rest.split_first()?;
    if tag != TAG_KEY {
        return None;
    }
    rest = after;
    let key = take_bytes(&mut rest)?;
    let end = bytes.len() - rest.len();
    Some(u32::try_from(end - key.len()).ok()?..u32::try_from(end).ok()?)
}

/// Whether a stored record is a deletion: those hold the key and nothing else, while a put always has a create revision.
pub(crate) fn is_deletion(record: &[u8]) -> bool {
    key_range(record).is_some_and(|key| key.end as usize == record.len())
}

/// Appends one element of a repeated field: its tag, its length, its bytes.
pub(crate) fn put_element(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.reserve(bytes.len() + 6);
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a varint and moves on; `None` at a truncated or overlong one.
pub(crate) fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (at, &byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at as u32);
        if byte < 0x80 {
            *rest = &rest[at + 1..];
            return Some(value);
        }
    }
    None
}

/// Reads a length and as many bytes, and moves on.
pub(crate) fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(tag);
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

pub(crate) fn put_number(out: &mut Vec<u8>, tag: u8, value: i64) {
    if value != 0 {
        out.push(tag);
        put_varint(out, value as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_proto::mvccpb;
    use proptest::prelude::*;
    use prost::Message;

    proptest! {
        #[test]
        fn the_encoding_is_protobufs_own(
            key in proptest::collection::vec(any::<u8>(), 1..200),
            value in proptest::collection::vec(any::<u8>(), 0..300),
            numbers in any::<[i64; 4]>(),
        ) {
            let [create_revision, mod_revision, version, lease] = numbers;
            let kv = KeyValue { key: &key, create_revision, mod_revision, version, value: &value, lease };
            let mut bytes = Vec::new();
            kv.encode(&mut bytes);
            let proto = mvccpb::KeyValue {
                key: key.clone().into(),
                create_revision,
                mod_revision,
                version,
                value: value.clone().into(),
                lease,
            };
            prop_assert_eq!(&bytes, &proto.encode_to_vec());
            prop_assert_eq!(KeyValue::decode(&bytes), Some(kv));
            let range = key_range(&bytes).unwrap();
            prop_assert_eq!(&bytes[range.start as usize..range.end as usize], &key[..]);
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = KeyValue::decode(&bytes);
            let _ = key_range(&bytes);
            let _ = is_deletion(&bytes);
        }
    }

    #[test]
    fn a_record_of_the_key_alone_is_a_deletion() {
        let mut bytes = Vec::new();
        let mut kv = KeyValue {
            key: b"k",
            ..KeyValue::default()
        };
        kv.encode(&mut bytes);
        assert!(is_deletion(&bytes));
        kv.create_revision = 2;
        bytes.clear();
        kv.encode(&mut bytes);
        assert!(!is_deletion(&bytes));
    }
}
