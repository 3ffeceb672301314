//! Ids of members and clusters, computed as etcd does, so that the same flags give the same ids
//! (`server/etcdserver/api/membership/member.go` and `cluster.go`).

use sha1::{Digest, Sha1};

/// The id of a member.
///
/// A member of a new cluster has the cluster's token and no time. One added to a running cluster has an empty token and the time of
/// the request, in seconds since 1970.
pub fn member_id<S: AsRef<str>>(
    peer_urls: &[S],
    token: &str,
    added_unix_seconds: Option<i64>,
) -> u64 {
    let mut urls: Vec<&str> = peer_urls.iter().map(AsRef::as_ref).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url);
    }
    hash.update(token);
    if let Some(seconds) = added_unix_seconds {
        hash.update(seconds.to_string());
    }
    first_eight_bytes(hash)
}

/// The id of a new cluster, from the ids of its first members in any order.
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut ids = member_ids.to_vec();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    first_eight_bytes(hash)
}

fn first_eight_bytes(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let (first, _) = digest.split_first_chunk().expect("sha1 has 20 bytes");
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The numbers are those that etcd 3.7.3 logged when started with these flags.

    #[test]
    fn a_member_without_flags_has_the_ids_of_etcd() {
        let id = member_id(&["http://localhost:2380"], "etcd-cluster", None);
        assert_eq!(id, 0x8e9e_05c5_2164_694d);
        assert_eq!(cluster_id(&[id]), 0xcdf8_1819_4e3a_8c32);
    }

    #[test]
    fn the_token_goes_into_the_ids() {
        let id = member_id(&["http://127.0.0.1:31380"], "tok-1", None);
        assert_eq!(id, 0xf566_470c_cd0a_9b10);
        assert_eq!(cluster_id(&[id]), 0xfd9a_809b_ba60_efc7);
    }

    #[test]
    fn several_members_and_several_urls_have_the_ids_of_etcd() {
        let a = member_id(&["http://10.0.1.10:2380"], "etcd-cluster", None);
        let b = member_id(&["http://127.0.0.1:32380"], "etcd-cluster", None);
        let c = member_id(
            &["https://10.0.1.12:2380", "http://10.0.1.13:12380"],
            "etcd-cluster",
            None,
        );
        assert_eq!(a, 0x794a_ea3b_a77a_1d64);
        assert_eq!(b, 0x0628_170c_800d_bcee);
        assert_eq!(c, 0xa829_bf92_2939_379b);
        assert_eq!(cluster_id(&[a, b, c]), 0x233d_c9aa_e131_be3d);
        assert_eq!(cluster_id(&[c, a, b]), 0x233d_c9aa_e131_be3d);
    }

    #[test]
    fn a_member_added_later_is_told_apart_by_the_time() {
        let id = member_id(&["http://127.0.0.1:39380"], "", Some(1_795_465_917));
        assert_eq!(id, 0x0768_b6ec_928b_1d8a);
    }
}
