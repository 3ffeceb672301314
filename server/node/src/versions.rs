//! The versions that a member tells its clients and peers.

/// Versions, each a plain semantic version that clients parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// The etcd release whose API this server speaks.
    pub server: String,
    /// MetaStore's own.
    pub metastore: String,
}

impl Versions {
    /// The cluster version that a cluster of such members has: major and minor of the server's.
    pub fn cluster_version(&self) -> String {
        let mut parts = self.server.split('.');
        let (major, minor) = (parts.next().unwrap_or("0"), parts.next().unwrap_or("0"));
        format!("{major}.{minor}.0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_version_has_no_patch() {
        let versions = Versions {
            server: "3.7.3".into(),
            metastore: "0.1.0".into(),
        };
        assert_eq!(versions.cluster_version(), "3.7.0");
    }
}
