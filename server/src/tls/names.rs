//! Who is accepted by name: `--*-cert-allowed-cn` and `--*-cert-allowed-hostname`; follows `baseConfig` in
//! `client/pkg/transport/listener.go`.

use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, ServerName};

use super::error::{Error, Refusal};
use super::material;
use super::options::TlsOptions;

/// The rule of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Everybody,
    CommonNames(Vec<String>),
    Hostnames(Vec<ServerName<'static>>),
}

impl Rule {
    pub(super) fn of(options: &TlsOptions) -> Result<Self, Error> {
        let (cns, hostnames) = (&options.allowed_cns, &options.allowed_hostnames);
        match (cns.is_empty(), hostnames.is_empty()) {
            (true, true) => Ok(Self::Everybody),
            (false, true) => Ok(Self::CommonNames(cns.clone())),
            // A text that is no name is valid for nobody.
            (true, false) => Ok(Self::Hostnames(
                hostnames
                    .iter()
                    .filter_map(|name| server_name(name))
                    .collect(),
            )),
            (false, false) => Err(Error::TwoRules {
                cns: cns.clone(),
                hostnames: hostnames.clone(),
            }),
        }
    }

    /// Fails where the certificate has none of the names.
    pub(super) fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Refusal> {
        let allowed = match self {
            Self::Everybody => true,
            Self::CommonNames(names) => {
                let parsed = material::parse(certificate)?;
                // Of several, Go takes the last.
                let name = parsed
                    .subject()
                    .iter_common_name()
                    .last()
                    .and_then(|name| name.as_str().ok());
                names
                    .iter()
                    .any(|allowed| allowed == name.unwrap_or_default())
            }
            Self::Hostnames(names) => is_valid_for(certificate, names)?,
        };
        if allowed {
            Ok(())
        } else {
            Err(Refusal::NotAllowed)
        }
    }
}

/// A host name or an address, which may stand in brackets.
pub(super) fn server_name(text: &str) -> Option<ServerName<'static>> {
    let text = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    ServerName::try_from(text.to_owned()).ok()
}

/// Whether the certificate is valid for one of the names, as a server's would have to be.
pub(super) fn is_valid_for(
    certificate: &CertificateDer<'_>,
    names: &[ServerName<'_>],
) -> Result<bool, Refusal> {
    let parsed = ParsedCertificate::try_from(certificate)
        .map_err(|error| Refusal::Unreadable(error.to_string()))?;
    Ok(names
        .iter()
        .any(|name| verify_server_name(&parsed, name).is_ok()))
}
