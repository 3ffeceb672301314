//! What can go wrong with the log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the log cannot do what it was asked. Cheap to clone: one failure is told to all that wait.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Something other than a torn last write is wrong with a file. Nothing was changed.
    #[error("corrupt raft log: {} at offset {offset}: {what}", file.display())]
    Corrupt {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A newer version wrote the log. Nothing was changed.
    #[error("raft log {} has format {found}, this version reads up to {known}", file.display())]
    NewerFormat {
        /// The segment.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// Another process has the log open.
    #[error("raft log {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The operating system refused. After a failed write or sync nothing more is written.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: Arc<io::Error>,
    },
    /// An appended entry does not follow the last one.
    #[error("entry {found} appended to a log that goes on at {expected}")]
    Gap {
        /// The index that comes next.
        expected: u64,
        /// The index of the entry.
        found: u64,
    },
    /// An entry is longer than a record can be.
    #[error("entry of {0} bytes is too large for the log")]
    TooLarge(usize),
    /// The log has been closed.
    #[error("raft log is closed")]
    Closed,
}

impl Error {
    pub(super) fn io(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io {
            what,
            path: path.to_owned(),
            source: Arc::new(source.into()),
        }
    }

    pub(super) fn corrupt(file: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt {
            file: file.to_owned(),
            offset,
            what: what.into(),
        }
    }

    /// True when the disk or a quota is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Corrupt { .. } | Error::NewerFormat { .. } => io::ErrorKind::InvalidData,
            Error::Gap { .. } | Error::TooLarge(_) => io::ErrorKind::InvalidInput,
            Error::Io { source, .. } => source.kind(),
            Error::InUse(_) => io::ErrorKind::ResourceBusy,
            Error::Closed => io::ErrorKind::BrokenPipe,
        };
        io::Error::new(kind, error)
    }
}
