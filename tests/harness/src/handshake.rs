//! TLS spoken by the test itself, where it matters what is offered and what is shown.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::http::{self, Answer};
use crate::tls::{Authority, Identity};

/// What a client offers.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// Whom it trusts; anybody where this is none.
    pub authority: Option<&'a Authority>,
    /// What it shows.
    pub identity: Option<&'a Identity>,
    /// Versions of TLS that it speaks.
    pub versions: &'a [&'static SupportedProtocolVersion],
    /// The one cipher suite of TLS 1.2 that it offers, as `TLS_ECDHE_...`; all where this is none.
    pub suite: Option<&'a str>,
}

impl<'a> Offer<'a> {
    /// All versions, to a server of `authority`.
    pub fn new(authority: &'a Authority, identity: Option<&'a Identity>) -> Self {
        Self {
            authority: Some(authority),
            identity,
            versions: rustls::ALL_VERSIONS,
            suite: None,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// As `TLSv1_3`.
    pub version: String,
    /// As `TLS13_AES_256_GCM_SHA384`.
    pub suite: String,
    /// The first line of the answer to `GET`.
    pub answer: String,
}

/// Connects to `url` (`https://127.0.0.1:<port>`) with what is offered and gets `path`. Fails where either
/// side refuses the other, before or after the handshake.
pub async fn speak(url: &str, path: &str, offer: Offer<'_>) -> Result<Spoken> {
    let address = url.trim_start_matches("https://");
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from("127.0.0.1").context("a name")?;
    let connector = TlsConnector::from(Arc::new(client_config(offer)?));
    let mut stream = connector.connect(name, socket).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // Whether the member says goodbye matters to nobody.
    let read = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    let answer = answer.lines().next().unwrap_or_default().to_owned();
    ensure!(!answer.is_empty(), "refused: {read:?}");
    let connection = stream.get_ref().1;
    let version = connection.protocol_version().context("a version")?;
    let suite = connection.negotiated_cipher_suite().context("a suite")?;
    Ok(Spoken {
        version: format!("{version:?}"),
        suite: format!("{:?}", suite.suite()),
        answer,
    })
}

/// Connects as [`speak`] does and sends `bytes` and the end of them; what comes until the other side closes.
pub async fn send(url: &str, bytes: &[u8], offer: Offer<'_>) -> Result<Vec<u8>> {
    let socket = TcpStream::connect(url.trim_start_matches("https://")).await?;
    let name = ServerName::try_from("127.0.0.1").context("a name")?;
    let connector = TlsConnector::from(Arc::new(client_config(offer)?));
    let mut stream = connector.connect(name, socket).await?;
    // The other side may close before it has read all.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    // Whether it says goodbye matters to nobody.
    let _ = stream.read_to_end(&mut answer).await;
    Ok(answer)
}

/// Gets `path` over HTTP/2 and TLS.
pub async fn get_over_http2(url: &str, path: &str, offer: Offer<'_>) -> Result<Answer> {
    let socket = TcpStream::connect(url.trim_start_matches("https://")).await?;
    let mut config = client_config(offer)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("127.0.0.1").context("a name")?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await?;
    http::over_http2(stream, url, path).await
}

/// Takes one connection as a server that shows `identity` and demands a certificate of `authority`; the common name
/// of what was shown.
pub async fn who_dials(
    listener: &TcpListener,
    authority: &Authority,
    identity: &Identity,
) -> Result<String> {
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots(authority)?),
        Arc::new(ring::default_provider()),
    );
    let (chain, key) = pair(identity)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(chain, key)?;
    let (socket, _) = listener.accept().await?;
    let stream = TlsAcceptor::from(Arc::new(config)).accept(socket).await?;
    let shown = stream.get_ref().1.peer_certificates();
    common_name(shown.and_then(<[_]>::first).context("a certificate")?)
}

/// The common name of a certificate.
pub fn common_name(certificate: &[u8]) -> Result<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)?;
    let name = parsed.subject().iter_common_name().next();
    Ok(name.context("a name")?.as_str()?.to_owned())
}

/// For how many days a certificate, PEM, is valid.
pub fn days_of(certificate: &str) -> Result<i64> {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes())?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der)?;
    let validity = parsed.validity();
    Ok((validity.not_after.timestamp() - validity.not_before.timestamp()) / 86_400)
}

fn roots(authority: &Authority) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes())?)?;
    Ok(roots)
}

fn pair(identity: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    Ok((vec![chain], key))
}

fn client_config(offer: Offer<'_>) -> Result<ClientConfig> {
    let mut provider = ring::default_provider();
    if let Some(wanted) = offer.suite {
        let named = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite()) == wanted;
        provider.cipher_suites.retain(named);
    }
    let provider = Arc::new(provider);
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(offer.versions)?;
    let builder = match offer.authority {
        Some(authority) => builder.with_root_certificates(roots(authority)?),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
    };
    Ok(match offer.identity {
        Some(identity) => {
            let (chain, key) = pair(identity)?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    })
}

/// Trusts every server: for certificates that members make themselves.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
