//! The data folder: whose it is, and where things are in it.
//!
//! ```text
//! <data-dir>/member/METASTORE   whose folder this is: {"format":1,"engine":"rocksdb"}
//! <data-dir>/member/LOCK        held while a member runs on it
//! <data-dir>/member/log         raft's log, unless --wal-dir puts it elsewhere
//! <data-dir>/member/state       the engine
//! <data-dir>/fixtures           certificates of --auto-tls and --peer-auto-tls
//! ```
//!
//! Promises that a folder of etcd, of another engine or of a newer format is refused before anything in it is
//! touched. What stands in `log` and `state` is the rooms' business.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use metastore_engine::Kind;
use serde::{Deserialize, Serialize};

use crate::config::Data;
use crate::go_text;

/// The format that this build writes.
const FORMAT: u32 = 1;
const MARKER: &str = "METASTORE";
const MARKER_TEMPORARY: &str = "METASTORE.tmp";
const LOCK: &str = "LOCK";
/// Made and removed at once, to see whether the folder can be written; a power cut may leave it.
const PROBE: &str = ".touch";
const PRIVATE: u32 = 0o700;

/// A data folder that this process has to itself.
#[derive(Debug)]
pub struct DataDirectory {
    log: PathBuf,
    state: PathBuf,
    fixtures: PathBuf,
    /// Locked while it is open.
    _lock: File,
}

/// Why a data folder is not used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(
        "{} holds data of etcd, which MetaStore does not touch: restore a snapshot of that etcd into a new data \
         directory with `metastore snapshot restore`, or convert this one with `metastore migrate`",
        .0.display()
    )]
    Etcd(PathBuf),
    #[error(
        "{} was made with --storage-engine={found} and cannot be used with --storage-engine={wanted}: start with \
         the same engine, or bring the data over with `metastore snapshot restore` or `metastore migrate`",
        .path.display()
    )]
    OtherEngine {
        path: PathBuf,
        found: String,
        wanted: &'static str,
    },
    #[error(
        "{} has format {found}, and this version of MetaStore knows format {FORMAT}: start the version that made \
         it, or bring the data over with `metastore snapshot restore` or `metastore migrate`",
        .path.display()
    )]
    NewerFormat { path: PathBuf, found: u32 },
    #[error("{} cannot be understood: {reason}", .path.display())]
    DamagedMarker { path: PathBuf, reason: String },
    #[error(
        "{} holds files that MetaStore did not write ({names:?}) and is not touched: choose another data \
         directory; data of etcd comes over with `metastore snapshot restore` or `metastore migrate`",
        .path.display()
    )]
    Foreign { path: PathBuf, names: Vec<String> },
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error("{}", go_text::path_error(.operation, .path, .error))]
    Io {
        operation: &'static str,
        path: PathBuf,
        error: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
    engine: String,
}

impl DataDirectory {
    /// Takes the folder that the configuration names; makes it where there is none. An empty folder is fine.
    ///
    /// # Errors
    /// Where it is somebody else's, in use, or cannot be written.
    pub fn open(data: &Data) -> Result<Self, Error> {
        let member = data.directory.join("member");
        refuse_etcd(data, &member)?;
        let is_new = !is_ours(&member, data.engine)?;
        warn_of_strangers(&data.directory);
        for folder in [&data.directory, &member] {
            make_private(folder)?;
        }
        let lock = lock(&member)?;
        // Another process may have been between the first look and the lock.
        if is_new && !is_ours(&member, data.engine)? {
            write_marker(&member, data.engine)?;
        }
        let log = data
            .log_directory
            .clone()
            .unwrap_or_else(|| member.join("log"));
        let state = member.join("state");
        make_private(&log)?;
        make_private(&state)?;
        let directory = data.directory.display().to_string();
        if is_new {
            tracing::info!(
                data_dir = directory,
                dir_type = "empty",
                "initializing the data directory"
            );
        } else {
            tracing::info!(
                data_dir = directory,
                dir_type = "member",
                "server has already been initialized"
            );
        }
        Ok(Self {
            log,
            state,
            fixtures: data.directory.join("fixtures"),
            _lock: lock,
        })
    }

    /// Where raft's log is kept.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Where the engine is kept.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Where generated certificates of a port (`client`, `peer`) are kept.
    pub fn fixtures(&self, port: &str) -> PathBuf {
        self.fixtures.join(port)
    }
}

fn failure(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::Io {
        operation,
        path,
        error,
    }
}

/// The names in a folder; none where there is no folder.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failure("open", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(
            entry
                .map_err(failure("open", folder))?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

