//! Where a member keeps its engine, and how a received state takes its place.
//!
//! ```text
//! state/CURRENT   the number of the directory in use, in decimal
//! state/<n>/      an engine
//! ```
//! A received state is written beside the one in use and becomes it by one rename of `CURRENT`; what
//! is neither in use nor being received is removed at start.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use metastore_engine::{Engine, Kind, Options};
use parking_lot::Mutex;

const CURRENT: &str = "CURRENT";

/// Why the state could not be opened or put in place.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory itself gave trouble.
    #[error("state directory {}: {source}", path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `CURRENT` does not name a directory.
    #[error("state directory {}: CURRENT is damaged: {content:?}", path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What `CURRENT` holds.
        content: String,
    },
    /// The engine could not be opened.
    #[error(transparent)]
    Engine(#[from] metastore_engine::Error),
}

/// The directory of a member's state.
pub struct StateDirectory {
    path: PathBuf,
    kind: Kind,
    options: Options,
    number: Mutex<u64>,
}

impl StateDirectory {
    /// Opens the engine in use, making a new one where there is none.
    pub fn open(
        path: &Path,
        kind: Kind,
        options: Options,
    ) -> Result<(Self, Arc<dyn Engine>), StateError> {
        let at = |source| StateError::Directory {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(path).map_err(at)?;
        let number = match fs::read_to_string(path.join(CURRENT)) {
            Ok(content) => content.trim().parse().map_err(|_| StateError::Damaged {
                path: path.to_owned(),
                content: content.clone(),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_current(path, 1).map_err(at)?;
                1
            }
            Err(error) => return Err(at(error)),
        };
        remove_others(path, number).map_err(at)?;
        let engine = metastore_engine::open(kind, &path.join(number.to_string()), options.clone())?;
        Ok((
            Self {
                path: path.to_owned(),
                kind,
                options,
                number: Mutex::new(number),
            },
            engine,
        ))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The engine's kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Makes an empty engine beside the one in use.
    pub(crate) fn stage(&self) -> Result<Staged, StateError> {
        let number = *self.number.lock() + 1;
        let path = self.path.join(number.to_string());
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|source| StateError::Directory {
                path: path.clone(),
                source,
            })?;
        }
        let engine = metastore_engine::open(self.kind, &path, self.options.clone())?;
        Ok(Staged { number, engine })
    }

    /// Puts a staged engine, flushed before, in the place of the one in use.
    pub(crate) fn promote(&self, staged: &Staged) -> Result<(), StateError> {
        let at = |source| StateError::Directory {
            path: self.path.clone(),
            source,
        };
        write_current(&self.path, staged.number).map_err(at)?;
        *self.number.lock() = staged.number;
        Ok(())
    }

    /// Removes the directories that are not in use. The engine that was is closed once its last
    /// reader is gone; its open files stay readable until then.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        remove_others(&self.path, *self.number.lock())
    }
}

/// An engine that is being filled.
pub(crate) struct Staged {
    number: u64,
    /// The engine.
    pub(crate) engine: Arc<dyn Engine>,
}

fn write_current(path: &Path, number: u64) -> io::Result<()> {
    let new = path.join("CURRENT.new");
    let mut file = fs::File::create(&new)?;
    file.write_all(number.to_string().as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path.join(CURRENT))?;
    fs::File::open(path)?.sync_all()
}

fn remove_others(path: &Path, keep: u64) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.parse::<u64>().ok());
        if number.is_some_and(|number| number != keep) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_engine::{Batch, Space};

    #[test]
    fn a_promoted_state_is_the_one_opened_next() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let open = || {
            StateDirectory::open(directory.path(), Kind::Memory, Options::default()).expect("open")
        };
        let (state, first) = open();
        let mut batch = Batch::new();
        batch.put(Space::System, b"which", b"first");
        first.write(&batch).expect("write");
        let staged = state.stage().expect("stage");
        let mut batch = Batch::new();
        batch.put(Space::System, b"which", b"second");
        staged.engine.write(&batch).expect("write");
        staged.engine.flush().expect("flush");
        state.promote(&staged).expect("promote");
        drop((first, staged));
        drop(state);
        let (_, engine) = open();
        assert_eq!(
            engine.get(Space::System, b"which").expect("get").as_deref(),
            Some(b"second".as_slice())
        );
    }

    #[test]
    fn a_state_that_was_not_promoted_is_forgotten() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (state, engine) =
            StateDirectory::open(directory.path(), Kind::Memory, Options::default()).expect("open");
        let staged = state.stage().expect("stage");
        staged.engine.flush().expect("flush");
        drop((staged, engine));
        drop(state);
        let _opened =
            StateDirectory::open(directory.path(), Kind::Memory, Options::default()).expect("open");
        assert!(!directory.path().join("2").exists());
    }
}
