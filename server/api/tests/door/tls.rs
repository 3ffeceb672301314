//! TLS on the client's port, with certificates that change while it is open, and sockets in the file system.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use metastore_api::{Listener, TlsSource};
use metastore_proto::etcdserverpb::RangeRequest;
use metastore_proto::etcdserverpb::kv_client::KvClient;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Endpoint;

use crate::running::Running;

struct Exchangeable(Mutex<Arc<ServerConfig>>);

impl TlsSource for Exchangeable {
    fn config(&self) -> Arc<ServerConfig> {
        self.0.lock().clone()
    }
}

fn certificate() -> (Arc<ServerConfig>, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate");
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("key");
    let builder =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth();
    let mut config = builder
        .with_single_cert(vec![certificate.clone()], key)
        .expect("fits");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (Arc::new(config), certificate)
}

async fn connect(
    address: std::net::SocketAddr,
    trusted: CertificateDer<'static>,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).expect("root");
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").expect("name");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

fn one_key() -> RangeRequest {
    RangeRequest {
        key: "a".into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_and_pages_come_over_tls_and_certificates_are_exchanged() {
    let (config, certificate_one) = certificate();
    let tls = Arc::new(Exchangeable(Mutex::new(config)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    let running = Running::start_on(Listener::Tcp(listener), Some(tls.clone())).await;

    let trusted = certificate_one.clone();
    let connector = tower::service_fn(move |_| {
        let trusted = trusted.clone();
        async move { connect(address, trusted, b"h2").await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint
        .connect_with_connector(connector)
        .await
        .expect("connects");
    let mut kv = KvClient::new(channel);
    kv.range(one_key()).await.expect("range");

    let mut stream = connect(address, certificate_one.clone(), b"http/1.1")
        .await
        .expect("connects");
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("writes");
    let mut page = Vec::new();
    stream.read_to_end(&mut page).await.expect("reads");
    assert!(String::from_utf8_lossy(&page).contains(r#"{"health":"true","reason":""}"#));

    let (config, certificate_two) = certificate();
    *tls.0.lock() = config;
    connect(address, certificate_two, b"h2")
        .await
        .expect("the new certificate");
    connect(address, certificate_one, b"h2")
        .await
        .expect_err("the old certificate");
    kv.range(one_key())
        .await
        .expect("an open connection goes on");
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_tls_is_turned_away() {
    let (config, _) = certificate();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    let tls = Arc::new(Exchangeable(Mutex::new(config)));
    let _running = Running::start_on(Listener::Tcp(listener), Some(tls)).await;
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("writes");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection is closed");
    assert!(!answer.starts_with(b"HTTP"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_in_the_file_system_serves_as_a_port_does() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("client.sock");
    let listener = UnixListener::bind(&path).expect("socket");
    let _running = Running::start_on(Listener::Unix(listener), None).await;
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint
        .connect_with_connector(connector)
        .await
        .expect("connects");
    KvClient::new(channel)
        .range(one_key())
        .await
        .expect("range");
}
