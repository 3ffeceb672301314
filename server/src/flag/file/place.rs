//! Where a flag stands in the file, and what Go calls that place and its type.

use super::super::node::Node;
use super::super::value::Kind;
use super::super::{FileKey, Flag};
use super::Map;

/// A section of the file.
pub(super) struct Section {
    pub(super) key: &'static str,
    /// The section's type in Go.
    pub(super) go_type: &'static str,
    /// The struct that has it as a field.
    pub(super) holder: &'static str,
}

pub(super) const PEER_SECURITY: Section = Section {
    key: "peer-transport-security",
    go_type: "embed.securityConfig",
    holder: "configJSON",
};
const CLIENT_SECURITY: Section = Section {
    key: "client-transport-security",
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

/// Every section.
pub(super) const SECTIONS: [&Section; 4] = [
    &CLIENT_SECURITY,
    &DISCOVERY,
    &PEER_SECURITY,
    &SOCKET_OPTIONS,
];

/// The place of a flag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Keys from the outermost, joined by points; no key has one.
    pub(super) path: String,
    /// Structs and keys, as Go's JSON decoder joins them.
    pub(super) go: String,
}

/// Where the flag stands; `None` for one that has no key.
pub(super) fn of(flag: &Flag) -> Option<Place> {
    let (section, holder, key) = match flag.file {
        FileKey::None => return None,
        FileKey::Config => return Some(top("Config", flag.name)),
        FileKey::ConfigJson => return Some(top("configJSON", flag.name)),
        FileKey::ClientSecurity(key) => (&CLIENT_SECURITY, "securityConfig", key),
        FileKey::PeerSecurity(key) => (&PEER_SECURITY, "securityConfig", key),
        FileKey::SocketOptions(key) => (&SOCKET_OPTIONS, "SocketOpts", key),
        FileKey::Discovery(key) => {
            let holder = match key.rsplit_once('.').map(|(section, _)| section) {
                None => "DiscoveryConfig",
                Some("client.secure") => "SecureConfig",
                Some("client.auth") => "AuthConfig",
                Some(_) => "ConfigSpec",
            };
            (&DISCOVERY, holder, key)
        }
    };
    let path = format!("{}.{key}", section.key);
    let go = format!("{holder}.{}.{path}", section.holder);
    Some(Place { path, go })
}

fn top(holder: &str, key: &str) -> Place {
    Place {
        path: key.to_owned(),
        go: format!("configYAML.{holder}.{key}"),
    }
}

/// The node at a path.
pub(super) fn node_at<'a>(root: &'a Map, path: &str) -> Option<&'a Node> {
    let (key, rest) = path
        .split_once('.')
        .map_or((path, None), |(key, rest)| (key, Some(rest)));
    let node = entry(root, key)?;
    match (rest, node) {
        (None, node) => Some(node),
        (Some(rest), Node::Map(map)) => node_at(map, rest),
        (Some(_), _) => None,
    }
}

/// The entry of `key`; case does not matter where no key fits exactly.
pub(super) fn entry<'a>(map: &'a Map, key: &str) -> Option<&'a Node> {
    map.get(key).or_else(|| {
        map.iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(key))
            .map(|(_, node)| node)
    })
}

/// The type of the flag's field in etcd's configuration.
pub(super) fn go_type(flag: &Flag) -> &'static str {
    match flag.kind {
        Kind::Bool | Kind::Switch => "bool",
        Kind::Text | Kind::OneOf(_) | Kind::Urls(_) | Kind::Gates | Kind::Ignored => "string",
        Kind::Signed(go_type) | Kind::Unsigned(go_type) => go_type,
        Kind::Unsigned32 => "uint32",
        Kind::Duration => "time.Duration",
        Kind::Set if flag.file == FileKey::ConfigJson => "string",
        Kind::List | Kind::Set => "[]string",
        Kind::SomeOf(_) => "config.V2DeprecationEnum",
    }
}
