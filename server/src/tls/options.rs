//! What the flags say about TLS on one port.

use std::path::PathBuf;

/// TLS of one port. Empty where neither a certificate, nor a key, nor a generated certificate is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// The certificate of the port, and the one to show to others unless `client_cert_file` is set.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// The certificate to show to others.
    pub client_cert_file: Option<PathBuf>,
    /// Its key.
    pub client_key_file: Option<PathBuf>,
    /// Demand certificates of those who connect.
    pub client_cert_auth: bool,
    /// Whom to trust; alone it makes certificates of those who connect mandatory.
    pub trusted_ca_file: Option<PathBuf>,
    /// Serial numbers that are refused.
    pub crl_file: Option<PathBuf>,
    /// Common names that are accepted; all when empty.
    pub allowed_cns: Vec<String>,
    /// Host names one of which a certificate must be valid for; all when empty.
    pub allowed_hostnames: Vec<String>,
    /// Do not compare names in certificates with the address they come from.
    pub skip_client_san_verification: bool,
    /// Make a certificate where none is given.
    pub auto: bool,
    /// For how many years it is valid.
    pub auto_validity_years: u64,
    /// Lowest version.
    pub min_version: Option<Version>,
    /// Highest version.
    pub max_version: Option<Version>,
    /// Suites of TLS 1.2 by their names in Go; all when empty.
    pub cipher_suites: Vec<String>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Version {
    /// The version of a flag's value; `None` leaves the choice to this program.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "TLS1.2" => Some(Self::Tls12),
            "TLS1.3" => Some(Self::Tls13),
            _ => None,
        }
    }
}

impl TlsOptions {
    /// Whether a certificate or key is given.
    pub fn has_files(&self) -> bool {
        self.cert_file.is_some() || self.key_file.is_some()
    }

    /// Whether those who connect must show a certificate.
    pub fn demands_certificates(&self) -> bool {
        self.client_cert_auth || self.trusted_ca_file.is_some()
    }

    /// Whether the port's certificate is one that was made here, so that nobody can verify it.
    pub fn is_self_signed(&self) -> bool {
        self.auto && !self.has_files()
    }

    /// Whether `version` may be spoken.
    pub(super) fn allows(&self, version: Version) -> bool {
        self.min_version.is_none_or(|min| version >= min)
            && self.max_version.is_none_or(|max| version <= max)
    }
}
