//! `--config-file`: YAML with etcd's keys.
//!
//! Follows `configFromFile` in `server/embed/config.go`: durations are integer nanoseconds, TLS stands in
//! sections of its own, keys that nobody knows are passed over (MetaStore says so), case does not matter, and a
//! value of the wrong type is told in the words of Go's JSON decoder. Flags and environment are ignored beside a
//! file.

mod field;
mod place;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use field::Field;
use place::Section;

use super::node::Node;
use super::table::{self, FLAGS};
use super::value::Value;
use super::values::Values;
use crate::go_text;
use crate::logging::Note;
use crate::url;

type Map = BTreeMap<String, Node>;

/// Keys of etcd that have no flag and no meaning here.
const KNOWN: [&str; 3] = [
    "discovery-config.client.max-request-bytes",
    "discovery-config.client.max-recv-bytes",
    "client-transport-security.skip-client-san-verification",
];

/// Why the file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{}", go_text::path_error(operation_of(.error), .path, .error))]
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

/// A folder can be opened, but not read.
fn operation_of(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::IsADirectory {
        "read"
    } else {
        "open"
    }
}

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
    let root = root(bytes)?;
    for section in place::SECTIONS {
        check_section(&root, section)?;
    }
    // Go meets the keys in this order and tells the first that is wrong.
    let mut flags: Vec<_> = FLAGS
        .iter()
        .enumerate()
        .filter_map(|(position, flag)| Some((place::of(flag)?, position, flag)))
        .collect();
    flags.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    let mut values = Values::default();
    let mut refused = None;
    for (place, position, flag) in &flags {
        let Some(node) = place::node_at(&root, &place.path).filter(|node| **node != Node::Null)
        else {
            continue;
        };
        match (Field { flag, place, node }).read(values.get(flag.name)) {
            Ok(Some(value)) => values.put(*position, value),
            Ok(None) => {}
            // Go looks at all types before it looks at any value.
            Err(error @ Error::Type { .. }) => return Err(error),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    if let Some(error) = refused {
        return Err(error);
    }
    fill(&mut values);
    let known = |path: &String| {
        let same = |known: &str| known.eq_ignore_ascii_case(path);
        KNOWN.iter().any(|known| same(known)) || flags.iter().any(|(place, ..)| same(&place.path))
    };
    let mut leaves = Vec::new();
    collect_leaves("", &root, &mut leaves);
    leaves.retain(|path| !known(path));
    if !leaves.is_empty() {
        notes.push(
            Note::warn(
                "passing over keys of the configuration file that etcd does not know either",
            )
            .with("keys", leaves.join(",")),
        );
    }
    Ok(values)
}

fn root(bytes: &[u8]) -> Result<Map, Error> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_yaml::from_slice(bytes).map_err(Error::Yaml)? {
        Node::Null => Ok(Map::new()),
        Node::Map(map) => Ok(map),
        other => Err(Error::Type {
            found: other.describe(""),
            place: "value".to_owned(),
            wanted: "embed.configYAML",
        }),
    }
}

fn check_section(root: &Map, section: &Section) -> Result<(), Error> {
    match place::entry(root, section.key) {
        None | Some(Node::Map(_)) => Ok(()),
        Some(Node::Null) if section.key == place::PEER_SECURITY.key => Err(Error::EmptySection),
        Some(Node::Null) => Ok(()),
        Some(other) => Err(Error::Type {
            found: other.describe(section.go_type),
            place: format!("struct field configYAML.{}.{}", section.holder, section.key),
            wanted: section.go_type,
        }),
    }
}

/// What etcd puts where the file leaves nothing.
fn fill(values: &mut Values) {
    let position = |name| table::position(name).expect("the name is one of the table's");
    if values.unsigned("self-signed-cert-validity") == 0 {
        values.put(position("self-signed-cert-validity"), Value::Unsigned(1));
    }
    if values.text("initial-cluster-state").is_empty() {
        values.put(
            position("initial-cluster-state"),
            Value::Text("new".to_owned()),
        );
    }
}

