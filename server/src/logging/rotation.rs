//! A log file that is renamed when it is full, as lumberjack does it for etcd.
//!
//! `etcd.log` becomes `etcd-2026-11-23T20-40-52.419.log`; old files go when they are too many or too old.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::options::RotationOptions;
use super::timestamp;

const DAY: Duration = Duration::from_secs(86_400);

/// The open file.
pub(super) struct RotatingFile {
    path: PathBuf,
    options: RotationOptions,
    file: File,
    bytes: u64,
}

impl RotatingFile {
    /// Opens the file behind what it already holds; its folder is created.
    pub(super) fn open(path: &Path, options: RotationOptions) -> io::Result<Self> {
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::create_dir_all(folder)?;
        }
        let file = append_to(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            options,
            file,
            bytes,
        })
    }

    /// Writes a line, into a new file where it does not fit.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.options.max_bytes {
            self.rotate(SystemTime::now())?;
        }
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self, now: SystemTime) -> io::Result<()> {
        let (stem, extension) = self.name_parts();
        let name = format!("{stem}-{}{extension}", timestamp::of_file(now));
        fs::rename(&self.path, self.path.with_file_name(name))?;
        self.file = append_to(&self.path)?;
        self.bytes = 0;
        self.remove_old(now)
    }

    fn remove_old(&self, now: SystemTime) -> io::Result<()> {
        let mut old = self.old_files()?;
        // The time in the names sorts them; the newest first.
        old.sort();
        old.reverse();
        for (at, path) in old.iter().enumerate() {
            let too_many = self.options.max_backups > 0 && at >= self.options.max_backups;
            let too_old = self.options.max_age_days > 0
                && fs::metadata(path)?.modified()?
                    < now - DAY * u32::try_from(self.options.max_age_days).unwrap_or(u32::MAX);
            if too_many || too_old {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn old_files(&self) -> io::Result<Vec<PathBuf>> {
        let (stem, extension) = self.name_parts();
        let start = format!("{stem}-");
        let folder = self
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut old = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let middle = name
                .strip_prefix(&start)
                .and_then(|rest| rest.strip_suffix(&extension));
            // Only names that this file gave: 2026-11-23T20-40-52.419.
            if middle.is_some_and(|time| time.len() == 23 && time.as_bytes()[10] == b'T') {
                old.push(path);
            }
        }
        Ok(old)
    }

    fn name_parts(&self) -> (String, String) {
        let part = |part: Option<&std::ffi::OsStr>| {
            part.unwrap_or_default().to_string_lossy().into_owned()
        };
        let extension = part(self.path.extension());
        let dot = if extension.is_empty() { "" } else { "." };
        (part(self.path.file_stem()), format!("{dot}{extension}"))
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_renamed_and_the_oldest_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("logs/a.log");
        let options = RotationOptions {
            max_bytes: 8,
            max_age_days: 0,
            max_backups: 2,
        };
        let mut file = RotatingFile::open(&path, options).expect("the file");
        fs::write(folder.path().join("logs/a-notes.log"), "kept").expect("another file");
        for second in 0..5 {
            file.write(b"12345\n").expect("written");
            file.rotate(SystemTime::UNIX_EPOCH + Duration::from_secs(second))
                .expect("rotated");
        }
        file.write(b"123456\n").expect("written");
        file.write(b"1\n").expect("written, in a new file");
        assert_eq!(fs::read_to_string(&path).expect("the file"), "1\n");
        assert_eq!(file.old_files().expect("old files").len(), 2);
        assert!(folder.path().join("logs/a-notes.log").exists());
    }

    #[test]
    fn old_files_go_by_age() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = RotationOptions {
            max_bytes: 8,
            max_age_days: 1,
            max_backups: 0,
        };
        let mut file = RotatingFile::open(&folder.path().join("a"), options).expect("the file");
        let now = SystemTime::now();
        file.rotate(now).expect("rotated");
        assert_eq!(file.old_files().expect("old files").len(), 1);
        file.rotate(now + DAY * 2).expect("rotated");
        assert_eq!(file.old_files().expect("old files").len(), 0);
    }
}
