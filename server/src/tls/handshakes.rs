//! Tests: handshakes between both sides, with the files of a small authority.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;

use super::{PeerClientTls, ServerTls, TlsOptions, Version};
use crate::url::Url;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in files.
#[derive(Clone)]
struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self {
            issuer: CertifiedIssuer::self_signed(parameters, key).expect("an authority"),
        }
    }

    fn write(&self, path: &Path) {
        fs::write(path, self.issuer.pem()).expect("written");
    }

    fn issue(&self, folder: &Path, name: &str, serial: u64, hosts: &[&str]) -> Pair {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut parameters = CertificateParams::new(hosts).expect("hosts");
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.serial_number = Some(SerialNumber::from(serial));
        parameters.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .expect("a certificate");
        let pair = Pair {
            cert: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        };
        fs::write(&pair.cert, certificate.pem()).expect("written");
        fs::write(&pair.key, key.serialize_pem()).expect("written");
        pair
    }

    fn revoke(&self, serial: u64) -> rcgen::CertificateRevocationList {
        let now = std::time::SystemTime::now();
        let day = std::time::Duration::from_secs(86_400);
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + day).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer)
        .expect("a list")
    }
}

/// A folder with an authority, and a server whose certificate is its.
struct Scene {
    folder: TempDir,
    authority: Authority,
    ca: PathBuf,
    server: Pair,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new("authority");
        let ca = folder.path().join("ca.crt");
        authority.write(&ca);
        let server = authority.issue(folder.path(), "server", 1, &["localhost", "127.0.0.1"]);
        Self {
            folder,
            authority,
            ca,
            server,
        }
    }

    fn issue(&self, name: &str, serial: u64) -> Pair {
        self.authority.issue(
            self.folder.path(),
            name,
            serial,
            &["localhost", "127.0.0.1"],
        )
    }

    /// The server's options, with nothing demanded of clients.
    fn options(&self) -> TlsOptions {
        TlsOptions {
            cert_file: Some(self.server.cert.clone()),
            key_file: Some(self.server.key.clone()),
            ..TlsOptions::default()
        }
    }

    /// The server's options, with certificates demanded.
    fn mutual(&self) -> TlsOptions {
        TlsOptions {
            trusted_ca_file: Some(self.ca.clone()),
            ..self.options()
        }
    }

    fn serve(&self, options: &TlsOptions) -> ServerTls {
        ServerTls::open("test", options, &[], self.folder.path()).expect("TLS of the server")
    }

    fn refusal(&self, options: &TlsOptions) -> String {
        let opened = ServerTls::open("test", options, &[], self.folder.path());
        opened.err().expect("a refusal").to_string()
    }
}

