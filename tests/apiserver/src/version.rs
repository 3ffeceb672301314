//! Which Kubernetes.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use metastore_harness::cache_folder;

/// A minor version of Kubernetes that `tests/apiserver/build.sh` builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 1.34, which lists in pages.
    V1_34,
    /// 1.37, which lists through RangeStream.
    V1_37,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_34 => "1.34",
            Self::V1_37 => "1.37",
        })
    }
}

impl Version {
    /// Every version.
    pub const ALL: [Self; 2] = [Self::V1_34, Self::V1_37];

    /// Whether recursive lists of the store are streamed (gate `EtcdRangeStream`).
    pub fn streams_lists(self) -> bool {
        self == Self::V1_37
    }

    /// The version of this name.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|version| version.to_string() == name)
            .with_context(|| format!("no Kubernetes {name} here; there are 1.34 and 1.37"))
    }

    /// `kube-apiserver` or `kubectl` of this version; an error that says what to do when it has not been built.
    pub fn binary(self, name: &str) -> Result<PathBuf> {
        let path = cache_folder()?
            .join("kubernetes")
            .join(self.to_string())
            .join(name);
        if !path.is_file() {
            bail!(
                "no {}: run tests/apiserver/build.sh {self} first",
                path.display()
            );
        }
        Ok(path)
    }
}
