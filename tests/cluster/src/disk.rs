//! A small ext4 of its own, on a loop device, that can be filled up.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tempfile::TempDir;

/// A mounted file system. Dropping it unmounts; whoever uses it must have ended.
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Makes and mounts an ext4 of so many MiB; needs root.
    pub fn new(mebibytes: u64) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("metastore-disk-")
            .tempdir()?;
        let image = folder.path().join("image");
        fs::File::create(&image)?.set_len(mebibytes << 20)?;
        // No blocks for root alone: members of these tests are root.
        run("mkfs.ext4", &["-q", "-F", "-m", "0"], &[&image])?;
        let disk = Self { folder };
        fs::create_dir(disk.path())?;
        run("mount", &["-o", "loop"], &[&image, &disk.path()])?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// Bytes that are free.
    pub fn free(&self) -> Result<u64> {
        let stat = statvfs(self.path())?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Takes all space but so many MiB away.
    pub fn fill(&self, leave_mebibytes: u64) -> Result<()> {
        let mut left = self.free()?.saturating_sub(leave_mebibytes << 20);
        let hog = fs::File::options()
            .create(true)
            .append(true)
            .open(self.hog())?;
        let mut end = hog.metadata()?.len();
        // The file system keeps a few blocks for itself, so that the last part may be too much.
        let mut part = left;
        while part >= 4096 {
            match fallocate(hog.as_fd(), FallocateFlags::empty(), end, part) {
                Ok(()) => {
                    end += part;
                    left -= part;
                }
                Err(rustix::io::Errno::NOSPC) => part /= 2,
                Err(error) => return Err(error).context("filling the disk"),
            }
            part = part.min(left);
        }
        Ok(())
    }

    /// Gives the space back that [`Self::fill`] took.
    pub fn relieve(&self) -> Result<()> {
        fs::remove_file(self.hog()).context("giving space back")
    }

    fn hog(&self) -> PathBuf {
        self.path().join("hog")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &[], &[&self.path()]) {
            eprintln!("{} is still mounted: {error:#}", self.path().display());
        }
    }
}

fn run(program: &str, options: &[&str], paths: &[&Path]) -> Result<()> {
    let paths = paths.iter().map(|path| path.as_os_str());
    let arguments = options.iter().map(OsStr::new).chain(paths);
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program} (it is in Debian's e2fsprogs and mount)"))?;
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
