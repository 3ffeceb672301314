//! Why a configuration is refused, in etcd's words (`server/embed/config.go`, `server/embed/etcd.go`,
//! `server/config/config.go`).

use crate::duration;
use crate::flag::{environment, file};
use crate::logging;
use crate::url::{self, Url};

/// A reason to refuse a configuration.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Invalid {
    #[error("{0:?} is not a valid flag")]
    NotAFlag(String),
    #[error(transparent)]
    Environment(#[from] environment::Error),
    #[error(transparent)]
    File(#[from] file::Error),
    #[error(transparent)]
    Logging(#[from] logging::Error),
    #[error("v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"")]
    DiscoveryProxy,
    #[error("expected IP in URL for binding ({0})")]
    BindName(Url),
    #[error(
        "--initial-advertise-peer-urls {urls:?} must be \"host:port\" (unexpected empty host ({url}))"
    )]
    AdvertisePeerHost { urls: String, url: Url },
    #[error(
        "--advertise-client-urls {urls:?} must be in the format \"host:port\", \"unix:/path/to/socket\" or \
         \"unixs:/path/to/socket\" (unexpected empty host ({url}))"
    )]
    AdvertiseClientHost { urls: String, url: Url },
    #[error("unexpected clusterState {0:?}")]
    ClusterState(String),
    #[error(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
         \"discovery-endpoints\" or \"discovery-srv\""
    )]
    ConflictingBootstrap,
    #[error("both --discovery-token and --discovery-endpoints must be set")]
    HalfDiscovery,
    #[error("--discovery-endpoints must not contain empty endpoints")]
    EmptyDiscoveryEndpoint,
    #[error("--heartbeat-interval must be >0 (set to 0ms)")]
    NoHeartbeat,
    #[error("--election-timeout must be >0 (set to 0ms)")]
    NoElection,
    #[error(
        "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
    )]
    ElectionTooShort { election: u64, heartbeat: u64 },
    #[error("--election-timeout[{0}ms] is too long, and should be set less than 50000ms")]
    ElectionTooLong(u64),
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    NoAdvertiseClientUrls,
    #[error("undefined auto-compaction-mode")]
    NoCompactionMode,
    #[error("unknown auto-compaction-mode {0:?}")]
    CompactionMode(String),
    #[error("error parsing CompactionRetention: {0}")]
    CompactionRetention(#[from] duration::Error),
    #[error(
        "distributed tracing configurition is not valid: (tracing sampling rate must be positive)"
    )]
    NegativeSampling,
    #[error(
        "distributed tracing configurition is not valid: (tracing sampling rate must be less than 1000000)"
    )]
    TooMuchSampling,
    #[error(
        "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"
    )]
    PersistWithoutCheckpoint,
    #[error("--compact-hash-check-time must be >0 (set to {0})")]
    CompactHashCheckTime(duration::GoDuration),
    #[error("unexpected TLS version {0:?} (must be one of: TLS1.2, TLS1.3)")]
    TlsVersion(String),
    #[error("min version ({min}) is greater than max version ({max})")]
    TlsVersions { min: String, max: String },
    #[error("cipher suites cannot be configured when only TLS1.3 is enabled")]
    CipherSuitesOfTls13,
    #[error("unexpected TLS cipher suite {0:?}")]
    CipherSuite(String),
    #[error("selfSignedCertValidity is invalid,it should be greater than 0")]
    SelfSignedValidity,
    #[error(
        "TLS key/cert (--cert-file, --key-file) must be provided for client url {0} with HTTPS scheme"
    )]
    ClientTls(Url),
    #[error("cannot listen on TLS for {0}: KeyFile and CertFile are not presented")]
    PeerTls(String),
    #[error(
        "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"
    )]
    MetricsTls,
    #[error(
        "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {0}"
    )]
    SharedClientUrl(Url),
    #[error("auth: invalid auth options")]
    AuthOptions,
    #[error("--{flag}: {reason}")]
    Unsupported {
        flag: &'static str,
        reason: &'static str,
    },
    #[error("error setting up initial cluster: {0}")]
    InitialCluster(url::Error),
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NameNotInCluster(String),
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
    #[error(
        "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={advertised} ({reason})"
    )]
    NotAdvertised {
        missing: String,
        advertised: String,
        reason: String,
    },
    #[error(
        "--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={cluster}"
    )]
    NotInCluster { missing: String, cluster: String },
    #[error("failed to resolve {advertised} to match --initial-cluster={cluster} ({reason})")]
    NotResolved {
        advertised: String,
        cluster: String,
        reason: String,
    },
}