/// etcd keeps `member/snap` and `member/wal`, its v2 proxy kept `proxy`, and a folder of its own for the log
/// holds `<sequence>-<index>.wal`; the segments of MetaStore's log have one number.
fn refuse_etcd(data: &Data, member: &Path) -> Result<(), Error> {
    let in_member = names(member)?;
    let etcd = in_member.iter().any(|name| name == "snap" || name == "wal")
        || names(&data.directory)?.iter().any(|name| name == "proxy");
    if etcd {
        return Err(Error::Etcd(data.directory.clone()));
    }
    if let Some(log) = &data.log_directory
        && names(log)?
            .iter()
            .any(|name| name.ends_with(".wal") && name.contains('-'))
    {
        return Err(Error::Etcd(log.clone()));
    }
    Ok(())
}

/// Whether `member` carries our mark and fits; false where there is nothing yet.
fn is_ours(member: &Path, engine: Kind) -> Result<bool, Error> {
    let path = member.join(MARKER);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The mark is the first thing that a member writes, but for these.
            let mut strangers = names(member)?;
            strangers.retain(|name| ![LOCK, MARKER_TEMPORARY, PROBE].contains(&name.as_str()));
            if strangers.is_empty() {
                return Ok(false);
            }
            return Err(Error::Foreign {
                path: member.to_owned(),
                names: strangers,
            });
        }
        Err(error) => return Err(failure("open", &path)(error)),
    };
    let marker: Marker = serde_json::from_str(&text).map_err(|error| Error::DamagedMarker {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    if marker.format > FORMAT {
        return Err(Error::NewerFormat {
            path: member.to_owned(),
            found: marker.format,
        });
    }
    if marker.engine != engine.name() {
        return Err(Error::OtherEngine {
            path: member.to_owned(),
            found: marker.engine,
            wanted: engine.name(),
        });
    }
    Ok(true)
}

/// Writes the mark whole or not at all, and makes it durable.
fn write_marker(member: &Path, engine: Kind) -> Result<(), Error> {
    let marker = Marker {
        format: FORMAT,
        engine: engine.name().to_owned(),
    };
    let text =
        serde_json::to_string(&marker).map_err(|error| failure("write", member)(error.into()))?;
    let temporary = member.join(MARKER_TEMPORARY);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, member.join(MARKER))?;
        File::open(member)?.sync_all()
    };
    write().map_err(failure("write", &temporary))
}

/// Makes the entry of a folder in its own folder durable.
fn sync_parent(folder: &Path) -> Result<(), Error> {
    let parent = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(failure("sync", parent))
}

/// Makes the folder, for this user alone; one that is there keeps its rights, with a warning, and must be
/// writable (`TouchDirAll` in `client/pkg/fileutil/fileutil.go`).
fn make_private(folder: &Path) -> Result<(), Error> {
    if let Ok(metadata) = fs::metadata(folder) {
        let mode = metadata.permissions().mode() & 0o777;
        if mode != PRIVATE {
            let error = format!(
                "directory {folder:?} exist, but the permission is {mode:o}. The recommended permission is \
                 {PRIVATE:o} to prevent possible unprivileged access to the data"
            );
            tracing::warn!(error, "check file permission");
        }
    } else {
        let new: Vec<_> = folder
            .ancestors()
            .take_while(|folder| !folder.exists())
            .collect();
        DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE)
            .create(folder)
            .map_err(failure("mkdir", folder))?;
        // A power cut must not take a folder from under what is written into it.
        new.into_iter().try_for_each(sync_parent)?;
    }
    let probe = folder.join(PROBE);
    fs::write(&probe, "")
        .and_then(|()| fs::remove_file(&probe))
        .map_err(failure("open", &probe))
}

fn lock(member: &Path) -> Result<File, Error> {
    let path = member.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failure("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(member.to_owned())),
        Err(TryLockError::Error(error)) => Err(failure("lock", &path)(error)),
    }
}

