//! What there is to say about a configuration: one warning for everything in it that changes nothing here, and
//! etcd's own warnings.

use metastore_raft::COMMAND_BYTES_MAX;

use super::Config;
use crate::flag::values::Values;
use crate::flag::{Effect, Section};
use crate::logging::Note;
use crate::url::Scheme;

const RECOMMENDED_REQUEST_BYTES: usize = 10 << 20;

/// The one warning about flags that were set and do nothing.
pub(super) fn about_flags(values: &Values, notes: &mut Vec<Note>) {
    let idle = without_effect(values);
    if !idle.is_empty() {
        notes.push(
            Note::warn("flags that have no effect in MetaStore were set").with("flags", idle),
        );
    }
}

/// Warnings about a configuration that is accepted.
pub(super) fn about(config: &Config, notes: &mut Vec<Note>) {
    if config.name == "default" {
        notes.push(
            Note::warn(
                "it isn't recommended to use default name, please set a value for --name. Note that etcd might \
                 run into issue when multiple members have the same default name",
            )
            .with("name", config.name.as_str()),
        );
    }
    if config.limits.max_request_bytes > RECOMMENDED_REQUEST_BYTES {
        notes.push(
            Note::warn("exceeded recommended request limit")
                .with("max-request-bytes", config.limits.max_request_bytes)
                .with("recommended-request-bytes", RECOMMENDED_REQUEST_BYTES),
        );
    }
    if config.limits.max_request_bytes > COMMAND_BYTES_MAX {
        notes.push(
            Note::warn("members take no larger requests from each other")
                .with("max-request-bytes", config.limits.max_request_bytes)
                .with("largest-request-bytes", COMMAND_BYTES_MAX),
        );
    }
    if !config.data.fsync {
        notes.push(Note::warn(
            "--unsafe-no-fsync is set: a power cut loses acknowledged writes",
        ));
    }
    about_tls(config, notes);
}

fn without_effect(values: &Values) -> Vec<String> {
    let flags = values.set_flags().filter_map(|flag| match flag.effect {
        Effect::NoEffect(reason) if flag.section != Section::Ignored => {
            Some(format!("--{}: {reason}", flag.name))
        }
        Effect::NoEffect(_) => Some(format!(
            "--{}: flag is no longer supported - ignoring",
            flag.name
        )),
        Effect::Effective | Effect::Unsupported(_) => None,
    });
    let gates = values.gates("feature-gates");
    let gates = gates
        .without_effect()
        .map(|(name, reason)| format!("--feature-gates={name}: {reason}"));
    flags.chain(gates).collect()
}

/// TLS that was configured for listeners without TLS.
fn about_tls(config: &Config, notes: &mut Vec<Note>) {
    for url in config
        .listen
        .peer
        .iter()
        .filter(|url| url.scheme() == Scheme::Http)
    {
        if config.peer_tls.has_files() {
            notes.push(
                Note::warn("scheme is HTTP while key and cert files are present; ignoring key and cert files")
                    .with("peer-url", url.as_str()),
            );
        }
        if config.peer_tls.client_cert_auth {
            notes.push(
                Note::warn(
                    "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL",
                )
                .with("peer-url", url.as_str()),
            );
        }
    }
    for url in config
        .listen
        .client
        .iter()
        .chain(&config.listen.client_http)
        .filter(|url| !url.is_secure())
    {
        if config.client_tls.has_files() {
            notes.push(
                Note::warn("scheme is http or unix while key and cert files are present; ignoring key and cert files")
                    .with("client-url", url.as_str()),
            );
        }
        if config.client_tls.client_cert_auth {
            notes.push(
                Note::warn(
                    "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL",
                )
                .with("client-url", url.as_str()),
            );
        }
    }
    for (tls, flag) in [(&config.client_tls, "client"), (&config.peer_tls, "peer")] {
        if tls.auto && tls.has_files() {
            notes.push(Note::warn(format!(
                "ignoring {flag} auto TLS since certs given"
            )));
        }
    }
}
