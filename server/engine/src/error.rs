//! What can go wrong in an engine, in terms its callers can act on.

use std::io;
use std::path::{Path, PathBuf};

/// An engine's failure. No variant is ever swallowed inside the engine: a failed `write` changed
/// nothing, a failed `flush` made nothing durable that was not durable before.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory belongs to another kind of engine, to a newer format, or to another program.
    #[error("{} holds {found}, expected {expected}", path.display())]
    Foreign {
        /// The engine's directory.
        path: PathBuf,
        /// What the directory holds, in words.
        found: String,
        /// What this engine can open, in words.
        expected: String,
    },
    /// Another process (or another engine of this process) has the directory open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The engine's directory.
        path: PathBuf,
    },
    /// A file's content is not what was written. The engine never guesses what was lost.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The damaged file, or the directory where the file is not known.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// This build has no such engine.
    #[error("this build has no rocksdb engine")]
    NotBuilt,
    /// The operating system refused an operation on a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// RocksDB failed; its text is the source.
    #[error("rocksdb cannot {action}: {source}")]
    Storage {
        /// What was tried, as a verb.
        action: &'static str,
        /// What RocksDB answered.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Whether the disk is full: with room again, the same call succeeds and nothing was lost.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Error::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            // RocksDB hands its errors over as text.
            Error::Storage { source, .. } => source.to_string().contains("No space left on device"),
            _ => false,
        }
    }

    /// Wraps an error of the operating system: `.map_err(Error::io("sync", &path))`.
    pub(crate) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Error + 'a {
        move |source| Error::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// A file whose content does not fit.
    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Error {
        Error::Damaged {
            path: path.to_owned(),
            what: what.into(),
        }
    }
}
