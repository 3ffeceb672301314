//! Ids as etcd computes them (`server/etcdserver/api/membership`), so that tests know them beforehand.

use sha1::{Digest, Sha1};

/// The id of a member that was in `--initial-cluster` with these peer URLs.
pub fn member_id(peer_urls: &[&str], token: &str) -> u64 {
    let mut sorted = peer_urls.to_vec();
    sorted.sort_unstable();
    first_eight(
        Sha1::new()
            .chain_update(sorted.concat())
            .chain_update(token),
    )
}

/// The id of the cluster that started with these members.
pub fn cluster_id(members: &[u64]) -> u64 {
    let mut sorted = members.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for id in sorted {
        hash.update(id.to_be_bytes());
    }
    first_eight(hash)
}

fn first_eight(hash: Sha1) -> u64 {
    hash.finalize()[..8]
        .iter()
        .fold(0, |id, byte| id << 8 | u64::from(*byte))
}
