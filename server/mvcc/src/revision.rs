//! A revision and its place in the key spaces `Record` and `Meta`.

/// The moment of one change: `main` counts transactions, `sub` the changes inside one.
///
/// Ordered as etcd orders them (`server/storage/mvcc/revision.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision {
    /// The transaction; the first write of an empty store gets 2.
    pub main: i64,
    /// The change inside the transaction, from 0.
    pub sub: u32,
}

/// Bytes of a revision as a key of the engine.
pub const REVISION_KEY_BYTES: usize = 12;

impl Revision {
    /// The first revision of transaction `main`.
    pub const fn start_of(main: i64) -> Self {
        Self { main, sub: 0 }
    }

    /// Big-endian `main` (8 bytes) and `sub` (4 bytes): sorts as the revisions do.
    pub fn to_key(self) -> [u8; REVISION_KEY_BYTES] {
        let mut key = [0; REVISION_KEY_BYTES];
        key[..8].copy_from_slice(&self.main.to_be_bytes());
        key[8..].copy_from_slice(&self.sub.to_be_bytes());
        key
    }

    /// The inverse of [`Revision::to_key`]; `None` for anything that it did not write.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let (main, sub) = key.split_at_checked(8)?;
        let main = i64::from_be_bytes(main.try_into().ok()?);
        let sub = u32::from_be_bytes(sub.try_into().ok()?);
        (main >= 0).then_some(Self { main, sub })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_and_sort_as_revisions() {
        let revisions = [
            Revision::start_of(0),
            Revision { main: 1, sub: 7 },
            Revision { main: 2, sub: 0 },
            Revision {
                main: i64::MAX,
                sub: u32::MAX,
            },
        ];
        for pair in revisions.windows(2) {
            assert!(pair[0].to_key() < pair[1].to_key());
        }
        for revision in revisions {
            assert_eq!(Revision::from_key(&revision.to_key()), Some(revision));
        }
        assert_eq!(Revision::from_key(b"short"), None);
        assert_eq!(Revision::from_key(&[0xff; REVISION_KEY_BYTES]), None);
    }
}
