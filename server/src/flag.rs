//! etcd's flags: one table, Go's command line, the environment and the configuration file.
//!
//! Promises that what etcd 3.7 accepts is accepted, and that what it refuses is refused with its text and its
//! exit code. Everything about a flag (name, kind, default, what it does here) stands once, in
//! [`table::FLAGS`]; usage, environment, file and documents follow from it. What the values mean together is
//! `config`'s business.

pub mod command_line;
pub mod environment;
pub mod feature_gates;
pub mod file;
mod node;
pub mod number;
#[cfg(test)]
mod proof;
pub mod table;
pub mod usage;
pub mod value;
pub mod values;

use value::Kind;

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its name without dashes.
    pub name: &'static str,
    /// Under which heading usage and documents show it.
    pub section: Section,
    /// What values it takes.
    pub kind: Kind,
    /// The default, as it would be typed.
    pub default: &'static str,
    /// What it is for, in English, one sentence.
    pub doc: &'static str,
    /// What it does in MetaStore.
    pub effect: Effect,
    /// Where it stands in the configuration file.
    pub file: FileKey,
}

/// What setting a flag does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It does what etcd's documents say.
    Effective,
    /// It is accepted and changes nothing, because of this. One warning names all of these that were set.
    NoEffect(&'static str),
    /// Starting with a value other than the default would not do what was asked for and could do harm: it
    /// is refused, with this reason.
    Unsupported(&'static str),
}

/// A heading of the usage text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Section {
    Member,
    MetaStore,
    Clustering,
    Security,
    Auth,
    Monitoring,
    Logging,
    Tracing,
    Features,
    Unsafe,
    /// Accepted for the sake of old command lines, never shown.
    Ignored,
}

/// Where a flag stands in the configuration file (`server/embed/config.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKey {
    /// Nowhere.
    None,
    /// A field of etcd's `Config`, under the flag's name.
    Config,
    /// A field of etcd's `configJSON`, under the flag's name.
    ConfigJson,
    /// A field of `client-transport-security`.
    ClientSecurity(&'static str),
    /// A field of `peer-transport-security`.
    PeerSecurity(&'static str),
    /// A field of `socket-options`.
    SocketOptions(&'static str),
    /// The token of `discovery-config`, or a field of its `client`.
    Discovery(&'static str),
}

impl Flag {
    /// The environment variable that sets it: `ETCD_` and the name in capitals.
    pub fn environment_variable(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}
