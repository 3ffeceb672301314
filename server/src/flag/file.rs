//! `--config-file`: YAML with etcd's keys.
//!
//! Follows `configFromFile` in `server/embed/config.go`: durations are integer nanoseconds, TLS stands in
//! sections of its own, keys that nobody knows are passed over (MetaStore says so), case does not matter, and a
//! value of the wrong type is told in the words of Go's JSON decoder. Flags and environment are ignored beside a
//! file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::node::Node;
use super::table::FLAGS;
use super::value::{Kind, Value};
use super::values::Values;
use super::{FileKey, Flag};
use crate::duration::GoDuration;
use crate::go_text;
use crate::logging::Note;
use crate::url;

/// Why the file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{}", go_text::path_error("open", .path, .error))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not YAML.
    #[error("error converting YAML to JSON: yaml: {0}")]
    Yaml(serde_yaml::Error),
    /// A value has the wrong type.
    #[error(
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go {place} of type {wanted}"
    )]
    Type {
        /// What stands there.
        found: String,
        /// Where.
        place: String,
        /// What belongs there.
        wanted: &'static str,
    },
    /// The section is empty.
    #[error("invalid peer-transport-security")]
    EmptySection,
    /// A value is none of those allowed.
    #[error("invalid value {value:?} for {key}: {error}")]
    Value {
        /// The key.
        key: &'static str,
        /// What stands there.
        value: String,
        /// What is wrong with it.
        error: super::value::Error,
    },
    /// Feature gates are wrong.
    #[error(transparent)]
    Gates(super::feature_gates::Error),
    /// A URL is wrong.
    #[error("unexpected error setting up {key}: {error}")]
    Url {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        error: url::Error,
    },
}

type Map = BTreeMap<String, Node>;

/// Keys of etcd that have no flag and no meaning here.
const KNOWN: [&str; 3] = [
    "client.max-request-bytes",
    "client.max-recv-bytes",
    "skip-client-san-verification",
];

/// The values that the file at `path` gives; all other flags have their defaults. What there is to say about
/// the file goes to `notes`.
///
/// # Errors
/// With etcd's text.
pub fn load(path: &Path, notes: &mut Vec<Note>) -> Result<Values, Error> {
    let bytes = fs::read(path).map_err(|error| Error::Read {
        path: path.to_owned(),
        error,
    })?;
    parse(&bytes, notes)
}

fn parse(bytes: &[u8], notes: &mut Vec<Note>) -> Result<Values, Error> {
    let document = if bytes.iter().all(u8::is_ascii_whitespace) {
        Node::Null
    } else {
        serde_yaml::from_slice(bytes).map_err(Error::Yaml)?
    };
    let root = match document {
        Node::Null => Map::new(),
        Node::Map(map) => map,
        other => {
            return Err(Error::Type {
                found: other.describe(""),
                place: "value".to_owned(),
                wanted: "embed.configYAML",
            });
        }
    };
    let mut file = File {
        root: &root,
        used: Vec::new(),
    };
    let mut values = Values::default();
    for section in [
        &CLIENT_SECURITY,
        &PEER_SECURITY,
        &SOCKET_OPTIONS,
        &DISCOVERY,
    ] {
        file.check_section(section)?;
    }
    for (position, flag) in FLAGS.iter().enumerate() {
        let Some((place, node)) = file.find(flag) else {
            continue;
        };
        let wanted = go_type(flag);
        let mismatch = || Error::Type {
            found: node.describe(wanted),
            place: format!("struct field {place}"),
            wanted,
        };
        if let Some(value) = read(flag, node, values.get(flag.name), mismatch)? {
            values.put(position, value);
        }
    }
    if values.unsigned("self-signed-cert-validity") == 0 {
        values = with(values, "self-signed-cert-validity", Value::Unsigned(1));
    }
    if values.text("initial-cluster-state").is_empty() {
        values = with(
            values,
            "initial-cluster-state",
            Value::Text("new".to_owned()),
        );
    }
    let unknown = file.unknown();
    if !unknown.is_empty() {
        notes.push(
            Note::warn(
                "passing over keys of the configuration file that etcd does not know either",
            )
            .with("keys", unknown.join(",")),
        );
    }
    Ok(values)
}

