//! From checked values to the typed configuration.

use std::path::PathBuf;
use std::time::Duration;

use super::load::Source;
use super::{
    Advertise, Allowed, Auth, Checks, Cluster, ClusterState, Compaction, Config, Data, Grpc, Http,
    Invalid, Keepalive, Limits, Listen, Raft, advertise, auth, compaction,
};
use crate::flag::values::Values;
use crate::logging::Note;
use crate::tls::{self, TlsOptions};

const DEFAULT_QUOTA: u64 = 2 << 30;
const DEFAULT_WATCH_PROGRESS: Duration = Duration::from_secs(600);
const DEFAULT_WARNING_UNARY: Duration = Duration::from_millis(300);
/// etcd raises shorter timeouts of its connections to this.
const LEAST_RAFT_TIMEOUT: Duration = Duration::from_secs(5);

/// # Errors
/// What is found out only now: the options of tokens.
pub(super) fn build(
    values: &Values,
    source: Source,
    notes: &mut Vec<Note>,
) -> Result<Config, Invalid> {
    let name = values.text("name").to_owned();
    let addresses = advertise::resolve(values, notes);
    let gates = values.gates("feature-gates").clone();
    let positive =
        |flag: &str, default: Duration| values.duration(flag).positive().unwrap_or(default);
    Ok(Config {
        data: data(values, &name, notes),
        raft: raft(values, &addresses.advertise, notes),
        listen: listen(values),
        cluster: cluster(values, addresses.initial_cluster),
        advertise: addresses.advertise,
        client_tls: client_tls(values, source),
        peer_tls: peer_tls(values, source),
        limits: limits(values),
        grpc: grpc(values),
        http: http(values),
        auth: Auth {
            token: auth::token(values.text("auth-token"))?,
            bcrypt_cost: auth::bcrypt_cost(values.unsigned("bcrypt-cost"), notes),
            token_ttl: Duration::from_secs(values.unsigned("auth-token-ttl")),
            client_cert: values.bool("client-cert-auth"),
        },
        compaction: Compaction {
            auto: compaction::parse(
                values.text("auto-compaction-mode"),
                values.text("auto-compaction-retention"),
            )?,
            batch_limit: above_zero(values.signed("compaction-batch-limit")),
            sleep_interval: values.duration("compaction-sleep-interval").positive(),
        },
        checks: Checks {
            corrupt_interval: values.duration("corrupt-check-time").positive(),
            compact_hash_interval: values
                .duration("compact-hash-check-time")
                .positive()
                .filter(|_| gates.enabled("CompactHashCheck")),
            initial: gates.enabled("InitialCorruptCheck"),
        },
        watch_progress_interval: positive("watch-progress-notify-interval", DEFAULT_WATCH_PROGRESS),
        warning_apply: values
            .duration("warning-apply-duration")
            .to_std()
            .unwrap_or_default(),
        warning_unary_request: positive("warning-unary-request-duration", DEFAULT_WARNING_UNARY),
        features: gates,
        lock_memory: values.bool("memory-mlock"),
        name,
    })
}

fn above_zero(number: i64) -> Option<usize> {
    usize::try_from(number).ok().filter(|number| *number > 0)
}

fn size(values: &Values, flag: &str) -> usize {
    usize::try_from(values.unsigned(flag)).unwrap_or(usize::MAX)
}

fn path(values: &Values, flag: &str) -> Option<PathBuf> {
    values.some_text(flag).map(PathBuf::from)
}

fn data(values: &Values, name: &str, notes: &mut Vec<Note>) -> Data {
    let directory = path(values, "data-dir").unwrap_or_else(|| {
        let directory = format!("{name}.etcd");
        notes.push(
            Note::warn("'data-dir' was empty; using default").with("data-dir", directory.as_str()),
        );
        directory.into()
    });
    Data {
        directory,
        log_directory: path(values, "wal-dir"),
        engine: values
            .text("storage-engine")
            .parse()
            .expect("the table names the engines there are"),
        value_cache_bytes: size(values, "value-cache-bytes"),
        engine_memory_bytes: size(values, "engine-memory-bytes"),
        log_retention_bytes: values.unsigned("raft-log-retention-bytes"),
        fsync: !values.bool("unsafe-no-fsync"),
    }
}

fn raft(values: &Values, advertise: &Advertise, notes: &mut Vec<Note>) -> Raft {
    let heartbeat = values.unsigned("heartbeat-interval");
    let ticks = values.unsigned("election-timeout") / heartbeat;
    let mut timeout = |flag: &str| {
        let given = values.duration(flag).to_std().unwrap_or_default();
        if given < LEAST_RAFT_TIMEOUT {
            notes.push(Note::info(format!("{flag} increased to minimum value: 5s")));
        }
        given.max(LEAST_RAFT_TIMEOUT)
    };
    Raft {
        heartbeat: Duration::from_millis(heartbeat),
        election: Duration::from_millis(heartbeat * ticks),
        pre_vote: values.bool("pre-vote"),
        early_election: values.bool("initial-election-tick-advance"),
        read_timeout: timeout("raft-read-timeout"),
        write_timeout: timeout("raft-write-timeout"),
        local_address: values
            .gates("feature-gates")
            .enabled("SetMemberLocalAddr")
            .then(|| advertise::local_address(advertise, notes))
            .flatten(),
    }
}

