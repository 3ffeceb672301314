//! Certificates, keys, authorities and revocation lists from files.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::error::{Error, Refusal};

/// Where Go looks for the system's authorities (`crypto/x509/root_linux.go`); `SSL_CERT_FILE` goes first.
const SYSTEM_AUTHORITIES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A certificate with its chain, and its key.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::File {
        operation: "open",
        path: path.to_owned(),
        error,
    })
}

fn content(path: &Path, reason: impl Into<String>) -> Error {
    Error::Content {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| content(path, error.to_string()))?;
    if certificates.is_empty() {
        return Err(content(
            path,
            "tls: failed to find any PEM data in certificate input",
        ));
    }
    Ok(certificates)
}

/// Reads a pair of files. Whether they go together shows when they are used.
pub(super) fn identity(cert: &Path, key: &Path) -> Result<Identity, Error> {
    let chain = certificates(cert)?;
    let bytes = read(key)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => {
            content(key, "tls: failed to find any PEM data in key input")
        }
        error => content(key, error.to_string()),
    })?;
    Ok(Identity { chain, key })
}

/// Reads authorities; without a file, the system's.
pub(super) fn authorities(path: Option<&Path>) -> Result<Arc<RootCertStore>, Error> {
    let mut store = RootCertStore::empty();
    if let Some(path) = path {
        for certificate in certificates(path)? {
            store
                .add(certificate)
                .map_err(|error| content(path, error.to_string()))?;
        }
        return Ok(Arc::new(store));
    }
    let named = std::env::var_os("SSL_CERT_FILE");
    let mut places = named
        .iter()
        .map(Path::new)
        .chain(SYSTEM_AUTHORITIES.iter().map(Path::new));
    if let Some(path) = places.find(|path| path.exists()) {
        // As in Go, what cannot be used of the system's bundle is passed over.
        store.add_parsable_certificates(certificates(path)?);
    }
    Ok(Arc::new(store))
}

/// Serial numbers that are refused. As in etcd, a list is believed without a look at its signature or date: it
/// stands on this member's disk.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    serials: BTreeSet<Vec<u8>>,
}

impl Revoked {
    /// Reads a list in DER, which alone etcd takes, or lists in PEM.
    pub(super) fn load(path: &Path) -> Result<Self, Error> {
        let bytes = read(path)?;
        let mut lists = CertificateRevocationListDer::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, _>>()
            .unwrap_or_default();
        if lists.is_empty() {
            lists.push(CertificateRevocationListDer::from(bytes.clone()));
        }
        let mut serials = BTreeSet::new();
        for list in &lists {
            let (_, parsed) = CertificateRevocationList::from_der(list.as_ref())
                .map_err(|error| content(path, format!("x509: malformed crl: {error}")))?;
            serials.extend(
                parsed
                    .iter_revoked_certificates()
                    .map(|entry| significant(entry.raw_serial()).to_vec()),
            );
        }
        Ok(Self { serials })
    }

    /// Fails where the certificate is on the list.
    pub(super) fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Refusal> {
        if self.serials.is_empty() {
            return Ok(());
        }
        let parsed = parse(certificate)?;
        let serial = significant(parsed.raw_serial());
        if !self.serials.contains(serial) {
            return Ok(());
        }
        let mut text = String::with_capacity(serial.len() * 2);
        for byte in serial {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Err(Refusal::Revoked(text))
    }
}

/// A number's bytes without the zeros that lead it.
fn significant(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    &serial[zeros..]
}

/// Looks into a certificate.
pub(super) fn parse<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, Refusal> {
    X509Certificate::from_der(certificate.as_ref())
        .map(|(_, parsed)| parsed)
        .map_err(|error| Refusal::Unreadable(error.to_string()))
}
