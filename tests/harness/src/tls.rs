//! Certificates for tests.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};

const DAY: Duration = Duration::from_secs(86_400);

/// The next certificate's serial number.
static SERIAL: AtomicU64 = AtomicU64::new(1000);

/// A certificate authority with its files.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

/// A certificate and its key, as PEM and as files.
#[derive(Debug)]
pub struct Identity {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM.
    pub key: String,
    /// The file that holds the certificate.
    pub certificate_file: PathBuf,
    /// The file that holds the key.
    pub key_file: PathBuf,
    /// The certificate's serial number.
    pub serial: u64,
}

impl Authority {
    /// Makes a new authority and writes `ca.crt` into `folder`.
    pub fn generate(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).context("the folder of certificates")?;
        let key = KeyPair::generate().context("a key")?;
        let mut params = CertificateParams::new(Vec::new()).context("an authority")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "metastore test authority");
        let pem = params
            .self_signed(&key)
            .context("signing the authority")?
            .pem();
        fs::write(folder.join("ca.crt"), &pem).context("writing ca.crt")?;
        Ok(Self {
            folder: folder.to_owned(),
            params,
            key,
            pem,
        })
    }

    /// The authority's certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The file that holds it.
    pub fn file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Issues a certificate for a server and a client, with this common name and these host names or addresses.
    pub fn issue(&self, common_name: &str, hosts: &[&str]) -> Result<Identity> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).context("a certificate's names")?;
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        params.serial_number = Some(SerialNumber::from(serial));
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().context("a key")?;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params
            .signed_by(&key, &issuer)
            .context("signing a certificate")?
            .pem();
        let identity = Identity {
            certificate,
            key: key.serialize_pem(),
            certificate_file: self.folder.join(format!("{common_name}.crt")),
            key_file: self.folder.join(format!("{common_name}.key")),
            serial,
        };
        fs::write(&identity.certificate_file, &identity.certificate)
            .context("writing a certificate")?;
        fs::write(&identity.key_file, &identity.key).context("writing a key")?;
        Ok(identity)
    }

    /// Writes the list of revoked certificates (DER) to `file`.
    pub fn revoke(&self, revoked: &[&Identity], file: &Path) -> Result<()> {
        let now = SystemTime::now();
        let revoked = revoked.iter().map(|identity| RevokedCertParams {
            serial_number: SerialNumber::from(identity.serial),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        });
        let issuer = Issuer::from_params(&self.params, &self.key);
        let list = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + DAY).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&issuer).context("signing a list")?;
        fs::write(file, list.der()).context("writing a list")
    }

    /// Lets `file` hold the certificates of this authority and of `others`.
    pub fn write_with(&self, others: &[&Self], file: &Path) -> Result<()> {
        let others = others.iter().map(|other| other.pem.as_str());
        let text: String = others.chain([self.pem.as_str()]).collect();
        fs::write(file, text).context("writing authorities")
    }
}

impl Identity {
    /// The flags that make a member serve its client port with this certificate and ask for the client's.
    pub fn server_flags(&self, authority: &Authority) -> Vec<OsString> {
        self.flags(authority, "")
    }

    /// The flags that make members show each other certificates.
    pub fn peer_flags(&self, authority: &Authority) -> Vec<OsString> {
        self.flags(authority, "peer-")
    }

    fn flags(&self, authority: &Authority, side: &str) -> Vec<OsString> {
        let flag = |name: &str, value: &Path| {
            let mut flag = OsString::from(format!("--{side}{name}="));
            flag.push(value);
            flag
        };
        vec![
            flag("cert-file", &self.certificate_file),
            flag("key-file", &self.key_file),
            flag("trusted-ca-file", &authority.file()),
            format!("--{side}client-cert-auth").into(),
        ]
    }
}