fn listen(values: &Values) -> Listen {
    let urls = |flag: &str| values.urls(flag).urls.clone();
    Listen {
        peer: urls("listen-peer-urls"),
        client: urls("listen-client-urls"),
        client_http: urls("listen-client-http-urls"),
        metrics: urls("listen-metrics-urls"),
        reuse_port: values.bool("socket-reuse-port"),
    }
}

fn cluster(values: &Values, initial: String) -> Cluster {
    Cluster {
        initial,
        token: values.text("initial-cluster-token").to_owned(),
        state: match values.text("initial-cluster-state") {
            "existing" => ClusterState::Existing,
            _ => ClusterState::New,
        },
        force_new: values.bool("force-new-cluster"),
        strict_reconfig_check: values.bool("strict-reconfig-check"),
        max_learners: usize::try_from(values.signed("max-learners")).unwrap_or(0),
    }
}

fn client_tls(values: &Values, source: Source) -> TlsOptions {
    TlsOptions {
        cert_file: path(values, "cert-file"),
        key_file: path(values, "key-file"),
        client_cert_file: path(values, "client-cert-file"),
        client_key_file: path(values, "client-key-file"),
        client_cert_auth: values.bool("client-cert-auth"),
        trusted_ca_file: path(values, "trusted-ca-file"),
        crl_file: path(values, "client-crl-file"),
        allowed_cns: allowed(values.list("client-cert-allowed-cn"), source),
        allowed_hostnames: allowed(values.list("client-cert-allowed-hostname"), source),
        auto: values.bool("auto-tls"),
        // etcd compares names with addresses on the peer port and on metrics listeners only.
        skip_client_san_verification: false,
        ..shared_tls(values)
    }
}

fn peer_tls(values: &Values, source: Source) -> TlsOptions {
    TlsOptions {
        cert_file: path(values, "peer-cert-file"),
        key_file: path(values, "peer-key-file"),
        client_cert_file: path(values, "peer-client-cert-file"),
        client_key_file: path(values, "peer-client-key-file"),
        client_cert_auth: values.bool("peer-client-cert-auth"),
        trusted_ca_file: path(values, "peer-trusted-ca-file"),
        crl_file: path(values, "peer-crl-file"),
        allowed_cns: allowed(values.list("peer-cert-allowed-cn"), source),
        allowed_hostnames: allowed(values.list("peer-cert-allowed-hostname"), source),
        auto: values.bool("peer-auto-tls"),
        skip_client_san_verification: values.bool("peer-skip-client-san-verification"),
        ..shared_tls(values)
    }
}

fn shared_tls(values: &Values) -> TlsOptions {
    TlsOptions {
        auto_validity_years: values.unsigned("self-signed-cert-validity"),
        min_version: tls::Version::named(values.text("tls-min-version")),
        max_version: tls::Version::named(values.text("tls-max-version")),
        cipher_suites: values.list("cipher-suites").to_vec(),
        ..TlsOptions::default()
    }
}

/// `--flag=` on the command line gives one empty name, by which nobody could pass; it means none.
fn allowed(names: &[String], source: Source) -> Vec<String> {
    if source == Source::CommandLine && names == [""] {
        Vec::new()
    } else {
        names.to_vec()
    }
}

fn limits(values: &Values) -> Limits {
    Limits {
        max_request_bytes: size(values, "max-request-bytes"),
        max_txn_ops: size(values, "max-txn-ops"),
        max_concurrent_streams: u32::try_from(values.unsigned("max-concurrent-streams"))
            .unwrap_or(u32::MAX),
        quota_backend_bytes: match values.signed("quota-backend-bytes") {
            ..0 => None,
            0 => Some(DEFAULT_QUOTA),
            quota => Some(quota.unsigned_abs()),
        },
    }
}

fn grpc(values: &Values) -> Grpc {
    let interval = values.duration("grpc-keepalive-interval").positive();
    let timeout = values.duration("grpc-keepalive-timeout").positive();
    Grpc {
        keepalive_min_time: values.duration("grpc-keepalive-min-time").positive(),
        keepalive: interval
            .zip(timeout)
            .map(|(interval, timeout)| Keepalive { interval, timeout }),
        gateway: values.bool("enable-grpc-gateway"),
    }
}

fn http(values: &Values) -> Http {
    let allowed = |names: &std::collections::BTreeSet<String>| {
        if names.is_empty() || names.contains("*") {
            Allowed::All
        } else {
            Allowed::Only(names.clone())
        }
    };
    Http {
        origins: allowed(&values.urls("cors").texts),
        hosts: allowed(values.texts("host-whitelist")),
        extensive_metrics: values.text("metrics") == "extensive",
    }
}
