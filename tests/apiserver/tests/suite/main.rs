//! Kubernetes on MetaStore: what a real kube-apiserver needs of its store, case by case.
//!
//! | what Kubernetes needs | cases |
//! |---|---|
//! | flags: `--etcd-servers` (one, three) | every case; `restarts::*` |
//! | flags: `--etcd-servers-overrides` | `flags::events_live_in_a_store_of_their_own` |
//! | flags: `--etcd-prefix` | `flags::two_prefixes_share_a_store` |
//! | flags: `--etcd-cafile`, `-certfile`, `-keyfile` | `flags::client_certificates_open_the_store` |
//! | flags: `--etcd-compaction-interval` | `compaction::*` |
//! | flags: `--etcd-healthcheck-timeout`, `-readycheck-timeout` | `health::a_store_that_hangs_makes_the_apiserver_unready` |
//! | flags: `--etcd-db-metric-poll-interval`, `-count-metric-poll-period` | `health::sizes_and_counts_are_polled` |
//! | flags: `--lease-reuse-duration-seconds` | `events::leases_are_shared_for_the_reuse_duration` |
//! | Range: get, pages, pinned, continue, count, keys only | `objects::*`, `lists::*`, `health::sizes_and_counts_are_polled`; conformance `kubernetes` |
//! | RangeStream | `lists::lists_without_a_cache_come_from_the_store`, `cache::*` (1.37) |
//! | Txn: guarded create, update, delete | `objects::*` |
//! | Txn on `compact_rev_key`, Compact | `compaction::*` |
//! | Watch on `compact_rev_key` | `compaction::an_old_page_is_gone_from_the_cache_too` |
//! | Watch of a prefix | `watches::*` |
//! | RequestProgress | `cache::lists_of_the_newest_state_come_from_the_cache` |
//! | LeaseGrant | `events::*` |
//! | Status | `health::*`; the gates of `cache` need its version |
//! | health and readiness | `health::*` |
//! | kubeadm's flags and probes | every member has the flags; `health::kubeadms_probes_and_metric_names` |
//! | sizes | `sizes::*` |
//! | gate ConsistentListFromCache | `cache::lists_of_the_newest_state_come_from_the_cache` |
//! | gate ListFromCacheSnapshot | `cache::pages_and_exact_lists_come_from_snapshots` |
//! | gate DetectCacheInconsistency | `cache::the_apiserver_finds_no_inconsistency` |
//! | gate WatchList | `watches::a_watch_that_begins_with_a_list` |
//! | gate EtcdRangeStream | as RangeStream |
//! | lessons of kine | version, progress and revisions: `cache::*`; compact key: `compaction::*`; missing records: `lists::*`; many watches and sends: `watches::*`; leases of thousands of keys: `events::*` |
//! | metric names | `health::kubeadms_probes_and_metric_names` |

mod cache;
mod compaction;
mod events;
mod flags;
mod health;
mod kubectl;
mod lists;
mod objects;
mod restarts;
mod sizes;
mod watches;