fn with(mut values: Values, name: &str, value: Value) -> Values {
    values.put(
        super::table::position(name).expect("the name is one of the table's"),
        value,
    );
    values
}

/// A section of the file: its key, the Go type in messages, and the name of that type's fields.
struct Section {
    key: &'static str,
    go_type: &'static str,
    holder: &'static str,
}

const CLIENT_SECURITY: Section = Section {
    key: "client-transport-security",
    go_type: "embed.securityConfig",
    holder: "configJSON",
};
const PEER_SECURITY: Section = Section {
    key: "peer-transport-security",
    go_type: "embed.securityConfig",
    holder: "configJSON",
};
const SOCKET_OPTIONS: Section = Section {
    key: "socket-options",
    go_type: "transport.SocketOpts",
    holder: "Config",
};
const DISCOVERY: Section = Section {
    key: "discovery-config",
    go_type: "v3discovery.DiscoveryConfig",
    holder: "Config",
};

struct File<'a> {
    root: &'a Map,
    /// Paths of keys that some flag has taken, in lower case.
    used: Vec<String>,
}

impl<'a> File<'a> {
    fn check_section(&mut self, section: &Section) -> Result<(), Error> {
        match entry(self.root, section.key) {
            None | Some(Node::Map(_)) => Ok(()),
            Some(Node::Null) if section.key == PEER_SECURITY.key => Err(Error::EmptySection),
            Some(Node::Null) => Ok(()),
            Some(other) => Err(Error::Type {
                found: other.describe(section.go_type),
                place: format!("struct field configYAML.{}.{}", section.holder, section.key),
                wanted: section.go_type,
            }),
        }
    }

    /// The node of a flag that is not null, with the place that Go would name.
    fn find(&mut self, flag: &Flag) -> Option<(String, &'a Node)> {
        let (place, node, path) = match flag.file {
            FileKey::None => return None,
            FileKey::Config => (
                format!("configYAML.Config.{}", flag.name),
                entry(self.root, flag.name)?,
                flag.name.to_owned(),
            ),
            FileKey::ConfigJson => (
                format!("configYAML.configJSON.{}", flag.name),
                entry(self.root, flag.name)?,
                flag.name.to_owned(),
            ),
            FileKey::ClientSecurity(key) => self.nested(&CLIENT_SECURITY, "securityConfig", key)?,
            FileKey::PeerSecurity(key) => self.nested(&PEER_SECURITY, "securityConfig", key)?,
            FileKey::SocketOptions(key) => self.nested(&SOCKET_OPTIONS, "SocketOpts", key)?,
            FileKey::Discovery(key) => {
                let holder = match key.rsplit_once('.').map(|(section, _)| section) {
                    None => "DiscoveryConfig",
                    Some("client.secure") => "SecureConfig",
                    Some("client.auth") => "AuthConfig",
                    Some(_) => "ConfigSpec",
                };
                self.nested(&DISCOVERY, holder, key)?
            }
        };
        self.used.push(path);
        (*node != Node::Null).then_some((place, node))
    }

    fn nested(
        &self,
        section: &Section,
        holder: &str,
        key: &str,
    ) -> Option<(String, &'a Node, String)> {
        let mut node = entry(self.root, section.key)?;
        for part in key.split('.') {
            let Node::Map(map) = node else { return None };
            node = entry(map, part)?;
        }
        let path = format!("{}.{key}", section.key);
        Some((format!("{holder}.{}.{path}", section.holder), node, path))
    }

    /// Paths of the leaves that no flag took.
    fn unknown(&self) -> Vec<String> {
        let mut unknown = Vec::new();
        for (key, node) in self.root {
            collect_leaves(key, node, &mut unknown);
        }
        unknown.retain(|path| {
            let lower = path.to_ascii_lowercase();
            !self.used.contains(&lower) && !KNOWN.iter().any(|known| lower.ends_with(known))
        });
        unknown
    }
}

fn collect_leaves(path: &str, node: &Node, leaves: &mut Vec<String>) {
    match node {
        Node::Map(map) => {
            for (key, node) in map {
                collect_leaves(&format!("{path}.{key}"), node, leaves);
            }
        }
        // A section without content, as in etcd's sample.
        Node::Null => {}
        _ => leaves.push(path.to_owned()),
    }
}

