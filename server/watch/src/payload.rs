//! The events of one watch response, encoded without copying them first.
//!
//! Promises: `encode` writes field 11 (`events`) of `etcdserverpb.WatchResponse`, `encoded_len` says how many bytes. The
//! key-values inside are the store's own buffers, shared by every watch that gets them. Must not know who gets it.

use std::sync::Arc;

use bytes::BufMut;
use metastore_mvcc::EventKind;
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::history::{Change, Commit};

/// `WatchResponse.events`, length-delimited.
const TAG_EVENTS: u8 = 11 << 3 | 2;
/// `Event.type`, a varint.
const TAG_TYPE: u8 = 1 << 3;
/// `Event.kv`, length-delimited.
const TAG_KV: u8 = 2 << 3 | 2;
/// `Event.prev_kv`, length-delimited.
const TAG_PREV_KV: u8 = 3 << 3 | 2;
/// `Event.EventType.DELETE`; `PUT` is 0 and is left out.
const DELETE: u8 = 1;

/// Events of one watch, at least one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Payload {
    items: Items,
    encoded_len: usize,
}

#[derive(Debug, Clone)]
enum Items {
    One(Item),
    /// The items from the first to before the second number.
    Some(Arc<[Item]>, usize, usize),
}

/// One change, and the key-value before it if the watch wants that.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) commit: Arc<Commit>,
    pub(crate) change: u32,
    pub(crate) prev: Option<Arc<[u8]>>,
}

impl Payload {
    /// `None` without items.
    pub(crate) fn new(mut items: Vec<Item>) -> Option<Self> {
        let encoded_len = items.iter().map(Item::encoded_len).sum();
        let items = match items.len() {
            0 => return None,
            1 => Items::One(items.pop()?),
            count => Items::Some(items.into(), 0, count),
        };
        Some(Self { items, encoded_len })
    }

    /// How many events there are.
    pub fn count(&self) -> usize {
        self.items().len()
    }

    /// How many bytes `encode` writes.
    pub fn encoded_len(&self) -> usize {
        self.encoded_len
    }

    /// Writes the events as field 11 of `etcdserverpb.WatchResponse`.
    pub fn encode(&self, out: &mut impl BufMut) {
        for item in self.items() {
            item.encode(out);
        }
    }

    /// What `encode` writes, in a buffer of its own.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len);
        self.encode(&mut out);
        out
    }

    /// The first events, as many as stay below `limit` bytes but at least one, and the rest: how `sendFragments` of
    /// etcd's `v3rpc/watch.go` cuts a response.
    pub(crate) fn split(self, limit: usize) -> (Self, Option<Self>) {
        let Items::Some(all, from, to) = &self.items else {
            return (self, None);
        };
        let mut encoded_len = all[*from].encoded_len();
        let mut end = from + 1;
        while end < *to && encoded_len + all[end].encoded_len() < limit {
            encoded_len += all[end].encoded_len();
            end += 1;
        }
        if end == *to {
            return (self, None);
        }
        let rest = Self {
            items: Items::Some(all.clone(), end, *to),
            encoded_len: self.encoded_len - encoded_len,
        };
        let first = Self {
            items: Items::Some(all.clone(), *from, end),
            encoded_len,
        };
        (first, Some(rest))
    }

    fn items(&self) -> &[Item] {
        match &self.items {
            Items::One(item) => std::slice::from_ref(item),
            Items::Some(items, from, to) => &items[*from..*to],
        }
    }
}

impl Item {
    fn change(&self) -> &Change {
        &self.commit.changes[self.change as usize]
    }

    /// The length of the `Event` message itself.
    fn message_len(&self) -> usize {
        let change = self.change();
        let kind = match change.kind {
            EventKind::Put => 0,
            EventKind::Delete => 2,
        };
        kind + field_len(change.kv.len())
            + self.prev.as_ref().map_or(0, |prev| field_len(prev.len()))
    }

    fn encoded_len(&self) -> usize {
        field_len(self.message_len())
    }

    fn encode(&self, out: &mut impl BufMut) {
        let change = self.change();
        out.put_u8(TAG_EVENTS);
        encode_varint(self.message_len() as u64, out);
        if change.kind == EventKind::Delete {
            out.put_slice(&[TAG_TYPE, DELETE]);
        }
        out.put_u8(TAG_KV);
        encode_varint(change.kv.len() as u64, out);
        out.put_slice(&change.kv);
        if let Some(prev) = &self.prev {
            out.put_u8(TAG_PREV_KV);
            encode_varint(prev.len() as u64, out);
            out.put_slice(prev);
        }
    }
}

/// The length of a length-delimited field with a tag of one byte.
fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use metastore_mvcc::Prev;
    use metastore_proto::etcdserverpb::WatchResponse;
    use metastore_proto::mvccpb::{Event, KeyValue};
    use prost::Message;

    use super::*;

    fn item(
        key: &'static str,
        value_len: usize,
        kind: EventKind,
        prev: Option<KeyValue>,
    ) -> (Item, Event) {
        let kv = KeyValue {
            key: Bytes::from_static(key.as_bytes()),
            value: vec![b'v'; value_len].into(),
            mod_revision: 7,
            ..Default::default()
        };
        let encoded: Arc<[u8]> = kv.encode_to_vec().into();
        let change = Change::new(kind, encoded, 2..2 + key.len(), Prev::None);
        assert_eq!(change.key(), key.as_bytes());
        let item = Item {
            commit: Arc::new(Commit::new(7, Box::new([change]))),
            change: 0,
            prev: prev.as_ref().map(|prev| prev.encode_to_vec().into()),
        };
        let event = Event {
            r#type: i32::from(kind == EventKind::Delete),
            kv: Some(kv),
            prev_kv: prev,
        };
        (item, event)
    }

    #[test]
    fn a_payload_decodes_as_the_events_of_a_watch_response() {
        let prev = KeyValue {
            key: Bytes::from_static(b"b"),
            value: Bytes::from_static(b"old"),
            ..Default::default()
        };
        let (items, events): (Vec<_>, Vec<_>) = [
            item("a", 300, EventKind::Put, None),
            item("b", 0, EventKind::Delete, Some(prev)),
            item("c", 20_000, EventKind::Put, None),
        ]
        .into_iter()
        .unzip();
        for count in 1..=3 {
            let payload = Payload::new(items[..count].to_vec()).unwrap();
            let bytes = payload.to_vec();
            assert_eq!(bytes.len(), payload.encoded_len());
            assert_eq!(payload.count(), count);
            let decoded = WatchResponse::decode(&bytes[..]).unwrap();
            assert_eq!(decoded.events, events[..count]);
        }
        assert!(Payload::new(Vec::new()).is_none());
    }

    #[test]
    fn a_split_keeps_every_event_once_and_each_part_below_the_limit() {
        let (items, events): (Vec<_>, Vec<_>) = [90, 10, 10, 500, 10, 80, 5]
            .map(|len| item("k", len, EventKind::Put, None))
            .into_iter()
            .unzip();
        let mut rest = Payload::new(items);
        let (mut parts, mut decoded) = (0, Vec::new());
        while let Some(payload) = rest {
            let (first, more) = payload.split(120);
            let bytes = first.to_vec();
            assert_eq!(bytes.len(), first.encoded_len());
            assert!(bytes.len() < 120 || first.count() == 1);
            decoded.extend(WatchResponse::decode(&bytes[..]).unwrap().events);
            parts += 1;
            rest = more;
        }
        assert_eq!(decoded, events);
        assert_eq!(parts, 5);
    }
}
