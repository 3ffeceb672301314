//! The engine's directory: whose it is, and who has it open.
//!
//! Promises: a directory of another kind, of a newer format or with files of somebody else is
//! refused before anything in it is touched; two engines never have one directory open. Must not
//! know what the engines keep in it.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Kind};

const FORMAT: &str = "FORMAT";
const FORMAT_TEMPORARY: &str = "FORMAT.tmp";
const LOCK: &str = "LOCK";

/// First word of the FORMAT file; engine kind and format version follow.
const PROGRAM: &str = "metastore-engine";

/// The format version that this build writes, for either kind.
const VERSION: u32 = 1;

/// An engine's directory, locked for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    lock: File,
}

impl Directory {
    /// Creates the directory, or takes one that `kind` left.
    pub(crate) fn open(path: &Path, kind: Kind) -> Result<Self, Error> {
        let is_new = match fs::read_dir(path) {
            Ok(_) => !check(path, kind)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create(path)?;
                true
            }
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let lock = lock(path)?;
        // Another process may have been between the first check and the lock.
        if is_new && !check(path, kind)? {
            write_format(path, kind)?;
        }
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Closing the file would keep the lock for as long as a forked process has it open.
        let _ = self.lock.unlock();
    }
}

/// Makes the creation, renaming and removal of files in `directory` durable.
pub(crate) fn sync(directory: &Path) -> Result<(), Error> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io("sync", directory))
}

/// Bytes of the files in `directory`, not of folders below; what vanishes meanwhile counts as 0.
pub(crate) fn file_bytes(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum()
}

/// Creates the directory and those above it that are missing, durably.
fn create(path: &Path) -> Result<(), Error> {
    let is_missing = |directory: &&Path| !directory.as_os_str().is_empty() && !directory.exists();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(path).map_err(Error::io("create", path))?;
    for parent in missing.iter().filter_map(|directory| directory.parent()) {
        match parent.as_os_str().is_empty() {
            true => sync(Path::new("."))?,
            false => sync(parent)?,
        }
    }
    Ok(())
}

/// Whether the directory has our format; false where it is empty.
fn check(path: &Path, kind: Kind) -> Result<bool, Error> {
    let file = path.join(FORMAT);
    let foreign = |found: String| Error::Foreign {
        path: path.to_owned(),
        found,
        expected: format!("a {} engine of format {VERSION}", kind.name()),
    };
    let text = match fs::read(&file) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match stranger(path)? {
                None => Ok(false),
                Some(name) => Err(foreign(format!("{name:?} and no FORMAT file"))),
            };
        }
        Err(error) => return Err(Error::io("read", &file)(error)),
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [PROGRAM, found_kind, version] = words[..] else {
        return Err(foreign(format!("an unknown format {:?}", text.trim())));
    };
    let known = version
        .parse::<u32>()
        .is_ok_and(|version| (1..=VERSION).contains(&version));
    if found_kind == kind.name() && known {
        return Ok(true);
    }
    Err(foreign(format!(
        "a {found_kind} engine of format {version}"
    )))
}

/// The name of a file that an engine would not leave behind in a directory without FORMAT.
fn stranger(path: &Path) -> Result<Option<String>, Error> {
    for entry in fs::read_dir(path).map_err(Error::io("read", path))? {
        let name = entry.map_err(Error::io("read", path))?.file_name();
        if name != LOCK && name != FORMAT_TEMPORARY && name != "lost+found" {
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

fn lock(path: &Path) -> Result<File, Error> {
    let name = path.join(LOCK);
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&name)
        .map_err(Error::io("open", &name))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &name)(error)),
    }
}

fn write_format(path: &Path, kind: Kind) -> Result<(), Error> {
    let (temporary, name) = (path.join(FORMAT_TEMPORARY), path.join(FORMAT));
    let text = format!("{PROGRAM} {} {VERSION}\n", kind.name());
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &name)
    };
    write().map_err(Error::io("write", &name))?;
    sync(path)
}