/// The entry of `key`; case does not matter where no key fits exactly.
fn entry<'a>(map: &'a Map, key: &str) -> Option<&'a Node> {
    map.get(key).or_else(|| {
        map.iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(key))
            .map(|(_, node)| node)
    })
}

/// The type of the flag's field in etcd's configuration.
fn go_type(flag: &Flag) -> &'static str {
    match flag.kind {
        Kind::Bool | Kind::Switch => "bool",
        Kind::Text | Kind::OneOf(_) | Kind::Urls(_) | Kind::Gates | Kind::Ignored => "string",
        Kind::Signed(go_type) | Kind::Unsigned(go_type) => go_type,
        Kind::Unsigned32 => "uint32",
        Kind::Duration => "time.Duration",
        Kind::List => "[]string",
        Kind::Set if flag.file == FileKey::ConfigJson => "string",
        Kind::Set => "[]string",
        Kind::SomeOf(_) => "config.V2DeprecationEnum",
    }
}

/// The flag's value from a node that is not null; `None` where it leaves the default in place.
fn read(
    flag: &Flag,
    node: &Node,
    before: &Value,
    mismatch: impl Fn() -> Error,
) -> Result<Option<Value>, Error> {
    let text = || match node {
        Node::Text(text) => Ok(text.as_str()),
        _ => Err(mismatch()),
    };
    let texts = || match node {
        Node::Sequence(nodes) => nodes
            .iter()
            .map(|node| match node {
                Node::Text(text) => Ok(text.clone()),
                _ => Err(mismatch()),
            })
            .collect(),
        _ => Err(mismatch()),
    };
    let integer = || node.integer().ok_or_else(&mismatch);
    Ok(Some(match flag.kind {
        Kind::Bool => Value::Bool(node.boolean().ok_or_else(&mismatch)?),
        Kind::Text => Value::Text(text()?.to_owned()),
        // etcd looks at it with the rest of the configuration.
        Kind::OneOf(_) if flag.name == "initial-cluster-state" => Value::Text(text()?.to_owned()),
        Kind::OneOf(_) => {
            let value = text()?;
            flag.kind
                .read(value, before)
                .map_err(|error| Error::Value {
                    key: flag.name,
                    value: value.to_owned(),
                    error,
                })?
        }
        Kind::Signed(_) => Value::Signed(i64::try_from(integer()?).map_err(|_| mismatch())?),
        Kind::Unsigned(_) => Value::Unsigned(u64::try_from(integer()?).map_err(|_| mismatch())?),
        Kind::Unsigned32 => {
            Value::Unsigned(u32::try_from(integer()?).map_err(|_| mismatch())?.into())
        }
        Kind::Duration => Value::Duration(GoDuration(
            i64::try_from(integer()?).map_err(|_| mismatch())?,
        )),
        Kind::List => Value::List(texts()?),
        Kind::SomeOf(_) => Value::List(text()?.split(',').map(str::to_owned).collect()),
        Kind::Set if flag.file != FileKey::ConfigJson => Value::Set(texts()?.into_iter().collect()),
        Kind::Set | Kind::Urls(_) | Kind::Gates => {
            let text = text()?;
            if text.is_empty() {
                return Ok(None);
            }
            flag.kind.read(text, before).map_err(|error| match error {
                super::value::Error::Url(error) => Error::Url {
                    key: flag.name,
                    error,
                },
                super::value::Error::Gates(error) => Error::Gates(error),
                error => Error::Value {
                    key: flag.name,
                    value: text.to_owned(),
                    error,
                },
            })?
        }
        Kind::Switch | Kind::Ignored => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(Values, Vec<Note>), String> {
        let mut notes = Vec::new();
        let values =
            super::parse(text.as_bytes(), &mut notes).map_err(|error| error.to_string())?;
        Ok((values, notes))
    }

    fn values(text: &str) -> Values {
        parse(text).expect("a configuration file").0
    }

    #[test]
    fn keys_set_the_flags_of_their_names() {
        let values = values(
            "name: a\nheartbeat-interval: 50\npre-vote: no\nenable-pprof: on\ngrpc-keepalive-min-time: 7000000000\n\
             quota-backend-bytes: 1e3\nlog-outputs: [stdout]\nlisten-peer-urls: http://127.0.0.1:1,http://127.0.0.1:2\n\
             feature-gates: LeaseCheckpoint=true\nstorage-engine: memory\nsocket-options: {reuse-port: true}\n",
        );
        assert_eq!(
            (values.text("name"), values.unsigned("heartbeat-interval")),
            ("a", 50)
        );
        assert!(
            !values.bool("pre-vote")
                && values.bool("enable-pprof")
                && values.bool("socket-reuse-port")
        );
        assert_eq!(values.duration("grpc-keepalive-min-time").to_string(), "7s");
        assert_eq!(values.signed("quota-backend-bytes"), 1000);
        assert!(
            values.texts("log-outputs").contains("stdout")
                && values.texts("log-outputs").len() == 1
        );
        assert_eq!(values.urls("listen-peer-urls").urls.len(), 2);
        assert!(values.gates("feature-gates").enabled("LeaseCheckpoint"));
        assert_eq!(values.text("storage-engine"), "memory");
        assert!(values.is_set("name") && !values.is_set("data-dir"));
    }

    #[test]
    fn tls_stands_in_sections() {
        let values = values(
            "client-transport-security:\n  cert-file: c\n  client-cert-auth: true\n  allowed-cn: [x, y]\n\
             peer-transport-security:\n  key-file: k\n  auto-tls: true\n  skip-client-san-verification: true\n",
        );
        assert_eq!(
            (values.text("cert-file"), values.text("peer-key-file")),
            ("c", "k")
        );
        assert!(values.bool("client-cert-auth") && values.bool("peer-auto-tls"));
        assert!(values.bool("peer-skip-client-san-verification") && !values.bool("auto-tls"));
        assert_eq!(values.list("client-cert-allowed-cn"), ["x", "y"]);
    }

    #[test]
    fn null_and_empty_leave_the_default() {
        let values = values(
            "name:\nlisten-peer-urls: ''\ncors:\ninitial-cluster-state: ''\nself-signed-cert-validity: 0\nclient-transport-security:\n",
        );
        assert_eq!(
            (values.text("name"), values.text("initial-cluster-state")),
            ("default", "new")
        );
        assert_eq!(
            values.urls("listen-peer-urls").urls[0].as_str(),
            "http://localhost:2380"
        );
        assert_eq!(values.unsigned("self-signed-cert-validity"), 1);
        assert_eq!(
            parse(" \n").expect("an empty file").0.text("name"),
            "default"
        );
    }

    #[test]
    fn case_does_not_matter_and_the_last_of_equal_keys_wins() {
        assert_eq!(values("Name: z\n").text("name"), "z");
        assert_eq!(values("name: a\nname: b\n").text("name"), "b");
        assert_eq!(values("{\"name\": \"json\"}").text("name"), "json");
    }

    #[test]
    fn unknown_keys_are_passed_over_and_told() {
        let (values, notes) =
            parse("name: x\nbogus: 3\nclient-transport-security:\n  cert-files: a\nproxy:\n")
                .expect("a file");
        assert_eq!((values.text("name"), notes.len()), ("x", 1));
        assert!(
            notes[0]
                .to_string()
                .contains("bogus,client-transport-security.cert-files"),
            "{}",
            notes[0]
        );
    }

    /// Texts of etcd 3.7.3 for the same files.
    #[test]
    fn refusals_have_gos_words() {
        let prefix = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal ";
        for (text, error) in [
            (
                "name: [1,2]",
                "array into Go struct field configYAML.Config.name of type string",
            ),
            (
                "name: 5",
                "number into Go struct field configYAML.Config.name of type string",
            ),
            (
                "name: true",
                "bool into Go struct field configYAML.Config.name of type string",
            ),
            (
                "name: {a: b}",
                "object into Go struct field configYAML.Config.name of type string",
            ),
            (
                "heartbeat-interval: 100ms",
                "string into Go struct field configYAML.Config.heartbeat-interval of type uint",
            ),
            (
                "heartbeat-interval: -1",
                "number -1 into Go struct field configYAML.Config.heartbeat-interval of type uint",
            ),
            (
                "heartbeat-interval: 1.5",
                "number 1.5 into Go struct field configYAML.Config.heartbeat-interval of type uint",
            ),
            (
                "warning-apply-duration: 100ms",
                "string into Go struct field configYAML.Config.warning-apply-duration of type time.Duration",
            ),
            (
                "max-concurrent-streams: 5000000000",
                "number 5000000000 into Go struct field configYAML.Config.max-concurrent-streams of type uint32",
            ),
            (
                "quota-backend-bytes: 10000000000000000000000",
                "number 1e+22 into Go struct field configYAML.Config.quota-backend-bytes of type int64",
            ),
            (
                "log-outputs: stderr",
                "string into Go struct field configYAML.Config.log-outputs of type []string",
            ),
            (
                "cipher-suites: a",
                "string into Go struct field configYAML.Config.cipher-suites of type []string",
            ),
            (
                "pre-vote: 'true'",
                "string into Go struct field configYAML.Config.pre-vote of type bool",
            ),
            (
                "listen-metrics-urls: 3",
                "number into Go struct field configYAML.Config.listen-metrics-urls of type string",
            ),
            (
                "feature-gates: {LeaseCheckpoint: true}",
                "object into Go struct field configYAML.configJSON.feature-gates of type string",
            ),
            (
                "client-transport-security: {cert-file: [a]}",
                "array into Go struct field securityConfig.configJSON.client-transport-security.cert-file of type string",
            ),
            (
                "peer-transport-security: {allowed-cn: a}",
                "string into Go struct field securityConfig.configJSON.peer-transport-security.allowed-cn of type []string",
            ),
            (
                "peer-transport-security: foo",
                "string into Go struct field configYAML.configJSON.peer-transport-security of type embed.securityConfig",
            ),
            (
                "socket-options: {reuse-port: 3}",
                "number into Go struct field SocketOpts.Config.socket-options.reuse-port of type bool",
            ),
            (
                "discovery-config: {token: 3}",
                "number into Go struct field DiscoveryConfig.Config.discovery-config.token of type string",
            ),
            (
                "discovery-config: {client: {endpoints: 3}}",
                "number into Go struct field ConfigSpec.Config.discovery-config.client.endpoints of type []string",
            ),
            ("- a", "array into Go value of type embed.configYAML"),
            ("hello", "string into Go value of type embed.configYAML"),
        ] {
            assert_eq!(
                parse(text).map(|_| ()),
                Err(format!("{prefix}{error}")),
                "{text}"
            );
        }
        for (text, error) in [
            ("feature-gates: Foo=true", "unrecognized feature gate: Foo"),
            (
                "listen-peer-urls: foo",
                "unexpected error setting up listen-peer-urls: URL scheme must be http, https, unix, or unixs: foo",
            ),
            (
                "storage-engine: bbolt",
                "invalid value \"bbolt\" for storage-engine: invalid value",
            ),
            (
                "peer-transport-security:",
                "invalid peer-transport-security",
            ),
        ] {
            assert_eq!(parse(text).map(|_| ()), Err(error.to_owned()), "{text}");
        }
        assert!(
            parse("a: [1")
                .map(|_| ())
                .unwrap_err()
                .starts_with("error converting YAML to JSON: yaml: ")
        );
        let missing = load(Path::new("nope.yaml"), &mut Vec::new())
            .map(|_| ())
            .unwrap_err();
        assert_eq!(
            missing.to_string(),
            "open nope.yaml: no such file or directory"
        );
    }

    #[test]
    fn etcds_sample_is_taken() {
        let sample = "name: 'default'\ndata-dir:\nsnapshot-count: 10000\ndiscovery:\ndiscovery-fallback: 'proxy'\nproxy: 'off'\n\
            client-transport-security:\n  cert-file:\n  client-cert-auth: false\npeer-transport-security:\n  cert-file:\n  allowed-cn:\n\
            auto-compaction-retention: \"1\"\ncipher-suites: [\n  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,\n]\ntls-max-version: 'TLS1.3'\n";
        assert_eq!(values(sample).text("auto-compaction-retention"), "1");
    }
}
