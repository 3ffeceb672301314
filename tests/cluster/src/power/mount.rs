//! The mounted file system.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use anyhow::{Context, Result};
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::disk::{Disk, Event, Node, Number, ROOT};
use super::recording::Recording;

/// Nobody changes the file system behind the kernel's back.
const TTL: Duration = Duration::from_secs(3600);
const BLOCK: u64 = 4096;
/// What the file system pretends to have room for.
const CAPACITY: u64 = 8 << 30;

/// What goes wrong on purpose.
#[derive(Debug, Default)]
pub struct Faults {
    syncs_fail: AtomicBool,
    writes_fail: AtomicBool,
    failed: AtomicU64,
}

impl Faults {
    /// From now on syncing a file fails (EIO), and forgets what was to be synced, as Linux does.
    pub fn fail_syncs(&self, fail: bool) {
        self.syncs_fail.store(fail, Ordering::SeqCst);
    }

    /// From now on writing fails for want of space (ENOSPC).
    pub fn fail_writes(&self, fail: bool) {
        self.writes_fail.store(fail, Ordering::SeqCst);
    }

    /// How often something has failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    fn hits(&self, fault: &AtomicBool) -> bool {
        let hit = fault.load(Ordering::SeqCst);
        self.failed.fetch_add(u64::from(hit), Ordering::SeqCst);
        hit
    }
}

struct State {
    disk: Disk,
    before: Disk,
    events: Vec<(Instant, Event)>,
}

/// A mounted disk whose every change is written down. Dropping it unmounts; whoever uses it must have ended.
pub struct Recorder {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    faults: Arc<Faults>,
    session: Option<BackgroundSession>,
}

impl Recorder {
    /// Mounts `disk` at the folder `path`, which is made.
    pub fn mount(path: &Path, disk: Disk) -> Result<Self> {
        fs::create_dir_all(path).context("a folder to mount at")?;
        let state = Arc::new(Mutex::new(State {
            before: disk.clone(),
            disk,
            events: Vec::new(),
        }));
        let faults = Arc::new(Faults::default());
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("metastore-power-test".to_owned()),
            MountOption::NoAtime,
        ];
        let mounted = Mounted {
            state: state.clone(),
            faults: faults.clone(),
        };
        let session = fuser::spawn_mount(mounted, path, &config).with_context(|| {
            format!(
                "mounting a FUSE file system at {} (it needs root and /dev/fuse)",
                path.display()
            )
        })?;
        Ok(Self {
            path: path.to_owned(),
            state,
            faults,
            session: Some(session),
        })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many changes and syncs there have been.
    pub fn count(&self) -> usize {
        lock(&self.state).events.len()
    }

    /// What goes wrong on purpose.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What has happened until now.
    pub fn recording(&self) -> Recording {
        let state = lock(&self.state);
        Recording {
            before: state.before.clone(),
            events: state.events.clone(),
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
        {
            eprintln!("{} is still mounted: {error}", self.path.display());
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Mounted {
    state: Arc<Mutex<State>>,
    faults: Arc<Faults>,
}

impl State {
    fn happen(&mut self, event: Event) {
        self.disk.apply(&event);
        self.events.push((Instant::now(), event));
    }

    fn attributes(&self, number: Number) -> Option<FileAttr> {
        let (kind, perm, size) = match self.disk.nodes.get(&number)? {
            Node::Folder(_) => (FileType::Directory, 0o700, 0),
            Node::File(file) => (FileType::RegularFile, 0o600, file.now.bytes()),
        };
        Some(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK as u32,
            flags: 0,
        })
    }

    fn create(&mut self, parent: Number, name: &OsStr, is_folder: bool) -> Result<FileAttr, Errno> {
        if self.disk.child(parent, name).is_some() {
            return Err(Errno::EEXIST);
        }
        let number = self.disk.next;
        self.happen(Event::Create {
            parent,
            name: name.to_owned(),
            number,
            is_folder,
        });
        self.attributes(number).ok_or(Errno::EIO)
    }

    fn remove(&mut self, parent: Number, name: &OsStr) -> Result<(), Errno> {
        let number = self.disk.child(parent, name).ok_or(Errno::ENOENT)?;
        if self
            .disk
            .folder(number)
            .is_some_and(|folder| !folder.now.is_empty())
        {
            return Err(Errno::ENOTEMPTY);
        }
        let name = name.to_owned();
        self.happen(Event::Remove { parent, name });
        Ok(())
    }
}

fn answer(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Mounted {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Where the kernel offers less, that is fine too.
        let _ = config.set_max_write(1 << 20);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = lock(&self.state);
        let found = state.disk.child(parent.0, name);
        match found.and_then(|number| state.attributes(number)) {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match lock(&self.state).attributes(number.0) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = lock(&self.state);
        if let Some(bytes) = size {
            let number = number.0;
            state.happen(Event::Resize { number, bytes });
        }
        match state.attributes(number.0) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        match lock(&self.state).create(parent.0, name, true) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, lock(&self.state).remove(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, lock(&self.state).remove(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = lock(&self.state);
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        if state.disk.child(parent.0, name).is_none() {
            return reply.error(Errno::ENOENT);
        }
        state.happen(Event::Rename {
            from: (parent.0, name.to_owned()),
            to: (new_parent.0, new_name.to_owned()),
        });
        reply.ok();
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match lock(&self.state).create(parent.0, name, false) {
            Ok(attributes) => reply.created(
                &TTL,
                &attributes,
                Generation(0),
                FileHandle(0),
                FopenFlags::empty(),
            ),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match lock(&self.state).disk.file(number.0) {
            Some(file) => reply.data(&file.now.read(offset, size as usize)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if self.faults.hits(&self.faults.writes_fail) {
            return reply.error(Errno::ENOSPC);
        }
        lock(&self.state).happen(Event::Write {
            number: number.0,
            offset,
            data: data.into(),
        });
        reply.written(data.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if self.faults.hits(&self.faults.syncs_fail) {
            lock(&self.state).happen(Event::SyncFailed(number.0));
            return reply.error(Errno::EIO);
        }
        lock(&self.state).happen(Event::SyncFile(number.0));
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if self.faults.hits(&self.faults.syncs_fail) {
            return reply.error(Errno::EIO);
        }
        lock(&self.state).happen(Event::SyncFolder(number.0));
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let state = lock(&self.state);
        let Some(folder) = state.disk.folder(number.0) else {
            return reply.error(Errno::ENOTDIR);
        };
        let own = [(".", number.0), ("..", ROOT)].map(|(name, at)| (name.into(), at));
        let names = folder.now.iter().map(|(name, at)| (name.clone(), *at));
        for (position, (name, at)) in (1..)
            .zip(own.into_iter().chain(names))
            .skip(offset as usize)
        {
            let kind = match state.disk.folder(at) {
                Some(_) => FileType::Directory,
                None => FileType::RegularFile,
            };
            if reply.add(INodeNo(at), position, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let free = CAPACITY.saturating_sub(lock(&self.state).disk.bytes()) / BLOCK;
        reply.statfs(
            CAPACITY / BLOCK,
            free,
            free,
            1 << 20,
            1 << 20,
            BLOCK as u32,
            255,
            BLOCK as u32,
        );
    }

    fn fallocate(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let mut state = lock(&self.state);
        let bytes = state.disk.file(number.0).map_or(0, |file| file.now.bytes());
        if offset + length > bytes {
            state.happen(Event::Resize {
                number: number.0,
                bytes: offset + length,
            });
        }
        reply.ok();
    }
}
