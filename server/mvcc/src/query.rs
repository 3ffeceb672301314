//! What a reader asks, and the page it gets.

use bytes::Bytes;

use crate::read::scan::Direction;

/// What the keys of an answer are sorted by (etcd's `SortTarget`, same numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target {
    /// The key itself: the natural order.
    #[default]
    Key,
    /// The version since creation.
    Version,
    /// The creating revision.
    Create,
    /// The newest modifying revision.
    Mod,
    /// The value.
    Value,
}

/// The direction of the sort (etcd's `SortOrder`, same numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Not asked for. With a target other than the key etcd then sorts upwards, but only after it has cut at the limit.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Greatest first.
    Descend,
}

/// A range request, in etcd's encoding of ranges and with its field semantics.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The first key.
    pub key: Bytes,
    /// Empty: only `key`. `"\0"`: everything from `key` on. Otherwise the first key beyond the range.
    pub end: Bytes,
    /// At most so many keys; 0 or less is no limit.
    pub limit: i64,
    /// The revision to read at; 0 or less is the newest.
    pub revision: i64,
    /// Direction of the sort.
    pub order: Order,
    /// Subject of the sort.
    pub target: Target,
    /// Leave the values out. Without a sort by value the lease is left out as well, as in etcd 3.7.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// Keys modified before this are left out; 0 is no bound. The four bounds do not change `Page::count`.
    pub min_mod_revision: i64,
    /// Keys modified after this are left out; 0 is no bound.
    pub max_mod_revision: i64,
    /// Keys created before this are left out; 0 is no bound.
    pub min_create_revision: i64,
    /// Keys created after this are left out; 0 is no bound.
    pub max_create_revision: i64,
}

impl Query {
    /// Everything about one key at the newest revision.
    pub fn one(key: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            ..Self::default()
        }
    }

    /// Everything in `[key, end)` at the newest revision.
    pub fn range(key: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            end: end.into(),
            ..Self::default()
        }
    }

    /// The direction in which the keys have to be gone through, when they are what is sorted by.
    pub(crate) fn direction(&self) -> Direction {
        match self.order {
            Order::Descend => Direction::Down,
            Order::None | Order::Ascend => Direction::Up,
        }
    }

    /// Whether some bound on create or mod revision is set.
    pub(crate) fn has_revision_filters(&self) -> bool {
        self.min_mod_revision != 0
            || self.max_mod_revision != 0
            || self.min_create_revision != 0
            || self.max_create_revision != 0
    }

    /// Whether a key with these revisions passes the bounds.
    pub(crate) fn admits(&self, create: i64, modified: i64) -> bool {
        (self.max_mod_revision == 0 || modified <= self.max_mod_revision)
            && (self.min_mod_revision == 0 || modified >= self.min_mod_revision)
            && (self.max_create_revision == 0 || create <= self.max_create_revision)
            && (self.min_create_revision == 0 || create >= self.min_create_revision)
    }
}

/// An answer to a [`Query`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The key-values, encoded as field 2 of `RangeResponse`: for each the tag 0x12, its length, the `KeyValue`.
    pub kvs: Vec<u8>,
    /// How many key-values `kvs` holds.
    pub kv_count: usize,
    /// Whether the limit cut something off.
    pub more: bool,
    /// How many keys the range holds at the revision, whatever limit and bounds say.
    pub count: i64,
    /// The newest revision when the answer was made: what the header says.
    pub revision: i64,
}
