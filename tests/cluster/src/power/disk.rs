//! The model: what a process sees, what is durable, and what is between.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::content::{Change, Content};

/// A file or folder. Number 1 is the root; numbers are never used twice, so that a removed file can be used by whoever
/// has it open.
pub(super) type Number = u64;
pub(super) const ROOT: Number = 1;

/// A change of a disk, or a sync, as it is recorded.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Create {
        parent: Number,
        name: OsString,
        number: Number,
        is_folder: bool,
    },
    Remove {
        parent: Number,
        name: OsString,
    },
    Rename {
        from: (Number, OsString),
        to: (Number, OsString),
    },
    Write {
        number: Number,
        offset: u64,
        data: Arc<[u8]>,
    },
    Resize {
        number: Number,
        bytes: u64,
    },
    SyncFile(Number),
    /// What was to be synced is forgotten, though it can still be read: a later sync that succeeds does not bring it
    /// back.
    SyncFailed(Number),
    SyncFolder(Number),
}

/// Names set (or removed) together.
pub(super) type Naming = Vec<(OsString, Option<Number>)>;

#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    pub(super) now: BTreeMap<OsString, Number>,
    pub(super) durable: BTreeMap<OsString, Number>,
    pub(super) pending: Vec<Naming>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) now: Content,
    pub(super) durable: Content,
    pub(super) pending: Vec<Change>,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Folder(Folder),
    File(File),
}

/// The whole file system.
#[derive(Clone, Debug)]
pub struct Disk {
    pub(super) nodes: HashMap<Number, Node>,
    pub(super) next: Number,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            nodes: HashMap::from([(ROOT, Node::Folder(Folder::default()))]),
            next: ROOT + 1,
        }
    }
}

impl Disk {
    pub(super) fn folder(&self, number: Number) -> Option<&Folder> {
        match self.nodes.get(&number)? {
            Node::Folder(folder) => Some(folder),
            Node::File(_) => None,
        }
    }

    fn folder_mut(&mut self, number: Number) -> Option<&mut Folder> {
        match self.nodes.get_mut(&number)? {
            Node::Folder(folder) => Some(folder),
            Node::File(_) => None,
        }
    }

    pub(super) fn file(&self, number: Number) -> Option<&File> {
        match self.nodes.get(&number)? {
            Node::File(file) => Some(file),
            Node::Folder(_) => None,
        }
    }

    pub(super) fn child(&self, parent: Number, name: &OsStr) -> Option<Number> {
        self.folder(parent)?.now.get(name).copied()
    }

    /// Makes an event happen. One about a file that does not exist is ignored: the mount has checked before.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Create {
                parent,
                name,
                number,
                is_folder,
            } => {
                let node = match is_folder {
                    true => Node::Folder(Folder::default()),
                    false => Node::File(File::default()),
                };
                self.nodes.insert(*number, node);
                self.next = self.next.max(number + 1);
                self.name(*parent, vec![(name.clone(), Some(*number))]);
            }
            Event::Remove { parent, name } => self.name(*parent, vec![(name.clone(), None)]),
            Event::Rename { from, to } => self.rename(from, to),
            Event::Write {
                number,
                offset,
                data,
            } => {
                let (offset, data) = (*offset, data.clone());
                self.change(*number, Change::Write { offset, data });
            }
            Event::Resize { number, bytes } => self.change(*number, Change::Resize(*bytes)),
            Event::SyncFile(number) => {
                if let Some(Node::File(file)) = self.nodes.get_mut(number) {
                    let pending = std::mem::take(&mut file.pending);
                    pending.iter().for_each(|change| file.durable.apply(change));
                }
            }
            Event::SyncFailed(number) => {
                if let Some(Node::File(file)) = self.nodes.get_mut(number) {
                    file.pending.clear();
                }
            }
            Event::SyncFolder(number) => {
                if let Some(folder) = self.folder_mut(*number) {
                    folder.pending.clear();
                    folder.durable = folder.now.clone();
                }
            }
        }
    }

    fn rename(&mut self, from: &(Number, OsString), to: &(Number, OsString)) {
        let Some(number) = self.child(from.0, &from.1) else {
            return;
        };
        let (gone, new) = ((from.1.clone(), None), (to.1.clone(), Some(number)));
        if from.0 == to.0 {
            self.name(from.0, vec![gone, new]);
        } else {
            self.name(to.0, vec![new]);
            self.name(from.0, vec![gone]);
        }
    }

    fn name(&mut self, parent: Number, naming: Naming) {
        if let Some(folder) = self.folder_mut(parent) {
            set_names(&mut folder.now, &naming);
            folder.pending.push(naming);
        }
    }

    fn change(&mut self, number: Number, change: Change) {
        if let Some(Node::File(file)) = self.nodes.get_mut(&number) {
            file.now.apply(&change);
            file.pending.push(change);
        }
    }

    /// Lays the disk out as a plain folder, as a process sees it.
    pub fn lay_out(&self, at: &Path) -> io::Result<()> {
        self.lay_out_folder(ROOT, at)
    }

    fn lay_out_folder(&self, number: Number, at: &Path) -> io::Result<()> {
        let Some(folder) = self.folder(number) else {
            return Ok(());
        };
        for (name, child) in &folder.now {
            let path = at.join(name);
            match self.nodes.get(child) {
                Some(Node::Folder(_)) => {
                    fs::create_dir(&path)?;
                    self.lay_out_folder(*child, &path)?;
                }
                Some(Node::File(file)) => file.now.lay_out(&fs::File::create(&path)?)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Bytes of all files that have a name.
    pub(super) fn bytes(&self) -> u64 {
        let files = self.nodes.values().filter_map(|node| match node {
            Node::File(file) => Some(file.now.bytes()),
            Node::Folder(_) => None,
        });
        files.sum()
    }
}

pub(super) fn set_names(names: &mut BTreeMap<OsString, Number>, naming: &Naming) {
    for (name, number) in naming {
        match number {
            Some(number) => names.insert(name.clone(), *number),
            None => names.remove(name),
        };
    }
}
