//! The table of all flags: etcd 3.7's in the order of its help, and MetaStore's own.
//!
//! The one place to add a flag or to change what one does; follows `AddFlags` in `server/embed/config.go` and
//! `newConfig` in `server/etcdmain/config.go`.

use super::value::Kind;
use super::{Effect, FileKey, Flag, Section};

use Effect::{Effective, NoEffect, Unsupported};
use FileKey::{ClientSecurity, Config, ConfigJson, Discovery, PeerSecurity, SocketOptions};

const INT: Kind = Kind::Signed("int");
const INT64: Kind = Kind::Signed("int64");
const UINT: Kind = Kind::Unsigned("uint");
const UINT64: Kind = Kind::Unsigned("uint64");
const URLS: Kind = Kind::Urls("");

const NO_BBOLT: Effect = NoEffect("there is no bbolt file");
const NO_DISCOVERY: Effect = Unsupported(
    "this version does not bootstrap by discovery; list the members in --initial-cluster",
);
const PART_OF_DISCOVERY: Effect =
    NoEffect("it belongs to discovery, by which this version does not bootstrap");
const NO_TRACING: Effect = NoEffect("spans are not exported");
const NO_MEMBER_CHANGES: Effect = NoEffect("this version does not change the members of a cluster");
const NO_AUTH: Effect = NoEffect("this version has no users");
const NO_HASH_CHECKS: Effect =
    NoEffect("this version does not compare the members' data by itself");
const RETAINED_BY_BYTES: Effect =
    NoEffect("the log is bounded by --raft-log-retention-bytes instead");

/// The default of `--log-rotation-config-json`.
pub const ROTATION: &str =
    r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

/// The values that `--v2-deprecation` takes.
const V2_STAGES: &[&str] = &[
    "write-only",
    "write-only-skip-check",
    "write-only-drop-data",
    "gone",
];

/// One line of the table.
const fn flag(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    file: FileKey,
    effect: Effect,
    doc: &'static str,
) -> Flag {
    Flag {
        name,
        section,
        kind,
        default,
        doc,
        effect,
        file,
    }
}

/// One of the names that etcd has long dropped and still takes.
const fn dropped(name: &'static str) -> Flag {
    flag(
        Section::Ignored,
        name,
        Kind::Ignored,
        "",
        FileKey::None,
        NoEffect("etcd ignores it too"),
        "",
    )
}

