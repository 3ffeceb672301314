//! Why TLS cannot be set up, or a certificate is refused; in etcd's words where it has them.

use std::io;
use std::path::PathBuf;

use crate::go_text;

/// A failure to set up TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Half a pair.
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")]
    HalfPair {
        /// `--key-file`.
        key: String,
        /// `--cert-file`.
        cert: String,
    },
    /// Half a pair for connecting to others.
    #[error(
        "ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, cert: {cert}]"
    )]
    HalfClientPair {
        /// `--client-key-file`.
        key: String,
        /// `--client-cert-file`.
        cert: String,
    },
    /// Two rules of which etcd takes one.
    #[error(
        "AllowedCNs and AllowedHostnames are mutually exclusive (cns={cns:?}, hostnames={hostnames:?})"
    )]
    TwoRules {
        /// Allowed common names.
        cns: Vec<String>,
        /// Allowed host names.
        hostnames: Vec<String>,
    },
    /// A file cannot be read or written.
    #[error("{}", go_text::path_error(.operation, .path, .error))]
    File {
        /// `open`, `write`, `mkdir`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{}: {reason}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The files do not go together.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// The authorities cannot be used.
    #[error("{0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    /// No suite is left.
    #[error("none of the cipher suites {0:?} is supported with these versions of TLS")]
    NoCipherSuite(Vec<String>),
    /// A certificate could not be made.
    #[error("cannot generate a certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
}

/// Why a certificate that its authority vouches for is refused all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("client certificate authentication failed")]
    NotAllowed,
    #[error("transport: certificate serial {0} revoked")]
    Revoked(String),
    #[error("certificate cannot be read: {0}")]
    Unreadable(String),
}

impl From<Refusal> for rustls::Error {
    fn from(refusal: Refusal) -> Self {
        let other = rustls::OtherError(std::sync::Arc::new(refusal));
        Self::InvalidCertificate(rustls::CertificateError::Other(other))
    }
}

/// What to log about a handshake that failed: the reason alone, where rustls wraps one of ours.
pub(super) fn handshake_text(error: &io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other))) => {
            other.0.to_string()
        }
        Some(error) => error.to_string(),
        None => go_text::os_error(error),
    }
}