/// As etcd: what does not belong here is told, and left alone.
fn warn_of_strangers(directory: &Path) {
    for name in names(directory).unwrap_or_default() {
        if name != "member" && name != "fixtures" {
            let data_dir = directory.display().to_string();
            tracing::warn!(
                filename = name,
                data_dir,
                "found invalid file under data directory"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn data(folder: &TempDir, engine: Kind) -> Data {
        Data {
            directory: folder.path().join("a.etcd"),
            log_directory: None,
            engine,
            value_cache_bytes: 0,
            engine_memory_bytes: 0,
            log_retention_bytes: 0,
            fsync: true,
        }
    }

    fn folder() -> TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn refusal(data: &Data) -> String {
        DataDirectory::open(data)
            .expect_err("a refusal")
            .to_string()
    }

    #[test]
    fn a_new_folder_is_private_and_can_be_opened_again() {
        let folder = folder();
        let data = data(&folder, Kind::Memory);
        let first = DataDirectory::open(&data).expect("a data directory");
        assert_eq!(first.log(), data.directory.join("member/log"));
        assert_eq!(first.state(), data.directory.join("member/state"));
        for path in [
            &data.directory,
            &data.directory.join("member"),
            first.log(),
            first.state(),
        ] {
            assert_eq!(
                fs::metadata(path).expect("a folder").permissions().mode() & 0o777,
                0o700
            );
        }
        drop(first);
        DataDirectory::open(&data).expect("the same data directory");
    }

    #[test]
    fn an_empty_folder_is_fine_and_so_is_one_with_lost_and_found() {
        let folder = folder();
        let data = data(&folder, Kind::Memory);
        fs::create_dir_all(data.directory.join("lost+found")).expect("made");
        DataDirectory::open(&data).expect("a data directory");
    }

    #[test]
    fn two_members_never_have_one_folder() {
        let folder = folder();
        let data = data(&folder, Kind::Memory);
        let _first = DataDirectory::open(&data).expect("a data directory");
        assert!(refusal(&data).ends_with("a.etcd/member is in use by another process"));
    }

    #[test]
    fn a_folder_of_etcd_is_refused_untouched() {
        for name in ["member/snap", "member/wal", "proxy"] {
            let folder = folder();
            let data = data(&folder, Kind::RocksDb);
            fs::create_dir_all(data.directory.join(name)).expect("made");
            let before = names(&data.directory.join("member")).expect("names");
            let text = refusal(&data);
            assert!(
                text.contains("metastore snapshot restore") && text.contains("metastore migrate"),
                "{text}"
            );
            assert_eq!(
                names(&data.directory.join("member")).expect("names"),
                before
            );
        }
    }

    #[test]
    fn a_log_folder_of_etcd_is_refused() {
        let folder = folder();
        let log = folder.path().join("log");
        fs::create_dir(&log).expect("made");
        fs::write(log.join("0000000000000000-0000000000000000.wal"), "").expect("written");
        let data = Data {
            log_directory: Some(log),
            ..data(&folder, Kind::RocksDb)
        };
        assert!(refusal(&data).contains("holds data of etcd"));
        assert!(!data.directory.exists());
    }

    #[test]
    fn a_log_folder_of_ones_own_is_opened_again() {
        let folder = folder();
        let data = Data {
            log_directory: Some(folder.path().join("log")),
            ..data(&folder, Kind::Memory)
        };
        let first = DataDirectory::open(&data).expect("a data directory");
        fs::write(first.log().join("0000000000000001.wal"), "").expect("written");
        drop(first);
        DataDirectory::open(&data).expect("the same data directory");
    }

    #[test]
    fn another_engine_a_newer_format_and_strangers_are_refused() {
        let folder = folder();
        let data = data(&folder, Kind::Memory);
        let member = data.directory.join("member");
        drop(DataDirectory::open(&data).expect("a data directory"));
        let other = Data {
            engine: Kind::RocksDb,
            ..data.clone()
        };
        assert!(
            refusal(&other).contains(
                "--storage-engine=memory and cannot be used with --storage-engine=rocksdb"
            )
        );
        fs::write(member.join(MARKER), "{\"format\":2,\"engine\":\"memory\"}").expect("written");
        assert!(refusal(&data).contains("has format 2"));
        fs::write(member.join(MARKER), "{").expect("written");
        assert!(refusal(&data).contains("cannot be understood"));
        fs::remove_file(member.join(MARKER)).expect("removed");
        assert!(refusal(&data).contains("files that MetaStore did not write"));
    }

    #[test]
    fn a_start_that_broke_off_before_the_mark_is_taken_up() {
        let folder = folder();
        let data = data(&folder, Kind::Memory);
        let member = data.directory.join("member");
        fs::create_dir_all(&member).expect("made");
        fs::write(member.join(LOCK), "").expect("written");
        fs::write(member.join(MARKER_TEMPORARY), "{").expect("written");
        fs::write(member.join(PROBE), "").expect("written");
        DataDirectory::open(&data).expect("a data directory");
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_told() {
        let folder = folder();
        let data = data(&folder, Kind::Memory);
        fs::write(&data.directory, "").expect("written");
        assert!(
            refusal(&data).ends_with("not a directory"),
            "{}",
            refusal(&data)
        );
    }
}
