//! The server's side of TLS; follows `ServerConfig` in `client/pkg/transport/listener.go`.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::cipher;
use super::error::{Error, handshake_text};
use super::material::{self, Revoked};
use super::names::Rule;
use super::options::{TlsOptions, Version};
use super::reload::Reloaded;
use super::san;
use super::self_signed;
use super::verify::ClientVerifier;
use crate::url::Url;

/// etcd gives a handshake so long (`tlsHandshakeTimeout`).
const HANDSHAKE: Duration = Duration::from_secs(10);

/// TLS of a listener. A clone is another handle.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<Reloaded<Arc<ServerConfig>>>,
    check_san: bool,
}

impl ServerTls {
    /// Reads the files of the options, or makes a certificate for the hosts of `urls` in `fixtures` where one
    /// is to be made. `what` names the port in the log.
    ///
    /// # Errors
    /// Where a file is missing or not usable, so that a member does not start with half its TLS.
    pub fn open(
        what: &'static str,
        options: &TlsOptions,
        urls: &[Url],
        fixtures: &Path,
    ) -> Result<Self, Error> {
        let (cert, key) = server_files(options, urls, fixtures)?;
        // etcd reads this pair when it starts as well, so that a wrong one shows at once.
        if let Some((cert, key)) = client_files(options)? {
            material::identity(&cert, &key)?;
        }
        let mut paths = vec![cert.clone(), key.clone()];
        paths.extend(options.trusted_ca_file.clone());
        paths.extend(options.crl_file.clone());
        let check_san = !options.skip_client_san_verification;
        let options = options.clone();
        let make = move || server_config(&options, &cert, &key).map(Arc::new);
        let config = Reloaded::new(what, paths, Box::new(make))?;
        Ok(Self {
            config: Arc::new(config),
            check_san,
        })
    }

    /// The configuration for a handshake that begins now. It offers `h2` and `http/1.1`.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.current())
    }

    /// Takes a connection of another member: the handshake, and the check that the names in its certificate
    /// belong to the address it comes from. A refusal is logged as etcd logs it.
    ///
    /// # Errors
    /// Where the connection is not to be used.
    pub async fn accept_peer<S>(&self, socket: S, remote: SocketAddr) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted =
            tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(self.config()).accept(socket)).await;
        let accepted = accepted
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")));
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                log_refusal(remote, "", &handshake_text(&error), &[]);
                return Err(error);
            }
        };
        let leaf = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first);
        if let Some(leaf) = leaf.filter(|_| self.check_san)
            && let Err(mismatch) = san::check(leaf, remote.ip()).await
        {
            let name = stream
                .get_ref()
                .1
                .server_name()
                .unwrap_or_default()
                .to_owned();
            log_refusal(remote, &name, &mismatch.reason, &mismatch.names);
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                mismatch.reason,
            ));
        }
        Ok(stream)
    }
}

fn log_refusal(remote: SocketAddr, server_name: &str, error: &str, names: &[String]) {
    if error == "unexpected eof" || error == "tls handshake eof" {
        tracing::debug!(remote_addr = %remote, error, "rejected connection on peer endpoint");
    } else {
        tracing::warn!(remote_addr = %remote, server_name, names = ?names, error, "rejected connection on peer endpoint");
    }
}

/// The pair of the port.
fn server_files(
    options: &TlsOptions,
    urls: &[Url],
    fixtures: &Path,
) -> Result<(PathBuf, PathBuf), Error> {
    if options.is_self_signed() {
        return self_signed::files(fixtures, urls, options.auto_validity_years);
    }
    match (&options.cert_file, &options.key_file) {
        (Some(cert), Some(key)) => Ok((cert.clone(), key.clone())),
        (cert, key) => Err(Error::HalfPair {
            key: shown(key),
            cert: shown(cert),
        }),
    }
}

/// The pair to show to others, where it is another than the port's.
pub(super) fn client_files(options: &TlsOptions) -> Result<Option<(PathBuf, PathBuf)>, Error> {
    match (&options.client_cert_file, &options.client_key_file) {
        (Some(cert), Some(key)) => Ok(Some((cert.clone(), key.clone()))),
        (None, None) => Ok(None),
        (cert, key) => Err(Error::HalfClientPair {
            key: shown(key),
            cert: shown(cert),
        }),
    }
}

pub(super) fn shown(path: &Option<PathBuf>) -> String {
    path.as_ref()
        .map(|path| path.display().to_string())
        .unwrap_or_default()
}

/// Ciphers and versions of the options.
pub(super) fn provider(
    options: &TlsOptions,
) -> Result<
    (
        Arc<CryptoProvider>,
        Vec<&'static rustls::SupportedProtocolVersion>,
    ),
    Error,
> {
    let cipher_suites = cipher::suites(&options.cipher_suites);
    let spoken = |version| {
        let tls13 = version == Version::Tls13;
        options.allows(version)
            && cipher_suites
                .iter()
                .any(|suite| suite.tls13().is_some() == tls13)
    };
    let mut versions = Vec::new();
    if spoken(Version::Tls13) {
        versions.push(&rustls::version::TLS13);
    }
    if spoken(Version::Tls12) {
        versions.push(&rustls::version::TLS12);
    }
    if versions.is_empty() {
        return Err(Error::NoCipherSuite(options.cipher_suites.clone()));
    }
    Ok((
        Arc::new(CryptoProvider {
            cipher_suites,
            ..rustls::crypto::ring::default_provider()
        }),
        versions,
    ))
}

fn server_config(options: &TlsOptions, cert: &Path, key: &Path) -> Result<ServerConfig, Error> {
    let (provider, versions) = provider(options)?;
    let identity = material::identity(cert, key)?;
    let rule = Rule::of(options)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)?;
    let builder = if options.demands_certificates() {
        let authorities = material::authorities(options.trusted_ca_file.as_deref())?;
        let chain = WebPkiClientVerifier::builder_with_provider(authorities, provider).build()?;
        let revoked = options
            .crl_file
            .as_deref()
            .map(Revoked::load)
            .transpose()?
            .unwrap_or_default();
        builder.with_client_cert_verifier(Arc::new(ClientVerifier {
            chain,
            rule,
            revoked,
        }))
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(identity.chain, identity.key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if options.demands_certificates() {
        // A resumed session would carry a certificate past the checks of today.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}