/// A client that trusts the authorities in `ca` and shows `pair`.
fn client(ca: &Path, pair: Option<&Pair>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(
        CertificateDer::pem_file_iter(ca)
            .expect("authorities")
            .flatten(),
    );
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    match pair {
        Some(pair) => {
            let chain = CertificateDer::pem_file_iter(&pair.cert)
                .expect("a chain")
                .flatten()
                .collect();
            let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
        None => builder.with_no_client_auth(),
    }
}

fn from(address: &str) -> SocketAddr {
    format!("{address}:1").parse().expect("an address")
}

type Ended = Result<ProtocolVersion, String>;

/// A handshake and a byte each way; what the server made of it.
async fn shake(server: &ServerTls, client: ClientConfig, remote: &str) -> Ended {
    let (here, there) = tokio::io::duplex(1 << 16);
    let connector = TlsConnector::from(Arc::new(client));
    let connecting = tokio::spawn(async move {
        let mut stream = connector
            .connect("localhost".try_into().expect("a name"), there)
            .await?;
        stream.write_all(b"x").await?;
        stream.read_u8().await
    });
    let accepted = accept(server, here, remote).await;
    let connected = connecting.await.expect("no panic");
    match (accepted, connected) {
        (Ok(version), Ok(_)) => Ok(version),
        (Err(error), _) => Err(super::error::handshake_text(&error)),
        (Ok(_), Err(error)) => Err(format!("client: {error}")),
    }
}

async fn accept(
    server: &ServerTls,
    socket: DuplexStream,
    remote: &str,
) -> io::Result<ProtocolVersion> {
    let mut stream = server.accept_peer(socket, from(remote)).await?;
    stream.read_u8().await?;
    stream.write_all(b"y").await?;
    stream.shutdown().await?;
    Ok(stream
        .get_ref()
        .1
        .protocol_version()
        .expect("a finished handshake"))
}

#[tokio::test]
async fn a_client_without_certificate_is_served_unless_an_authority_is_given() {
    let scene = Scene::new();
    let open = scene.serve(&scene.options());
    assert_eq!(
        shake(&open, client(&scene.ca, None), "127.0.0.1").await,
        Ok(ProtocolVersion::TLSv1_3)
    );
    let closed = scene.serve(&scene.mutual());
    let refused = shake(&closed, client(&scene.ca, None), "127.0.0.1")
        .await
        .expect_err("a refusal");
    assert!(refused.contains("peer sent no certificates"), "{refused}");
    let known = scene.issue("client", 2);
    assert!(
        shake(&closed, client(&scene.ca, Some(&known)), "127.0.0.1")
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let scene = Scene::new();
    let server = scene.serve(&scene.mutual());
    let stranger =
        Authority::new("stranger").issue(scene.folder.path(), "stranger", 2, &["localhost"]);
    let refused = shake(&server, client(&scene.ca, Some(&stranger)), "127.0.0.1")
        .await
        .expect_err("a refusal");
    assert!(refused.contains("UnknownIssuer"), "{refused}");
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_the_list_is_read_again() {
    let scene = Scene::new();
    let crl = scene.folder.path().join("crl.der");
    let list = scene.authority.revoke(7);
    fs::write(&crl, list.der()).expect("written");
    let server = scene.serve(&TlsOptions {
        crl_file: Some(crl.clone()),
        ..scene.mutual()
    });
    let (good, revoked) = (scene.issue("good", 8), scene.issue("revoked", 7));
    assert!(
        shake(&server, client(&scene.ca, Some(&good)), "127.0.0.1")
            .await
            .is_ok()
    );
    let refused = shake(&server, client(&scene.ca, Some(&revoked)), "127.0.0.1").await;
    assert_eq!(
        refused,
        Err("transport: certificate serial 07 revoked".to_owned())
    );
    // PEM as well, and without a restart.
    fs::write(&crl, scene.authority.revoke(8).pem().expect("PEM")).expect("written");
    let refused = shake(&server, client(&scene.ca, Some(&good)), "127.0.0.1").await;
    assert_eq!(
        refused,
        Err("transport: certificate serial 08 revoked".to_owned())
    );
    assert!(
        shake(&server, client(&scene.ca, Some(&revoked)), "127.0.0.1")
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn only_allowed_names_pass() {
    let scene = Scene::new();
    let wanted = scene.issue("wanted", 2);
    let other = scene.authority.issue(
        scene.folder.path(),
        "other",
        3,
        &["other.example", "127.0.0.1"],
    );
    let by_name = TlsOptions {
        allowed_cns: vec!["a".to_owned(), "wanted".to_owned()],
        ..scene.mutual()
    };
    let by_host = TlsOptions {
        allowed_hostnames: vec!["b".to_owned(), "localhost".to_owned()],
        ..scene.mutual()
    };
    for options in [&by_name, &by_host] {
        let server = scene.serve(options);
        assert!(
            shake(&server, client(&scene.ca, Some(&wanted)), "127.0.0.1")
                .await
                .is_ok()
        );
        let refused = shake(&server, client(&scene.ca, Some(&other)), "127.0.0.1").await;
        assert_eq!(
            refused,
            Err("client certificate authentication failed".to_owned())
        );
    }
    let both = TlsOptions {
        allowed_hostnames: by_host.allowed_hostnames,
        ..by_name
    };
    assert_eq!(
        scene.refusal(&both),
        "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[\"a\", \"wanted\"], \
         hostnames=[\"b\", \"localhost\"])"
    );
}

#[tokio::test]
async fn names_must_belong_to_the_address_unless_that_is_skipped() {
    let scene = Scene::new();
    let pair = scene
        .authority
        .issue(scene.folder.path(), "elsewhere", 2, &["10.9.8.7"]);
    let server = scene.serve(&scene.mutual());
    let refused = shake(&server, client(&scene.ca, Some(&pair)), "127.0.0.1").await;
    assert_eq!(
        refused,
        Err("x509: certificate is valid for 10.9.8.7, not 127.0.0.1".to_owned())
    );
    assert!(
        shake(&server, client(&scene.ca, Some(&pair)), "10.9.8.7")
            .await
            .is_ok()
    );
    let lenient = scene.serve(&TlsOptions {
        skip_client_san_verification: true,
        ..scene.mutual()
    });
    assert!(
        shake(&lenient, client(&scene.ca, Some(&pair)), "127.0.0.1")
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_new_certificate_and_a_new_authority_are_in_use_without_a_restart() {
    let scene = Scene::new();
    let server = scene.serve(&scene.mutual());
    let old = scene.issue("old", 2);
    assert!(
        shake(&server, client(&scene.ca, Some(&old)), "127.0.0.1")
            .await
            .is_ok()
    );

    // The authority is exchanged first: its clients are served, those of the old one are not.
    let successor = Authority::new("successor");
    let (old_ca, new_ca) = (
        scene.folder.path().join("old-ca.crt"),
        scene.folder.path().join("new-ca.crt"),
    );
    scene.authority.write(&old_ca);
    successor.write(&new_ca);
    successor.write(&scene.ca);
    let new = successor.issue(scene.folder.path(), "new", 3, &["localhost", "127.0.0.1"]);
    assert!(
        shake(&server, client(&old_ca, Some(&new)), "127.0.0.1")
            .await
            .is_ok()
    );
    let refused = shake(&server, client(&old_ca, Some(&old)), "127.0.0.1")
        .await
        .expect_err("a refusal");
    assert!(refused.contains("UnknownIssuer"), "{refused}");

    // Then the server's own pair.
    successor.issue(scene.folder.path(), "server", 4, &["localhost"]);
    assert!(
        shake(&server, client(&new_ca, Some(&new)), "127.0.0.1")
            .await
            .is_ok()
    );

    // What cannot be used is not.
    fs::write(&scene.server.cert, "rubbish").expect("written");
    fs::write(&scene.ca, "rubbish").expect("written");
    assert!(
        shake(&server, client(&new_ca, Some(&new)), "127.0.0.1")
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn versions_and_suites_are_bounded() {
    let scene = Scene::new();
    let bounded = |min, max| TlsOptions {
        min_version: min,
        max_version: max,
        ..scene.options()
    };
    let oldest = bounded(Some(Version::Tls12), Some(Version::Tls12));
    let ended = shake(&scene.serve(&oldest), client(&scene.ca, None), "127.0.0.1").await;
    assert_eq!(ended, Ok(ProtocolVersion::TLSv1_2));
    let suites = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>()
    };
    // The certificate is ECDSA: a suite for RSA fits no client.
    let rsa = TlsOptions {
        cipher_suites: suites(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]),
        ..oldest.clone()
    };
    assert!(
        shake(&scene.serve(&rsa), client(&scene.ca, None), "127.0.0.1")
            .await
            .is_err()
    );
    let ecdsa = TlsOptions {
        cipher_suites: suites(&["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]),
        ..oldest.clone()
    };
    assert!(
        shake(&scene.serve(&ecdsa), client(&scene.ca, None), "127.0.0.1")
            .await
            .is_ok()
    );
    let weak = TlsOptions {
        cipher_suites: suites(&["TLS_RSA_WITH_AES_128_CBC_SHA"]),
        ..oldest
    };
    assert!(
        scene
            .refusal(&weak)
            .starts_with("none of the cipher suites")
    );
    let newest = bounded(Some(Version::Tls13), None);
    let ended = shake(&scene.serve(&newest), client(&scene.ca, None), "127.0.0.1").await;
    assert_eq!(ended, Ok(ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn members_know_each_other_by_the_same_files() {
    let scene = Scene::new();
    let server = scene.serve(&scene.mutual());
    let dialer = PeerClientTls::open(&scene.mutual()).expect("TLS of the client");
    assert_eq!(join(&server, &dialer, "localhost").await, Ok(()));
    assert_eq!(join(&server, &dialer, "127.0.0.1").await, Ok(()));
    let wrong = join(&server, &dialer, "elsewhere.example")
        .await
        .expect_err("a refusal");
    assert!(
        wrong.contains("not valid for name \"elsewhere.example\""),
        "{wrong}"
    );
    // The rule holds for the member that is connected to as well.
    let strict = TlsOptions {
        allowed_cns: vec!["nobody".to_owned()],
        ..scene.mutual()
    };
    let strict = PeerClientTls::open(&strict).expect("TLS of the client");
    assert_eq!(
        join(&server, &strict, "localhost").await,
        Err("client certificate authentication failed".to_owned())
    );
}

#[tokio::test]
async fn generated_certificates_protect_members_and_are_kept() {
    let scene = Scene::new();
    let options = TlsOptions {
        auto: true,
        auto_validity_years: 1,
        ..TlsOptions::default()
    };
    let urls = [Url::parse("https://127.0.0.1:2380").expect("a URL")];
    let fixtures = scene.folder.path().join("fixtures/peer");
    let server = ServerTls::open("test", &options, &urls, &fixtures).expect("TLS of the server");
    let dialer = PeerClientTls::open(&options).expect("TLS of the client");
    assert_eq!(join(&server, &dialer, "127.0.0.1").await, Ok(()));
    let first = fs::read(fixtures.join("cert.pem")).expect("the certificate");
    ServerTls::open("test", &options, &urls, &fixtures).expect("TLS of the server");
    assert_eq!(
        fs::read(fixtures.join("cert.pem")).expect("the certificate"),
        first
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(fixtures.join("key.pem"))
            .expect("the key")
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn files_that_are_missing_or_do_not_fit_stop_the_start_in_gos_words() {
    let scene = Scene::new();
    let nope = Some(PathBuf::from("/nope"));
    let other = scene.issue("other", 2);
    for (options, error) in [
        (TlsOptions { key_file: None, ..scene.options() }, format!(
            "KeyFile and CertFile must both be present[key: , cert: {}]",
            scene.server.cert.display()
        )),
        (TlsOptions { cert_file: nope.clone(), ..scene.options() }, "open /nope: no such file or directory".to_owned()),
        (TlsOptions { key_file: nope.clone(), ..scene.options() }, "open /nope: no such file or directory".to_owned()),
        (TlsOptions { trusted_ca_file: nope.clone(), ..scene.options() }, "open /nope: no such file or directory".to_owned()),
        (TlsOptions { crl_file: nope.clone(), ..scene.mutual() }, "open /nope: no such file or directory".to_owned()),
        (
            TlsOptions { client_cert_file: nope, ..scene.options() },
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: /nope]".to_owned(),
        ),
        (
            TlsOptions { cert_file: Some(scene.server.key.clone()), ..scene.options() },
            format!("{}: tls: failed to find any PEM data in certificate input", scene.server.key.display()),
        ),
    ] {
        assert_eq!(scene.refusal(&options), error);
    }
    let mixed = scene.refusal(&TlsOptions {
        key_file: Some(other.key),
        ..scene.options()
    });
    assert!(mixed.contains("KeyMismatch"), "{mixed}");
}

/// A connection of one member to another; why the one that opened it gave up.
async fn join(server: &ServerTls, dialer: &PeerClientTls, host: &str) -> Result<(), String> {
    let (here, there) = tokio::io::duplex(1 << 16);
    let dialer = dialer.clone();
    let host = host.to_owned();
    let connecting = tokio::spawn(async move {
        let mut stream = dialer.connect(&host, there).await?;
        stream.write_all(b"x").await?;
        stream.read_u8().await
    });
    let _ = accept(server, here, "127.0.0.1").await;
    connecting
        .await
        .expect("no panic")
        .map(|_| ())
        .map_err(|error| error.to_string())
}
