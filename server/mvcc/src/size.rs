//! What a revision counts towards the quota.

/// What an empty store counts: as much as an empty database file of etcd, so that small quotas mean the same.
pub(crate) const EMPTY_STORE_BYTES: u64 = 20 << 10;

/// What a revision counts beside its record: etcd's 17-byte key and its 16 bytes in a page.
const REVISION_OVERHEAD: u64 = 33;

/// What a revision with a record of `record_len` bytes counts.
pub(crate) fn revision_bytes(record_len: u32) -> u64 {
    u64::from(record_len) + REVISION_OVERHEAD
}
