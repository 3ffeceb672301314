//! `--auto-tls` and `--peer-auto-tls`: a certificate that is made on the first start and kept in the data
//! folder; follows `SelfCert` in `client/pkg/transport/listener.go`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

use super::error::Error;
use crate::url::Url;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The files of the certificate in `folder`, made for the hosts of `urls` where there are none yet.
pub(super) fn files(
    folder: &Path,
    urls: &[Url],
    validity_years: u64,
) -> Result<(PathBuf, PathBuf), Error> {
    let failure = |operation, path: &Path| {
        let path = path.to_owned();
        move |error| Error::File {
            operation,
            path,
            error,
        }
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failure("mkdir", folder))?;
    let folder = folder.canonicalize().map_err(failure("open", folder))?;
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if cert.exists() && key.exists() {
        return Ok((cert, key));
    }
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let until =
        SystemTime::now() + YEAR * u32::try_from(validity_years).unwrap_or(u32::MAX).min(1000);
    let certificate = parameters(urls, until).self_signed(&pair)?;
    tracing::warn!(years = validity_years, path = %cert.display(), "automatically generate certificates");
    for (path, text, mode) in [
        (&cert, certificate.pem(), 0o644),
        (&key, pair.serialize_pem(), 0o600),
    ] {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(path)
            .map_err(failure("open", path))?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(failure("write", path))?;
    }
    Ok((cert, key))
}

fn parameters(urls: &[Url], until: SystemTime) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::OrganizationName, "etcd");
    parameters.not_before = SystemTime::now().into();
    parameters.not_after = until.into();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::CrlSign,
    ];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.subject_alt_names = urls
        .iter()
        .filter_map(|url| match url.host().parse() {
            Ok(address) => Some(SanType::IpAddress(address)),
            Err(_) => url.host().try_into().ok().map(SanType::DnsName),
        })
        .collect();
    parameters
}
