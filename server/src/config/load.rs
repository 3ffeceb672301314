//! From arguments, environment and file to a [`Config`], in etcd's order (`server/etcdmain/config.go`).

use std::path::Path;

use super::{Config, Invalid, build, check, notes};
use crate::flag::command_line::CommandLine;
use crate::flag::values::Values;
use crate::flag::{environment, file};
use crate::logging::{LogOptions, Note};

/// A configuration that was refused, and how to log that.
#[derive(Debug)]
pub struct LoadError {
    /// The reason.
    pub invalid: Box<Invalid>,
    /// How to log, where the flags say so; otherwise the defaults.
    pub log: LogOptions,
}

/// Where the values come from; a file is treated a little differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    CommandLine,
    File,
}

/// Reads and checks everything. What there is to say about it, from here and from the checks, goes to `notes` in
/// order, for the log that is not open yet.
///
/// # Errors
/// The first reason to refuse it, in etcd's order of checks.
pub fn load(
    line: CommandLine,
    environment: &[(String, String)],
    notes: &mut Vec<Note>,
) -> Result<(Config, LogOptions), LoadError> {
    let plain = |invalid| LoadError {
        invalid: Box::new(invalid),
        log: LogOptions::default(),
    };
    if let Some(first) = line.rest.first() {
        return Err(plain(Invalid::NotAFlag(first.clone())));
    }
    let (values, source) = gather(line.values, environment, notes).map_err(plain)?;
    if source == Source::CommandLine && values.text("discovery-fallback") == "proxy" {
        return Err(plain(Invalid::DiscoveryProxy));
    }
    let log = LogOptions::from_values(&values).map_err(|error| plain(error.into()))?;
    let refuse = |invalid| LoadError {
        invalid: Box::new(invalid),
        log: log.clone(),
    };
    notes::about_flags(&values, notes);
    check::check(&values, source).map_err(refuse)?;
    let config = build::build(&values, source, notes).map_err(refuse)?;
    notes::about(&config, notes);
    Ok((config, log))
}

