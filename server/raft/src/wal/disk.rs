//! The log's directory and files: all of its I/O is here.
//!
//! Promises that a segment file has its full length on disk, written with zeros, before it appears under
//! its name. Must not know what is in a segment.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::Error;

const SUFFIX: &str = ".wal";
const UNFINISHED: &str = ".tmp";
/// Bytes of zeros written between two syncs: more would hold up the log's own, less takes long.
const ZEROS: usize = 256 << 10;

/// The directory of a log, locked for this process.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    handle: File,
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Closing the file would keep the lock for as long as a forked process has it open.
        let _ = self.handle.unlock();
    }
}

/// What is in a log's directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Ids of the segments, ascending.
    pub(super) segments: Vec<u64>,
    /// Segments whose preparation was interrupted.
    pub(super) unfinished: Vec<PathBuf>,
}

impl Directory {
    /// Opens the directory, creates it when it is missing, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        if !path.is_dir() {
            let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
            created.map_err(|error| Error::io("create", path, error))?;
            if let Some(parent) = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
            {
                let synced = File::open(parent).and_then(|parent| parent.sync_all());
                synced.map_err(|error| Error::io("sync", parent, error))?;
            }
        }
        let handle = File::open(path).map_err(|error| Error::io("open", path, error))?;
        match handle.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                handle,
            }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", path, error)),
        }
    }

    /// The segments and leftovers; files of other names are none of the log's business.
    pub(super) fn list(&self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        let failed = |error: io::Error| Error::io("list", &self.path, error);
        for item in fs::read_dir(&self.path).map_err(failed)? {
            let item = item.map_err(failed)?;
            let name = item.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(id) = name.strip_suffix(SUFFIX).and_then(parse_id) {
                listing.segments.push(id);
            } else if name.strip_suffix(UNFINISHED).and_then(parse_id).is_some() {
                listing.unfinished.push(item.path());
            }
        }
        listing.segments.sort_unstable();
        Ok(listing)
    }

    /// The file of a segment.
    pub(super) fn path_of(&self, id: u64) -> PathBuf {
        self.path.join(format!("{id:016x}{SUFFIX}"))
    }

    /// Makes creations and removals durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.handle
            .sync_all()
            .map_err(|error| Error::io("sync", &self.path, error))
    }

    /// Removes a segment, durably.
    pub(super) fn remove(&self, id: u64) -> Result<(), Error> {
        self.remove_file(&self.path_of(id))
    }

    /// Removes a file of the log, durably.
    pub(super) fn remove_file(&self, path: &Path) -> Result<(), Error> {
        fs::remove_file(path).map_err(|error| Error::io("remove", path, error))?;
        self.sync()
    }

    /// Bytes that may still be written on the directory's file system.
    pub(super) fn free_bytes(&self) -> Result<u64, Error> {
        let stat = rustix::fs::fstatvfs(&self.handle)
            .map_err(|error| Error::io("stat", &self.path, error))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Opens an existing segment.
    pub(super) fn open_segment(&self, id: u64) -> Result<SegmentFile, Error> {
        let path = self.path_of(id);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(|error| Error::io("open", &path, error))?;
        let bytes = file
            .metadata()
            .map_err(|error| Error::io("stat", &path, error))?
            .len();
        Ok(SegmentFile {
            id,
            path,
            file,
            bytes,
        })
    }

    /// Makes a segment of `bytes` zeros after `head`, in steps; `step` is asked before each, and may
    /// wait. Gives none when `step` says to stop. What is left after a failure has another suffix.
    pub(super) fn create_segment(
        &self,
        id: u64,
        bytes: u64,
        head: &[u8],
        step: &mut dyn FnMut() -> bool,
    ) -> Result<Option<SegmentFile>, Error> {
        let unfinished = self.path.join(format!("{id:016x}{UNFINISHED}"));
        let made = self.fill(&unfinished, bytes, head, step);
        if !matches!(made, Ok(Some(_))) {
            // Only to give the space back: a leftover does no harm.
            let _ = fs::remove_file(&unfinished);
        }
        let Some(file) = made? else { return Ok(None) };
        let path = self.path_of(id);
        fs::rename(&unfinished, &path).map_err(|error| Error::io("rename", &unfinished, error))?;
        self.sync()?;
        Ok(Some(SegmentFile {
            id,
            path,
            file,
            bytes,
        }))
    }

    fn fill(
        &self,
        path: &Path,
        bytes: u64,
        head: &[u8],
        step: &mut dyn FnMut() -> bool,
    ) -> Result<Option<File>, Error> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600);
        let file = options
            .open(path)
            .map_err(|error| Error::io("create", path, error))?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // Not every file system can; writing zeros does it as well, only later.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(Error::io("allocate", path, error)),
        }
        let zeros = vec![0; ZEROS];
        let mut offset = 0;
        while offset < bytes {
            if !step() {
                return Ok(None);
            }
            let len = (bytes - offset).min(ZEROS as u64);
            let chunk = &zeros[..usize::try_from(len).expect("a step fits memory")];
            file.write_all_at(chunk, offset)
                .map_err(|error| Error::io("allocate", path, error))?;
            // In small portions, so that the log's own sync never waits behind much.
            file.sync_data()
                .map_err(|error| Error::io("sync", path, error))?;
            offset += len;
        }
        file.write_all_at(head, 0)
            .map_err(|error| Error::io("write", path, error))?;
        file.sync_all()
            .map_err(|error| Error::io("sync", path, error))?;
        Ok(Some(file))
    }
}

fn parse_id(name: &str) -> Option<u64> {
    (name.len() == 16)
        .then(|| u64::from_str_radix(name, 16).ok())
        .flatten()
}

/// One file of the log.
#[derive(Debug)]
pub(super) struct SegmentFile {
    /// Its number; also its name.
    pub(super) id: u64,
    pub(super) path: PathBuf,
    file: File,
    /// Its length, which never changes.
    pub(super) bytes: u64,
}

impl SegmentFile {
    /// Fills `out` from `offset`.
    pub(super) fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.file
            .read_exact_at(out, offset)
            .map_err(|error| Error::io("read", &self.path, error))
    }

    /// Writes `bytes` at `offset`; durable only after [`Self::sync`].
    pub(super) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| Error::io("write", &self.path, error))
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.file
            .sync_data()
            .map_err(|error| Error::io("sync", &self.path, error))
    }
}
