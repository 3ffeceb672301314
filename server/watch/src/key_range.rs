//! Which keys a watch is about, in etcd's encoding of ranges.
//!
//! Promises: two ranges that cover the same keys by the same bounds are equal, so that watches can be grouped by them.

use std::sync::Arc;

/// The keys of a watch. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyRange {
    pub(crate) from: Arc<[u8]>,
    pub(crate) to: End,
}

/// Where a range ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum End {
    /// The range is the one key `from`.
    Single,
    /// Before this key.
    Before(Arc<[u8]>),
    /// Nowhere.
    Unbounded,
}

impl KeyRange {
    /// Reads `key` and `range_end` of a create request as `v3rpc/watch.go` and `mvcc/watcher.go` do: no key is the
    /// smallest one, no end is a single key, an end of one zero byte is everything from the key on. `None` when the
    /// range is empty.
    pub(crate) fn of_request(key: &[u8], end: &[u8]) -> Option<Self> {
        let key = if key.is_empty() { b"\0" } else { key };
        let to = match end {
            [] => End::Single,
            [0] => End::Unbounded,
            end if key >= end => return None,
            end => End::Before(end.into()),
        };
        Some(Self {
            from: key.into(),
            to,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_etcd_reads_them() {
        let range = |key: &[u8], end: &[u8]| KeyRange::of_request(key, end);
        let single = range(b"foo", b"").unwrap();
        assert_eq!((&*single.from, single.to), (&b"foo"[..], End::Single));
        let all = range(b"", b"\0").unwrap();
        assert_eq!((&*all.from, all.to), (&b"\0"[..], End::Unbounded));
        let smallest = range(b"", b"").unwrap();
        assert_eq!((&*smallest.from, smallest.to), (&b"\0"[..], End::Single));
        assert_eq!(range(b"a", b"b").unwrap().to, End::Before(b"b"[..].into()));
        assert_eq!(range(b"foa", b"foa"), None);
        assert_eq!(range(b"fob", b"foa"), None);
        assert_eq!(range(b"foo", b"\0").unwrap().to, End::Unbounded);
    }
}