/// The values of all flags: from the file where one is named, else from flags and environment.
fn gather(
    mut values: Values,
    environment: &[(String, String)],
    notes: &mut Vec<Note>,
) -> Result<(Values, Source), Invalid> {
    let variable = environment
        .iter()
        .find(|(key, _)| key == "ETCD_CONFIG_FILE")
        .map(|(_, value)| value.as_str());
    let path = values
        .some_text("config-file")
        .or(variable.filter(|path| !path.is_empty()));
    if let Some(path) = path {
        let values = file::load(Path::new(path), notes)?;
        notes.push(
            Note::info(
                "loaded server configuration, other configuration command line flags and environment \
                 variables will be ignored if provided",
            )
            .with("path", path),
        );
        return Ok((values, Source::File));
    }
    environment::apply(&mut values, environment, notes)?;
    Ok((values, Source::CommandLine))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::flag::Effect;
    use crate::flag::command_line;
    use crate::flag::table::FLAGS;
    use crate::flag::value::Kind;

    type Loaded = Result<(Config, LogOptions, Vec<Note>), String>;

    fn load(arguments: &[&str]) -> Loaded {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let line = command_line::parse(&arguments).map_err(|error| error.to_string())?;
        let mut notes = Vec::new();
        let (config, log) =
            super::load(line, &[], &mut notes).map_err(|error| error.invalid.to_string())?;
        Ok((config, log, notes))
    }

    fn load_file(text: &str) -> Loaded {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("written");
        load(&["--config-file", file.path().to_str().expect("UTF-8")])
    }

    const TOLD: &str = "--advertise-client-urls=http://127.0.0.1:2379";

    /// Texts of etcd 3.7.3 for the same arguments; the last ones come when it opens its listeners.
    #[rustfmt::skip]
    const REFUSALS: &[(&[&str], &str)] = &[
        (&["--listen-client-urls=http://foo.bar:2379", TOLD], "expected IP in URL for binding (http://foo.bar:2379)"),
        (&["--listen-metrics-urls=http://foo:1"], "expected IP in URL for binding (http://foo:1)"),
        (&["--initial-advertise-peer-urls=http://:2380"], "--initial-advertise-peer-urls \"http://:2380\" must be \"host:port\" (unexpected empty host (http://:2380))"),
        (&["--advertise-client-urls=http://:2379"], "--advertise-client-urls \"http://:2379\" must be in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" (unexpected empty host (http://:2379))"),
        (&["--initial-cluster=a=http://a:1", "--discovery-srv=foo"], "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\""),
        (&["--discovery-srv=foo", "--discovery-endpoints=a", "--discovery-token=b"], "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\""),
        (&["--discovery-token=x"], "both --discovery-token and --discovery-endpoints must be set"),
        (&["--discovery-token=x", "--discovery-endpoints=a,,b"], "--discovery-endpoints must not contain empty endpoints"),
        (&["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
        (&["--election-timeout=0"], "--election-timeout must be >0 (set to 0ms)"),
        (&["--election-timeout=100"], "--election-timeout[100ms] should be at least as 5 times as --heartbeat-interval[100ms]"),
        (&["--election-timeout=100000", "--heartbeat-interval=1000"], "--election-timeout[100000ms] is too long, and should be set less than 50000ms"),
        (&["--listen-client-urls="], "--advertise-client-urls is required when --listen-client-urls is set explicitly"),
        (&["--auto-compaction-mode="], "undefined auto-compaction-mode"),
        (&["--auto-compaction-mode=foo"], "unknown auto-compaction-mode \"foo\""),
        (&["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=-1"], "distributed tracing configurition is not valid: (tracing sampling rate must be positive)"),
        (&["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=1000001"], "distributed tracing configurition is not valid: (tracing sampling rate must be less than 1000000)"),
        (&["--feature-gates=LeaseCheckpointPersist=true"], "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"),
        (&["--compact-hash-check-time=0s"], "--compact-hash-check-time must be >0 (set to 0s)"),
        (&["--compact-hash-check-time=-1m"], "--compact-hash-check-time must be >0 (set to -1m0s)"),
        (&["--tls-min-version=foo"], "unexpected TLS version \"foo\" (must be one of: TLS1.2, TLS1.3)"),
        (&["--tls-max-version=TLS1.1"], "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)"),
        (&["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"], "min version (TLS1.3) is greater than max version (TLS1.2)"),
        (&["--tls-min-version=TLS1.3", "--cipher-suites=TLS_AES_128_GCM_SHA256"], "cipher suites cannot be configured when only TLS1.3 is enabled"),
        (&["--discovery-fallback=proxy"], "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\""),
        (&["--cipher-suites=foo"], "unexpected TLS cipher suite \"foo\""),
        (&["--auto-tls", "--self-signed-cert-validity=0"], "selfSignedCertValidity is invalid,it should be greater than 0"),
        (&["--listen-peer-urls=https://127.0.0.1:22380"], "cannot listen on TLS for 127.0.0.1:22380: KeyFile and CertFile are not presented"),
        (&["--listen-client-urls=https://127.0.0.1:2379", TOLD], "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:2379 with HTTPS scheme"),
        (&["--listen-client-http-urls=http://localhost:2379"], "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url http://localhost:2379"),
        (&["--auto-compaction-retention=foo"], "error parsing CompactionRetention: time: invalid duration \"foo\""),
        (&["--listen-metrics-urls=https://127.0.0.1:1"], "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"),
        (&["--auth-token=foo"], "auth: invalid auth options"),
    ];

    #[test]
    fn what_etcd_refuses_is_refused_in_its_words() {
        for (arguments, error) in REFUSALS {
            assert_eq!(
                load(arguments).map(|_| ()),
                Err((*error).to_owned()),
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn what_would_do_harm_to_pass_over_is_refused() {
        let reason =
            "this version does not bootstrap by discovery; list the members in --initial-cluster";
        for arguments in [
            &["--discovery-srv=foo"][..],
            &["--discovery-token=x", "--discovery-endpoints=a"],
        ] {
            let error = load(arguments).map(|_| ()).expect_err("a refusal");
            assert!(
                error.starts_with("--discovery-") && error.ends_with(reason),
                "{error}"
            );
        }
        let error = load(&["--force-new-cluster"])
            .map(|_| ())
            .expect_err("a refusal");
        assert!(error.starts_with("--force-new-cluster"), "{error}");
        assert!(load(&["--discovery-srv=", "--discovery-dial-timeout=1s"]).is_ok());
    }

    #[test]
    fn the_defaults_are_etcds() {
        let (config, _, notes) = load(&[]).expect("a configuration");
        assert_eq!(
            (config.name.as_str(), config.data.directory.to_str()),
            ("default", Some("default.etcd"))
        );
        assert_eq!(config.cluster.initial, "default=http://localhost:2380");
        assert_eq!(config.limits.quota_backend_bytes, Some(2 << 30));
        assert_eq!(config.limits.max_request_bytes, 1_572_864);
        assert_eq!(
            (
                config.raft.heartbeat.as_millis(),
                config.raft.election.as_millis()
            ),
            (100, 1000)
        );
        assert_eq!(config.watch_progress_interval.as_secs(), 600);
        assert_eq!(
            (config.compaction.auto, config.compaction.batch_limit),
            (None, None)
        );
        assert_eq!(config.checks.compact_hash_interval, None);
        assert!(config.client_tls == config.peer_tls && !config.client_tls.has_files());
        let told: Vec<_> = notes
            .iter()
            .map(|note| note.message().split(',').next().unwrap_or_default())
            .collect();
        assert_eq!(
            told,
            [
                "'data-dir' was empty; using default",
                "it isn't recommended to use default name"
            ]
        );
    }

    #[test]
    fn a_name_alone_makes_a_cluster_of_one() {
        let (config, ..) = load(&["--name=a"]).expect("a configuration");
        let members = config.members_of_new_cluster().expect("members");
        assert_eq!(members.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(config.data.directory.to_str(), Some("a.etcd"));
    }

    /// Texts of etcd 3.7.3.
    #[test]
    fn an_initial_cluster_that_does_not_fit_is_told_in_etcds_words() {
        let peer = "--initial-advertise-peer-urls=http://127.0.0.1:22380";
        for (arguments, error) in [
            (
                &["--name=foo", "--initial-cluster=bar=http://127.0.0.1:22380"][..],
                "couldn't find local name \"foo\" in the initial cluster configuration",
            ),
            (
                &["--initial-cluster="],
                "couldn't find local name \"default\" in the initial cluster configuration",
            ),
            (
                &["--initial-cluster=foo"],
                "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ",
            ),
            (
                &[
                    peer,
                    "--initial-cluster=default=http://127.0.0.1:22380,b=http://127.0.0.1:22380",
                ],
                "initial cluster b=http://127.0.0.1:22380,default=http://127.0.0.1:22380 has duplicate url",
            ),
            (
                &[
                    peer,
                    "--initial-cluster-state=existing",
                    "--initial-cluster=default=http://a:1,b=http://a:1",
                ],
                "initial cluster b=http://a:1,default=http://a:1 has duplicate url",
            ),
        ] {
            let (config, ..) = load(arguments).expect("a configuration");
            let refused = config.members_of_new_cluster().expect_err("a refusal");
            assert_eq!(refused.to_string(), error, "{arguments:?}");
        }
        // Who joins has told the cluster its URLs before.
        let (config, ..) = load(&[
            "--initial-cluster-state=existing",
            "--initial-cluster=default=http://a:1",
        ])
        .expect("a configuration");
        assert!(config.members_of_new_cluster().is_ok());
    }

    #[test]
    fn a_file_keeps_the_default_client_urls_and_is_checked_alike() {
        let (config, ..) = load_file("name: a\nlisten-client-urls: http://127.0.0.1:22379\n")
            .expect("a configuration");
        assert_eq!(config.advertise.client[0].as_str(), "http://localhost:2379");
        let refused = load_file("initial-cluster-state: bogus\n").map(|_| ());
        assert_eq!(refused, Err("unexpected clusterState \"bogus\"".to_owned()));
        assert!(load_file("discovery-fallback: proxy\n").is_ok());
        let refused =
            load_file("discovery-config:\n  token: a\n  client: {endpoints: [b]}\n").map(|_| ());
        assert!(
            refused
                .expect_err("a refusal")
                .contains("does not bootstrap by discovery")
        );
    }

    /// A value that differs from the default, with what it needs beside it.
    fn other_value(name: &str, kind: Kind) -> Vec<String> {
        let text = |value: &str| vec![format!("--{name}={value}")];
        match name {
            "listen-peer-urls" | "listen-client-http-urls" | "listen-metrics-urls" => {
                text("http://127.0.0.1:7")
            }
            "listen-client-urls" => vec![
                "--advertise-client-urls=http://localhost:2379".to_owned(),
                text("http://127.0.0.1:7").remove(0),
            ],
            "compact-hash-check-time" => vec![
                "--feature-gates=CompactHashCheck=true".to_owned(),
                text("7m").remove(0),
            ],
            "raft-read-timeout" | "raft-write-timeout" => text("7m"),
            "feature-gates" => text("LeaseCheckpoint=true"),
            "heartbeat-interval" => text("70"),
            "election-timeout" => text("7000"),
            "auto-compaction-mode" => vec![
                "--auto-compaction-retention=7".to_owned(),
                text("revision").remove(0),
            ],
            "auto-compaction-retention" => text("7"),
            "tls-min-version" | "tls-max-version" => text("TLS1.3"),
            "cipher-suites" => text("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
            "auth-token" => text("jwt,sign-method=HS256"),
            "metrics" => text("extensive"),
            "log-level" => text("debug"),
            "log-format" => text("console"),
            "enable-log-rotation" => vec!["--log-outputs=/a".to_owned(), text("true").remove(0)],
            "log-rotation-config-json" => vec![
                "--log-outputs=/a".to_owned(),
                "--enable-log-rotation".to_owned(),
                text("{\"maxsize\":7}").remove(0),
            ],
            "v2-deprecation" => text("gone"),
            _ => match kind {
                Kind::Bool => text(if crate::flag::values::Values::default().bool(name) {
                    "false"
                } else {
                    "true"
                }),
                Kind::Signed(_) | Kind::Unsigned(_) | Kind::Unsigned32 => text("7"),
                Kind::Duration => text("7m"),
                Kind::Urls(_) => text("http://elsewhere:7"),
                Kind::OneOf(values) => text(values[1]),
                _ => text("other"),
            },
        }
    }

    #[test]
    fn each_flag_with_an_effect_changes_the_configuration() {
        let effective = FLAGS.iter().filter(|flag| flag.effect == Effect::Effective);
        for flag in effective {
            // The process acts on these itself; zap is all there is.
            if ["config-file", "version", "logger"].contains(&flag.name) {
                continue;
            }
            let arguments = other_value(flag.name, flag.kind);
            let beside: Vec<&str> = arguments[..arguments.len() - 1]
                .iter()
                .map(String::as_str)
                .collect();
            let with: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let seen = |arguments: &[&str]| {
                let (config, log, _) =
                    load(arguments).unwrap_or_else(|error| panic!("{}: {error}", flag.name));
                format!("{config:?} {log:?}")
            };
            assert_ne!(seen(&with), seen(&beside), "--{}", flag.name);
        }
    }
}
