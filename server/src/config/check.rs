//! etcd's checks of a configuration, in etcd's order: `Validate` in `server/embed/config.go`, then what
//! `StartEtcd` in `server/embed/etcd.go` refuses.

use std::net::IpAddr;

use super::load::Source;
use super::{Invalid, compaction};
use crate::flag::Effect;
use crate::flag::values::Values;
use crate::tls::cipher;
use crate::url::Url;

const MAX_ELECTION_MS: u64 = 50_000;

/// # Errors
/// The first reason to refuse it.
pub(super) fn check(values: &Values, source: Source) -> Result<(), Invalid> {
    check_urls(values)?;
    check_bootstrap(values, source)?;
    check_timing(values)?;
    if source == Source::CommandLine
        && values.is_set("listen-client-urls")
        && !values.is_set("advertise-client-urls")
    {
        return Err(Invalid::NoAdvertiseClientUrls);
    }
    match values.text("auto-compaction-mode") {
        "periodic" | "revision" => {}
        "" => return Err(Invalid::NoCompactionMode),
        other => return Err(Invalid::CompactionMode(other.to_owned())),
    }
    check_features(values)?;
    check_tls_versions(values)?;
    check_start(values)?;
    check_supported(values)
}

fn check_urls(values: &Values) -> Result<(), Invalid> {
    for name in [
        "listen-peer-urls",
        "listen-client-urls",
        "listen-client-http-urls",
        "listen-metrics-urls",
    ] {
        for url in &values.urls(name).urls {
            let bindable =
                url.is_unix() || url.host() == "localhost" || url.host().parse::<IpAddr>().is_ok();
            if !bindable {
                return Err(Invalid::BindName(url.clone()));
            }
        }
    }
    let nameless = |name: &str| {
        let urls = &values.urls(name).urls;
        let texts: Vec<_> = urls.iter().map(Url::as_str).collect();
        urls.iter()
            .find(|url| !url.is_unix() && url.host().is_empty())
            .map(|url| (texts.join(","), url.clone()))
    };
    if let Some((urls, url)) = nameless("initial-advertise-peer-urls") {
        return Err(Invalid::AdvertisePeerHost { urls, url });
    }
    match nameless("advertise-client-urls") {
        Some((urls, url)) => Err(Invalid::AdvertiseClientHost { urls, url }),
        None => Ok(()),
    }
}

fn check_bootstrap(values: &Values, source: Source) -> Result<(), Invalid> {
    let endpoints = values.texts("discovery-endpoints");
    let by_dns = values.some_text("discovery-srv").is_some();
    let by_service = !endpoints.is_empty();
    let discovers = by_dns || by_service || values.some_text("discovery-srv-name").is_some();
    // The default stands back where discovery is asked for.
    let stands_back = match source {
        Source::CommandLine => !values.is_set("initial-cluster"),
        Source::File => values.text("initial-cluster") == "default=http://localhost:2380",
    };
    let by_flag = values.some_text("initial-cluster").is_some() && !(discovers && stands_back);
    let state = values.text("initial-cluster-state");
    if state != "new" && state != "existing" {
        return Err(Invalid::ClusterState(state.to_owned()));
    }
    if [by_flag, by_dns, by_service]
        .into_iter()
        .filter(|by| *by)
        .count()
        > 1
    {
        return Err(Invalid::ConflictingBootstrap);
    }
    if values.some_text("discovery-token").is_some() != by_service {
        return Err(Invalid::HalfDiscovery);
    }
    if endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return Err(Invalid::EmptyDiscoveryEndpoint);
    }
    Ok(())
}

fn check_timing(values: &Values) -> Result<(), Invalid> {
    let heartbeat = values.unsigned("heartbeat-interval");
    let election = values.unsigned("election-timeout");
    if heartbeat == 0 {
        return Err(Invalid::NoHeartbeat);
    }
    if election == 0 {
        return Err(Invalid::NoElection);
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(Invalid::ElectionTooShort {
            election,
            heartbeat,
        });
    }
    if election > MAX_ELECTION_MS {
        return Err(Invalid::ElectionTooLong(election));
    }
    Ok(())
}

