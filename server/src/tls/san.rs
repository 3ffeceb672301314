//! Whether the names in a member's certificate belong to the address it connects from; follows `checkCertSAN`
//! in `client/pkg/transport/listener_tls.go`.

use std::net::{IpAddr, ToSocketAddrs};

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use super::material;

/// Names that do not belong to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    /// etcd's text.
    pub(super) reason: String,
    /// The names.
    pub(super) names: Vec<String>,
}

/// The addresses and host names of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    addresses: Vec<IpAddr>,
    hosts: Vec<String>,
}

/// Passes a certificate without names, one with the address, and one with a host name that belongs to it.
pub(super) async fn check(
    certificate: &CertificateDer<'_>,
    remote: IpAddr,
) -> Result<(), Mismatch> {
    let names = names_of(certificate)?;
    let remote = remote.to_canonical();
    if (names.addresses.is_empty() && names.hosts.is_empty()) || names.addresses.contains(&remote) {
        return Ok(());
    }
    let shown = || {
        names
            .addresses
            .iter()
            .map(IpAddr::to_string)
            .chain(names.hosts.iter().cloned())
            .collect()
    };
    if names.hosts.is_empty() {
        let valid: Vec<_> = names.addresses.iter().map(IpAddr::to_string).collect();
        let reason = format!(
            "x509: certificate is valid for {}, not {remote}",
            valid.join(", ")
        );
        return Err(Mismatch {
            reason,
            names: shown(),
        });
    }
    let hosts = names.hosts.clone();
    let belongs = tokio::task::spawn_blocking(move || belongs_to_a_host(remote, &hosts))
        .await
        .unwrap_or(false);
    if belongs {
        return Ok(());
    }
    let quoted: Vec<_> = names.hosts.iter().map(|host| format!("{host:?}")).collect();
    let reason = format!(
        "tls: \"{remote}\" does not match any of DNSNames [{}]",
        quoted.join(" ")
    );
    Err(Mismatch {
        reason,
        names: shown(),
    })
}

fn names_of(certificate: &CertificateDer<'_>) -> Result<Names, Mismatch> {
    let unreadable = |reason: String| Mismatch {
        reason,
        names: Vec::new(),
    };
    let parsed = material::parse(certificate).map_err(|refusal| unreadable(refusal.to_string()))?;
    let mut names = Names::default();
    let extension = parsed
        .subject_alternative_name()
        .map_err(|error| unreadable(error.to_string()))?;
    for name in extension
        .iter()
        .flat_map(|extension| &extension.value.general_names)
    {
        match name {
            GeneralName::DNSName(host) => names.hosts.push((*host).to_owned()),
            GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
            _ => {}
        }
    }
    Ok(names)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
        .map(|address| address.to_canonical())
}

/// Asks the resolver for the names of the address, then for the addresses of the names. Blocks.
fn belongs_to_a_host(remote: IpAddr, hosts: &[String]) -> bool {
    if let Ok(found) = dns_lookup::lookup_addr(&remote) {
        let found = found.trim_end_matches('.');
        let fits = |host: &String| match host.strip_prefix('*') {
            Some(suffix) if suffix.starts_with('.') => found.ends_with(suffix),
            _ => found == host,
        };
        if hosts.iter().any(fits) {
            return true;
        }
    }
    hosts
        .iter()
        .filter(|host| !host.starts_with("*."))
        .any(|host| {
            (host.as_str(), 0)
                .to_socket_addrs()
                .is_ok_and(|mut addresses| {
                    addresses.any(|address| address.ip().to_canonical() == remote)
                })
        })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    async fn check(names: &[&str], remote: &str) -> Result<(), String> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(names)
            .expect("names")
            .self_signed(&key)
            .expect("a certificate");
        super::check(certificate.der(), remote.parse().expect("an address"))
            .await
            .map_err(|m| m.reason)
    }

    #[tokio::test]
    async fn a_certificate_without_names_and_one_with_the_address_pass() {
        assert_eq!(check(&[], "10.0.0.1").await, Ok(()));
        assert_eq!(check(&["10.0.0.1"], "10.0.0.1").await, Ok(()));
        assert_eq!(check(&["10.0.0.1"], "::ffff:10.0.0.1").await, Ok(()));
        assert_eq!(check(&["localhost"], "127.0.0.1").await, Ok(()));
    }

    #[tokio::test]
    async fn another_address_is_refused_in_etcds_words() {
        assert_eq!(
            check(&["10.0.0.1", "10.0.0.2"], "10.0.0.3").await,
            Err("x509: certificate is valid for 10.0.0.1, 10.0.0.2, not 10.0.0.3".to_owned())
        );
        assert_eq!(
            check(&["localhost"], "192.0.2.1").await,
            Err("tls: \"192.0.2.1\" does not match any of DNSNames [\"localhost\"]".to_owned())
        );
    }
}
