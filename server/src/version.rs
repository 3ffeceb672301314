//! What `--version` prints and what the member calls itself.

/// The version of etcd whose clients and operators MetaStore serves; every place that tells a version tells this
/// one, since clients parse it.
pub const ETCD: &str = "3.7.3";

/// MetaStore's own version.
pub const METASTORE: &str = env!("CARGO_PKG_VERSION");

/// The text of `--version`, line by line as etcd's.
pub fn text() -> String {
    // As Go names them.
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let system = std::env::consts::OS;
    format!(
        "etcd Version: {ETCD}\nMetaStore Version: {METASTORE}\nOS/Arch: {system}/{architecture}\n"
    )
}
