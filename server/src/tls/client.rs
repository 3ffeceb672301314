//! The side of TLS that connects to other members; follows `ClientConfig` in
//! `client/pkg/transport/listener.go`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::{Resumption, WebPkiServerVerifier};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::{Error, handshake_text};
use super::material;
use super::names::{self, Rule};
use super::options::TlsOptions;
use super::reload::Reloaded;
use super::server::{client_files, provider, shown};
use super::verify::{Anybody, ServerVerifier};

/// TLS towards other members. A clone is another handle.
#[derive(Clone)]
pub struct PeerClientTls {
    config: Arc<Reloaded<Arc<ClientConfig>>>,
}

impl PeerClientTls {
    /// Reads the files of the options. Needed only where a peer URL is `https` or `unixs`.
    ///
    /// # Errors
    /// Where a file is missing or not usable.
    pub fn open(options: &TlsOptions) -> Result<Self, Error> {
        let pair = shown_pair(options)?;
        let mut paths: Vec<PathBuf> = pair
            .iter()
            .flat_map(|(cert, key)| [cert.clone(), key.clone()])
            .collect();
        paths.extend(options.trusted_ca_file.clone());
        let options = options.clone();
        let make = move || {
            let pair = pair
                .as_ref()
                .map(|(cert, key)| (cert.as_path(), key.as_path()));
            client_config(&options, pair).map(Arc::new)
        };
        Ok(Self {
            config: Arc::new(Reloaded::new("peer client", paths, Box::new(make))?),
        })
    }

    /// The configuration for a handshake that begins now. It offers `h2`.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config.current())
    }

    /// The handshake with the member at `host`, over a connection to it.
    ///
    /// # Errors
    /// Where `host` is no name, or the member is not who it should be.
    pub async fn connect<S>(&self, host: &str, socket: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = names::server_name(host).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{host:?} is no host name"),
            )
        })?;
        TlsConnector::from(self.config())
            .connect(name, socket)
            .await
            .map_err(|error| io::Error::new(error.kind(), handshake_text(&error)))
    }
}

/// The pair to show: the one for this, else the port's, where there is one.
fn shown_pair(options: &TlsOptions) -> Result<Option<(PathBuf, PathBuf)>, Error> {
    if options.is_self_signed() {
        return Ok(None);
    }
    let own = match (&options.cert_file, &options.key_file) {
        (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
        (None, None) => None,
        (cert, key) => {
            return Err(Error::HalfPair {
                key: shown(key),
                cert: shown(cert),
            });
        }
    };
    Ok(client_files(options)?.filter(|_| own.is_some()).or(own))
}

fn client_config(
    options: &TlsOptions,
    pair: Option<(&Path, &Path)>,
) -> Result<ClientConfig, Error> {
    let (provider, versions) = provider(options)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)?;
    let builder = if options.is_self_signed() {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody { provider }))
    } else {
        let authorities = material::authorities(options.trusted_ca_file.as_deref())?;
        let chain = WebPkiServerVerifier::builder_with_provider(authorities, provider).build()?;
        let verifier = ServerVerifier {
            chain,
            rule: Rule::of(options)?,
        };
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
    };
    let mut config = match pair {
        Some((cert, key)) => {
            let identity = material::identity(cert, key)?;
            builder.with_client_auth_cert(identity.chain, identity.key)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