/// The paths of everything that is neither a section nor empty, as in etcd's sample.
fn collect_leaves(prefix: &str, map: &Map, leaves: &mut Vec<String>) {
    for (key, node) in map {
        match node {
            Node::Map(map) => collect_leaves(&format!("{prefix}{key}."), map, leaves),
            Node::Null => {}
            _ => leaves.push(format!("{prefix}{key}")),
        }
    }
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

    /// What Go's JSON decoder says in etcd 3.7.3 about the same files.
    #[rustfmt::skip]
    const MISMATCHES: &[(&str, &str)] = &[
        ("name: [1,2]", "array into Go struct field configYAML.Config.name of type string"),
        ("name: 5", "number into Go struct field configYAML.Config.name of type string"),
        ("name: true", "bool into Go struct field configYAML.Config.name of type string"),
        ("name: {a: b}", "object into Go struct field configYAML.Config.name of type string"),
        ("heartbeat-interval: 100ms", "string into Go struct field configYAML.Config.heartbeat-interval of type uint"),
        ("heartbeat-interval: -1", "number -1 into Go struct field configYAML.Config.heartbeat-interval of type uint"),
        ("heartbeat-interval: 1.5", "number 1.5 into Go struct field configYAML.Config.heartbeat-interval of type uint"),
        ("warning-apply-duration: 100ms", "string into Go struct field configYAML.Config.warning-apply-duration of type time.Duration"),
        ("max-concurrent-streams: 5000000000", "number 5000000000 into Go struct field configYAML.Config.max-concurrent-streams of type uint32"),
        ("quota-backend-bytes: 10000000000000000000000", "number 1e+22 into Go struct field configYAML.Config.quota-backend-bytes of type int64"),
        ("log-outputs: stderr", "string into Go struct field configYAML.Config.log-outputs of type []string"),
        ("cipher-suites: a", "string into Go struct field configYAML.Config.cipher-suites of type []string"),
        ("pre-vote: 'true'", "string into Go struct field configYAML.Config.pre-vote of type bool"),
        ("listen-metrics-urls: 3", "number into Go struct field configYAML.Config.listen-metrics-urls of type string"),
        ("feature-gates: {LeaseCheckpoint: true}", "object into Go struct field configYAML.configJSON.feature-gates of type string"),
        ("client-transport-security: {cert-file: [a]}", "array into Go struct field securityConfig.configJSON.client-transport-security.cert-file of type string"),
        ("peer-transport-security: {allowed-cn: a}", "string into Go struct field securityConfig.configJSON.peer-transport-security.allowed-cn of type []string"),
        ("peer-transport-security: foo", "string into Go struct field configYAML.configJSON.peer-transport-security of type embed.securityConfig"),
        ("socket-options: {reuse-port: 3}", "number into Go struct field SocketOpts.Config.socket-options.reuse-port of type bool"),
        ("discovery-config: {token: 3}", "number into Go struct field DiscoveryConfig.Config.discovery-config.token of type string"),
        ("discovery-config: {client: {endpoints: 3}}", "number into Go struct field ConfigSpec.Config.discovery-config.client.endpoints of type []string"),
        ("- a", "array into Go value of type embed.configYAML"),
        ("hello", "string into Go value of type embed.configYAML"),
        ("name: 4\nlisten-metrics-urls: 3", "number into Go struct field configYAML.Config.listen-metrics-urls of type string"),
        ("feature-gates: A=true\ninitial-cluster: 5", "number into Go struct field configYAML.Config.initial-cluster of type string"),
        ("log-outputs: [1]", "number into Go struct field configYAML.Config.log-outputs of type string"),
    ];

    #[test]
    fn a_value_of_the_wrong_type_is_told_in_gos_words() {
        let prefix = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal ";
        for (text, error) in MISMATCHES {
            assert_eq!(
                parse(text).map(|_| ()),
                Err(format!("{prefix}{error}")),
                "{text}"
            );
        }
    }

    #[test]
    fn other_refusals_have_etcds_words() {
        #[rustfmt::skip]
        let refusals = [
            ("feature-gates: Foo=true", "unrecognized feature gate: Foo"),
            ("listen-peer-urls: foo", "unexpected error setting up listen-peer-urls: URL scheme must be http, https, unix, or unixs: foo"),
            ("storage-engine: bbolt", "invalid value \"bbolt\" for storage-engine: invalid value"),
            ("peer-transport-security:", "invalid peer-transport-security"),
        ];
        for (text, error) in refusals {
            assert_eq!(parse(text).map(|_| ()), Err(error.to_owned()), "{text}");
        }
        assert!(
            parse("a: [1")
                .map(|_| ())
                .unwrap_err()
                .starts_with("error converting YAML to JSON: yaml: ")
        );
        let refused = |path: &str| {
            load(Path::new(path), &mut Vec::new())
                .map(|_| ())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused("nope.yaml"),
            "open nope.yaml: no such file or directory"
        );
        assert_eq!(refused("/"), "read /: is a directory");
    }

    #[test]
    fn etcds_sample_is_taken() {
        let sample = "name: 'default'\ndata-dir:\nsnapshot-count: 10000\ndiscovery:\ndiscovery-fallback: 'proxy'\nproxy: 'off'\n\
            client-transport-security:\n  cert-file:\n  client-cert-auth: false\npeer-transport-security:\n  cert-file:\n  allowed-cn:\n\
            auto-compaction-retention: \"1\"\ncipher-suites: [\n  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,\n]\ntls-max-version: 'TLS1.3'\n";
        assert_eq!(values(sample).text("auto-compaction-retention"), "1");
    }
}