/// Every flag, in the order in which it is shown.
#[rustfmt::skip]
pub const FLAGS: &[Flag] = {
    use Section::{
        Auth, Clustering, Features, Logging, Member, MetaStore, Monitoring, Security, Tracing, Unsafe,
    };
    &[
        flag(Member, "name", Kind::Text, "default", Config, Effective, "Name of this member, for people."),
        flag(Member, "data-dir", Kind::Text, "", Config, Effective, "Folder of the data; ${name}.etcd in the current folder when empty."),
        flag(Member, "wal-dir", Kind::Text, "", Config, Effective, "Folder of its own for the log; inside the data folder when empty."),
        flag(Member, "snapshot-count", UINT64, "10000", Config, RETAINED_BY_BYTES, "Committed entries after which etcd takes a snapshot."),
        flag(Member, "heartbeat-interval", UINT, "100", Config, Effective, "Milliseconds between two heartbeats of the leader."),
        flag(Member, "election-timeout", UINT, "1000", Config, Effective, "Milliseconds of silence after which a follower stands for election; at least five heartbeats, at most 50000."),
        flag(Member, "initial-election-tick-advance", Kind::Bool, "true", Config, Effective, "After a start, stand for election as soon as a quorum answers and none of it knows a leader, instead of after an election timeout."),
        flag(Member, "listen-peer-urls", URLS, "http://localhost:2380", ConfigJson, Effective, "URLs to listen on for other members."),
        flag(Member, "listen-client-urls", URLS, "http://localhost:2379", ConfigJson, Effective, "URLs to listen on for clients: gRPC, and HTTP unless --listen-client-http-urls is set."),
        flag(Member, "listen-client-http-urls", URLS, "", ConfigJson, Effective, "URLs to listen on for clients that speak HTTP only; takes HTTP away from --listen-client-urls."),
        flag(Member, "max-snapshots", UINT, "5", Config, NoEffect("there are no snapshot files to keep"), "Snapshot files that etcd keeps."),
        flag(Member, "max-wals", UINT, "5", Config, RETAINED_BY_BYTES, "Log files that etcd keeps."),
        flag(Member, "memory-mlock", Kind::Bool, "false", Config, Effective, "Keep all memory of the process out of swap."),
        flag(Member, "quota-backend-bytes", INT64, "0", Config, Effective, "Bytes of data above which the NOSPACE alarm is raised; 0 means 2 GiB, less than 0 means no quota."),
        flag(Member, "backend-bbolt-freelist-type", Kind::Text, "", Config, NO_BBOLT, "Type of bbolt's free list."),
        flag(Member, "backend-batch-interval", Kind::Duration, "0s", Config, NO_BBOLT, "Longest time before a transaction of bbolt is committed."),
        flag(Member, "backend-batch-limit", INT, "0", Config, NO_BBOLT, "Most operations before a transaction of bbolt is committed."),
        flag(Member, "max-txn-ops", UINT, "128", Config, Effective, "Most operations in one transaction."),
        flag(Member, "max-request-bytes", UINT, "1572864", Config, Effective, "Largest request of a client, in bytes."),
        flag(Member, "max-concurrent-streams", Kind::Unsigned32, "4294967295", Config, Effective, "Most streams that a client may have open at a time on one connection."),
        flag(Member, "grpc-keepalive-min-time", Kind::Duration, "5s", Config, NoEffect("every ping is answered, however soon it comes"), "Shortest time between two pings of a client."),
        flag(Member, "grpc-keepalive-interval", Kind::Duration, "2h0m0s", Config, Effective, "Time between two pings of the server on a silent connection; 0 turns them off."),
        flag(Member, "grpc-keepalive-timeout", Kind::Duration, "20s", Config, Effective, "How long the server waits for the answer to its ping; 0 turns pings off."),
        flag(Member, "socket-reuse-port", Kind::Bool, "false", SocketOptions("reuse-port"), Effective, "Set SO_REUSEPORT on listeners."),
        flag(Member, "socket-reuse-address", Kind::Bool, "false", SocketOptions("reuse-address"), NoEffect("every listener has it, so that a restart never waits for TIME_WAIT"), "Set SO_REUSEADDR on listeners."),
        flag(Member, "enable-grpc-gateway", Kind::Bool, "true", Config, NoEffect("this version does not serve JSON"), "Serve JSON over HTTP under /v3."),
        flag(Member, "raft-read-timeout", Kind::Duration, "5s", FileKey::None, Effective, "Silence after which a connection of another member is given up; at least 5s."),
        flag(Member, "raft-write-timeout", Kind::Duration, "5s", FileKey::None, Effective, "Time after which a connection is given up whose other side does not take what was written; at least 5s."),
        flag(Member, "feature-gates", Kind::Gates, "", ConfigJson, Effective, "Gates to set, as A=true,B=false."),
        //
        flag(MetaStore, "storage-engine", Kind::OneOf(&["rocksdb", "memory"]), "rocksdb", Config, Effective, "Where the state is kept: rocksdb, or memory (durable by the log and its snapshots). A data folder keeps the engine it was created with."),
        flag(MetaStore, "value-cache-bytes", UINT64, "41943040", Config, Effective, "Bytes of values of current keys that are held in memory beside the index."),
        flag(MetaStore, "engine-memory-bytes", UINT64, "67108864", Config, Effective, "Bytes of memory for RocksDB's write buffers and block cache together."),
        flag(MetaStore, "raft-log-retention-bytes", UINT64, "1073741824", Config, Effective, "Bytes of the log that are kept for members that are behind."),
        flag(MetaStore, "client-cert-allowed-cn", Kind::List, "", ClientSecurity("allowed-cn"), Effective, "Common names, separated by commas, one of which a client's certificate must have. In etcd it exists in the configuration file only."),
        //
        flag(Clustering, "initial-advertise-peer-urls", URLS, "http://localhost:2380", ConfigJson, Effective, "URLs under which other members reach this one."),
        flag(Clustering, "initial-cluster", Kind::Text, "default=http://localhost:2380", Config, Effective, "Members of a new cluster, as name=url,name=url."),
        flag(Clustering, "initial-cluster-state", Kind::OneOf(&["new", "existing"]), "new", Config, Effective, "new for a new cluster, existing to join one, which this version refuses; ignored where there is data."),
        flag(Clustering, "initial-cluster-token", Kind::Text, "etcd-cluster", Config, Effective, "Token of the cluster: its id is made from it."),
        flag(Clustering, "advertise-client-urls", URLS, "http://localhost:2379", ConfigJson, Effective, "URLs under which clients reach this member."),
        flag(Clustering, "discovery-token", Kind::Text, "", Discovery("token"), NO_DISCOVERY, "Discovery: token of the cluster."),
        flag(Clustering, "discovery-endpoints", Kind::Set, "", Discovery("client.endpoints"), NO_DISCOVERY, "Discovery: endpoints of the service."),
        flag(Clustering, "discovery-dial-timeout", Kind::Duration, "2s", Discovery("client.dial-timeout"), PART_OF_DISCOVERY, "Discovery: time to connect."),
        flag(Clustering, "discovery-request-timeout", Kind::Duration, "5s", Discovery("client.request-timeout"), PART_OF_DISCOVERY, "Discovery: time for a request."),
        flag(Clustering, "discovery-keepalive-time", Kind::Duration, "2s", Discovery("client.keepalive-time"), PART_OF_DISCOVERY, "Discovery: time between pings."),
        flag(Clustering, "discovery-keepalive-timeout", Kind::Duration, "6s", Discovery("client.keepalive-timeout"), PART_OF_DISCOVERY, "Discovery: time for the answer to a ping."),
        flag(Clustering, "discovery-insecure-transport", Kind::Bool, "true", Discovery("client.secure.insecure-transport"), PART_OF_DISCOVERY, "Discovery: connect without TLS."),
        flag(Clustering, "discovery-insecure-skip-tls-verify", Kind::Bool, "false", Discovery("client.secure.insecure-skip-tls-verify"), PART_OF_DISCOVERY, "Discovery: trust any certificate."),
        flag(Clustering, "discovery-cert", Kind::Text, "", Discovery("client.secure.cert"), PART_OF_DISCOVERY, "Discovery: certificate to show."),
        flag(Clustering, "discovery-key", Kind::Text, "", Discovery("client.secure.key"), PART_OF_DISCOVERY, "Discovery: key of that certificate."),
        flag(Clustering, "discovery-cacert", Kind::Text, "", Discovery("client.secure.cacert"), PART_OF_DISCOVERY, "Discovery: authorities to trust."),
        flag(Clustering, "discovery-user", Kind::Text, "", Discovery("client.auth.username"), PART_OF_DISCOVERY, "Discovery: user."),
        flag(Clustering, "discovery-password", Kind::Text, "", Discovery("client.auth.password"), PART_OF_DISCOVERY, "Discovery: password."),
        flag(Clustering, "discovery-fallback", Kind::OneOf(&["exit", "proxy"]), "exit", FileKey::None, PART_OF_DISCOVERY, "What to do when discovery fails: exit."),
        flag(Clustering, "discovery-srv", Kind::Text, "", Config, NO_DISCOVERY, "DNS domain whose SRV records name the members."),
        flag(Clustering, "discovery-srv-name", Kind::Text, "", Config, NO_DISCOVERY, "Suffix of the service in those records."),
        flag(Clustering, "strict-reconfig-check", Kind::Bool, "true", Config, NO_MEMBER_CHANGES, "Refuse changes of membership that would cost the quorum."),
        flag(Clustering, "pre-vote", Kind::Bool, "true", Config, Effective, "Ask before an election whether it could be won, so that a member that was cut off disturbs nobody when it returns."),
        flag(Clustering, "auto-compaction-retention", Kind::Text, "0", Config, Effective, "How much history automatic compaction keeps; 0 turns it off."),
        flag(Clustering, "auto-compaction-mode", Kind::Text, "periodic", Config, Effective, "periodic: the retention is a duration, in hours without a unit; revision: it is a number of revisions."),
        flag(Clustering, "v2-deprecation", Kind::SomeOf(V2_STAGES), "", Config, NoEffect("there is no v2 store"), "Stage of the end of etcd's v2 store."),
        //
        flag(Security, "cert-file", Kind::Text, "", ClientSecurity("cert-file"), Effective, "Certificate of the client port, PEM; read again when it changes."),
        flag(Security, "key-file", Kind::Text, "", ClientSecurity("key-file"), Effective, "Key of that certificate, PEM; read again when it changes."),
        flag(Security, "client-cert-auth", Kind::Bool, "false", ClientSecurity("client-cert-auth"), Effective, "Demand certificates of clients."),
        flag(Security, "client-cert-file", Kind::Text, "", ClientSecurity("client-cert-file"), NoEffect("a member is no client of itself"), "Certificate that the server shows when it is a client of itself."),
        flag(Security, "client-key-file", Kind::Text, "", ClientSecurity("client-key-file"), NoEffect("a member is no client of itself"), "Key of that certificate."),
        flag(Security, "client-crl-file", Kind::Text, "", FileKey::None, Effective, "Revoked certificates of clients, DER or PEM; read again when it changes."),
        flag(Security, "client-cert-allowed-hostname", Kind::List, "", ClientSecurity("allowed-hostname"), Effective, "Host names or addresses, separated by commas, one of which a client's certificate must be valid for."),
        flag(Security, "trusted-ca-file", Kind::Text, "", ClientSecurity("trusted-ca-file"), Effective, "Authorities of clients' certificates, PEM; makes certificates of clients mandatory; read again when it changes."),
        flag(Security, "auto-tls", Kind::Bool, "false", ClientSecurity("auto-tls"), Effective, "Serve clients with a certificate that is made on the first start."),
        flag(Security, "peer-cert-file", Kind::Text, "", PeerSecurity("cert-file"), Effective, "Certificate of the peer port, PEM; shown to other members too; read again when it changes."),
        flag(Security, "peer-key-file", Kind::Text, "", PeerSecurity("key-file"), Effective, "Key of that certificate, PEM; read again when it changes."),
        flag(Security, "peer-client-cert-auth", Kind::Bool, "false", PeerSecurity("client-cert-auth"), Effective, "Demand certificates of other members."),
        flag(Security, "peer-client-cert-file", Kind::Text, "", PeerSecurity("client-cert-file"), Effective, "Certificate to show to other members instead of --peer-cert-file."),
        flag(Security, "peer-client-key-file", Kind::Text, "", PeerSecurity("client-key-file"), Effective, "Key of that certificate."),
        flag(Security, "peer-trusted-ca-file", Kind::Text, "", PeerSecurity("trusted-ca-file"), Effective, "Authorities of other members' certificates, PEM; makes them mandatory; read again when it changes."),
        flag(Security, "peer-cert-allowed-cn", Kind::List, "", PeerSecurity("allowed-cn"), Effective, "Common names, separated by commas, one of which another member's certificate must have."),
        flag(Security, "peer-cert-allowed-hostname", Kind::List, "", PeerSecurity("allowed-hostname"), Effective, "Host names or addresses, separated by commas, one of which another member's certificate must be valid for."),
        flag(Security, "peer-auto-tls", Kind::Bool, "false", PeerSecurity("auto-tls"), Effective, "Speak TLS between members with certificates that are made on the first start; nobody is authenticated."),
        flag(Security, "self-signed-cert-validity", UINT, "1", Config, Effective, "Years for which the certificates of --auto-tls and --peer-auto-tls are valid."),
        flag(Security, "peer-crl-file", Kind::Text, "", FileKey::None, Effective, "Revoked certificates of members, DER or PEM; read again when it changes."),
        flag(Security, "peer-skip-client-san-verification", Kind::Bool, "false", PeerSecurity("skip-client-san-verification"), Effective, "Do not compare the names in another member's certificate with the address it connects from."),
        flag(Security, "cipher-suites", Kind::List, "", Config, Effective, "TLS 1.2 cipher suites, separated by commas, by their names in Go; all that are safe when empty."),
        flag(Security, "tls-min-version", Kind::Text, "TLS1.2", Config, Effective, "Lowest version of TLS: TLS1.2 or TLS1.3."),
        flag(Security, "tls-max-version", Kind::Text, "", Config, Effective, "Highest version of TLS: TLS1.2 or TLS1.3; the highest there is when empty."),
        flag(Security, "cors", Kind::Urls("*"), "*", ConfigJson, Effective, "Origins from which browsers may call, separated by commas; * for all."),
        flag(Security, "host-whitelist", Kind::Set, "*", ConfigJson, Effective, "Host names that HTTP requests without TLS may carry, separated by commas; * for all."),
        //
        flag(Auth, "auth-token", Kind::Text, "simple", Config, NO_AUTH, "Type of tokens and its options: simple, or jwt,sign-method=...,pub-key=...,priv-key=...,ttl=...."),
        flag(Auth, "bcrypt-cost", UINT, "10", Config, NO_AUTH, "Cost of hashing a password, between 4 and 31."),
        flag(Auth, "auth-token-ttl", UINT, "300", Config, NO_AUTH, "Seconds for which a simple token lives."),
        //
        flag(Monitoring, "enable-pprof", Kind::Bool, "false", Config, NoEffect("the profiles of Go's runtime have no counterpart"), "Serve runtime profiles under /debug/pprof/."),
        flag(Monitoring, "metrics", Kind::Text, "basic", Config, Effective, "extensive adds histograms of gRPC's handling times."),
        flag(Monitoring, "listen-metrics-urls", URLS, "", Config, Effective, "URLs to listen on for /metrics and /health alone."),
        //
        flag(Logging, "logger", Kind::Text, "zap", Config, Effective, "zap: the format of the lines; nothing else is known."),
        flag(Logging, "log-outputs", Kind::Set, "default", Config, Effective, "Where lines go: default (stderr), stderr, stdout, systemd/journal, or paths of files, separated by commas."),
        flag(Logging, "log-level", Kind::Text, "info", Config, Effective, "Least level that is written: debug, info, warn, error, panic or fatal."),
        flag(Logging, "log-format", Kind::Text, "json", Config, Effective, "json or console."),
        flag(Logging, "enable-log-rotation", Kind::Bool, "false", Config, Effective, "Rotate the one file among the log outputs."),
        flag(Logging, "log-rotation-config-json", Kind::Text, ROTATION, Config, Effective, "How: maxsize in MB, maxage in days, maxbackups (0: no limit); localtime is always UTC here, compress is refused."),
        flag(Logging, "warning-unary-request-duration", Kind::Duration, "300ms", Config, Effective, "A unary request that takes longer is logged."),
        //
        flag(Tracing, "enable-distributed-tracing", Kind::Bool, "false", Config, NO_TRACING, "Send spans to a collector of OpenTelemetry."),
        flag(Tracing, "distributed-tracing-address", Kind::Text, "localhost:4317", Config, NO_TRACING, "Address of the collector."),
        flag(Tracing, "distributed-tracing-service-name", Kind::Text, "etcd", Config, NO_TRACING, "Name of the service in spans."),
        flag(Tracing, "distributed-tracing-instance-id", Kind::Text, "", Config, NO_TRACING, "Name of the instance in spans."),
        flag(Tracing, "distributed-tracing-sampling-rate", INT, "0", Config, NO_TRACING, "Spans taken out of a million."),
        //
        flag(Features, "corrupt-check-time", Kind::Duration, "0s", Config, NO_HASH_CHECKS, "Time between two checks that all members hold the same data; 0 turns them off."),
        flag(Features, "compact-hash-check-time", Kind::Duration, "1m0s", Config, NO_HASH_CHECKS, "Time between two checks of the hashes at the last compaction, with the gate CompactHashCheck."),
        flag(Features, "compaction-batch-limit", INT, "0", Config, Effective, "Most revisions that one step of compaction looks at; 0 means 256."),
        flag(Features, "compaction-sleep-interval", Kind::Duration, "0s", Config, Effective, "Pause between two steps of compaction; 0 means 1ms."),
        flag(Features, "watch-progress-notify-interval", Kind::Duration, "0s", Config, Effective, "Time between two notices of progress to a watch that asked for them; 0 means 10m."),
        flag(Features, "warning-apply-duration", Kind::Duration, "100ms", Config, Effective, "A read, or an entry of the log, that takes longer is logged."),
        flag(Features, "bootstrap-defrag-threshold-megabytes", UINT, "0", Config, NO_BBOLT, "Megabytes to be freed for which etcd defragments at its start."),
        flag(Features, "max-learners", INT, "1", Config, NO_MEMBER_CHANGES, "Most learners in the cluster."),
        flag(Features, "downgrade-check-time", Kind::Duration, "5s", Config, NoEffect("there is no downgrade of the storage version"), "Time between two checks whether a downgrade is done."),
        flag(Features, "snapshot-catchup-entries", UINT64, "5000", Config, RETAINED_BY_BYTES, "Entries that etcd keeps for a member that is behind."),
        //
        flag(Unsafe, "force-new-cluster", Kind::Bool, "false", Config, Unsupported("this version cannot make a cluster of one out of a member of many"), "Make a cluster of one member out of this member's data."),
        flag(Unsafe, "unsafe-no-fsync", Kind::Bool, "false", Config, Effective, "Never wait for the disk. Loses data at a power cut."),
        //
        flag(Member, "config-file", Kind::Text, "", FileKey::None, Effective, "YAML file with all settings; flags and environment are ignored beside it."),
        flag(Member, "version", Kind::Switch, "false", FileKey::None, Effective, "Print the version and exit."),
        //
        dropped("cluster-active-size"),
        dropped("cluster-remove-delay"),
        dropped("cluster-sync-interval"),
        dropped("config"),
        dropped("force"),
        dropped("max-result-buffer"),
        dropped("max-retry-attempts"),
        dropped("peer-heartbeat-interval"),
        dropped("peer-election-timeout"),
        dropped("retry-interval"),
        dropped("snapshot"),
        dropped("v"),
        dropped("vv"),
        dropped("test.coverprofile"),
        dropped("test.outputdir"),
    ]
};

/// The place of a flag in [`FLAGS`].
pub fn position(name: &str) -> Option<usize> {
    FLAGS.iter().position(|flag| flag.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_stands_twice_and_every_default_is_a_value() {
        let mut names = BTreeSet::new();
        for flag in FLAGS {
            assert!(names.insert(flag.name), "{} stands twice", flag.name);
            let list = matches!(
                flag.kind,
                Kind::Urls(_) | Kind::List | Kind::Set | Kind::SomeOf(_)
            );
            if flag.kind != Kind::Ignored && !(list && flag.default.is_empty()) {
                flag.kind
                    .read(flag.default, &flag.kind.empty())
                    .unwrap_or_else(|e| panic!("{}: {e}", flag.name));
            }
        }
    }

    #[test]
    fn every_flag_of_etcd_is_here() {
        for name in include_str!("etcd_flags.txt").lines() {
            assert!(position(name).is_some(), "{name} is missing");
        }
    }
}