fn check_features(values: &Values) -> Result<(), Invalid> {
    if values.bool("enable-distributed-tracing") {
        match values.signed("distributed-tracing-sampling-rate") {
            ..0 => return Err(Invalid::NegativeSampling),
            0..=1_000_000 => {}
            _ => return Err(Invalid::TooMuchSampling),
        }
    }
    let gates = values.gates("feature-gates");
    if gates.enabled("LeaseCheckpointPersist") && !gates.enabled("LeaseCheckpoint") {
        return Err(Invalid::PersistWithoutCheckpoint);
    }
    let time = values.duration("compact-hash-check-time");
    if time.0 <= 0 {
        return Err(Invalid::CompactHashCheckTime(time));
    }
    Ok(())
}

fn check_tls_versions(values: &Values) -> Result<(), Invalid> {
    let rank = |name: &str| match values.text(name) {
        "" => Ok(0),
        "TLS1.2" => Ok(2),
        "TLS1.3" => Ok(3),
        other => Err(Invalid::TlsVersion(other.to_owned())),
    };
    let (min, max) = (rank("tls-min-version")?, rank("tls-max-version")?);
    if max != 0 && min > max {
        let text = |name: &str| values.text(name).to_owned();
        return Err(Invalid::TlsVersions {
            min: text("tls-min-version"),
            max: text("tls-max-version"),
        });
    }
    if min == 3 && !values.list("cipher-suites").is_empty() {
        return Err(Invalid::CipherSuitesOfTls13);
    }
    Ok(())
}

/// What etcd finds out when it opens its listeners.
fn check_start(values: &Values) -> Result<(), Invalid> {
    if let Some(name) = values
        .list("cipher-suites")
        .iter()
        .find(|name| !cipher::is_known(name))
    {
        return Err(Invalid::CipherSuite(name.clone()));
    }
    let has_tls = |cert: &str, key: &str, auto: &str| {
        values.some_text(cert).is_some() || values.some_text(key).is_some() || values.bool(auto)
    };
    let peer_tls = has_tls("peer-cert-file", "peer-key-file", "peer-auto-tls");
    let client_tls = has_tls("cert-file", "key-file", "auto-tls");
    if values.unsigned("self-signed-cert-validity") == 0
        && (values.bool("auto-tls") || values.bool("peer-auto-tls"))
    {
        return Err(Invalid::SelfSignedValidity);
    }
    let unprotected = |name: &str, tls: bool| {
        values
            .urls(name)
            .urls
            .iter()
            .find(|url| url.is_secure() && !tls)
    };
    if let Some(url) = unprotected("listen-peer-urls", peer_tls) {
        return Err(Invalid::PeerTls(url.authority().to_owned()));
    }
    for name in ["listen-client-urls", "listen-client-http-urls"] {
        if let Some(url) = unprotected(name, client_tls) {
            return Err(Invalid::ClientTls(url.clone()));
        }
    }
    let clients = &values.urls("listen-client-urls").urls;
    let address = |url: &Url| (url.authority().to_owned(), url.socket_path());
    for url in &values.urls("listen-client-http-urls").urls {
        if clients.iter().any(|client| address(client) == address(url)) {
            return Err(Invalid::SharedClientUrl(url.clone()));
        }
    }
    compaction::parse(
        values.text("auto-compaction-mode"),
        values.text("auto-compaction-retention"),
    )?;
    if unprotected("listen-metrics-urls", client_tls).is_some() {
        return Err(Invalid::MetricsTls);
    }
    Ok(())
}

/// What MetaStore does not do and would do harm to pass over.
fn check_supported(values: &Values) -> Result<(), Invalid> {
    for flag in values.changed_flags() {
        if let Effect::Unsupported(reason) = flag.effect {
            return Err(Invalid::Unsupported {
                flag: flag.name,
                reason,
            });
        }
    }
    Ok(())
}
