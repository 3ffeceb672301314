//! Cipher suites by the names that Go gives them.
//!
//! Every name that etcd accepts is known; of those, the suites with forward secrecy and authenticated
//! encryption are spoken. As in Go, the suites of TLS 1.3 cannot be chosen: all are on where TLS 1.3 is.

use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite as suite;

/// Go's names of the suites that are spoken in TLS 1.2.
const SPOKEN: [(&str, SupportedCipherSuite); 8] = [
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Go's names of suites that are taken and not spoken in TLS 1.2: those of TLS 1.3, and weak ones.
const TAKEN: [&str; 18] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
];

const LAST: &str = "TLS_RSA_WITH_AES_256_GCM_SHA384";

/// Whether etcd takes the name.
pub fn is_known(name: &str) -> bool {
    SPOKEN.iter().any(|(spoken, _)| *spoken == name) || TAKEN.contains(&name) || name == LAST
}

/// The suites to speak: those of TLS 1.3, and those of TLS 1.2 that `names` lists, or all when it is empty.
pub(super) fn suites(names: &[String]) -> Vec<SupportedCipherSuite> {
    let all = rustls::crypto::ring::ALL_CIPHER_SUITES;
    let listed = |candidate: &SupportedCipherSuite| {
        names.is_empty()
            || SPOKEN
                .iter()
                .any(|(name, suite)| suite == candidate && names.iter().any(|n| n == name))
    };
    all.iter()
        .filter(|suite| suite.tls13().is_some() || listed(suite))
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls12(names: &[&str]) -> usize {
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        suites(&names)
            .iter()
            .filter(|suite| suite.tls13().is_none())
            .count()
    }

    #[test]
    fn names_choose_the_suites_of_tls_1_2_alone() {
        assert_eq!(tls12(&[]), 6);
        assert_eq!(
            tls12(&[
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "TLS_RSA_WITH_AES_128_CBC_SHA"
            ]),
            1
        );
        assert_eq!(tls12(&["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305"]), 1);
        assert_eq!(tls12(&["TLS_AES_128_GCM_SHA256"]), 0);
        assert_eq!(suites(&["TLS_AES_128_GCM_SHA256".to_owned()]).len(), 3);
    }

    #[test]
    fn what_etcd_takes_is_known() {
        for name in [
            "TLS_RSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
            "TLS_AES_128_GCM_SHA256",
        ] {
            assert!(is_known(name));
        }
        assert!(!is_known("foo") && !is_known("TLS_DHE_RSA_WITH_AES_128_CBC_SHA"));
    }
}
