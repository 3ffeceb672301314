//! Building the index from what the engine holds.
//!
//! Promises: reads the index rows and the system rows once, never a value.

use std::ops::ControlFlow;

use metastore_engine::{Engine, Space};

use crate::Error;
use crate::compaction::{FINISHED, SCHEDULED};
use crate::index::{Entry, Older, Tree, Version, head_of};
use crate::meta_row::MetaRow;
use crate::persister::APPLIED;
use crate::revision::Revision;
use crate::size::revision_bytes;

/// What the engine holds, in memory.
pub(crate) struct Loaded {
    pub(crate) tree: Tree,
    /// Bytes of all revisions, and of the live ones.
    pub(crate) sizes: (u64, u64),
    pub(crate) revision: i64,
    /// -1 when never.
    pub(crate) scheduled: i64,
    pub(crate) finished: i64,
    pub(crate) applied: Option<Vec<u8>>,
}

/// One index row; its key lies in the arena.
struct Row {
    version: Version,
    lease: i64,
    key: u64,
    key_len: u32,
}

#[derive(Default)]
struct Rows {
    arena: Vec<u8>,
    rows: Vec<Row>,
    /// How many bytes all keys share at their start.
    shared: usize,
}

/// Reads everything.
pub(crate) fn load(engine: &dyn Engine) -> Result<Loaded, Error> {
    let scheduled = system_revision(engine, SCHEDULED)?;
    let finished = system_revision(engine, FINISHED)?;
    let applied = engine.get(Space::System, APPLIED)?;
    let rows = Rows::read(engine)?;
    let newest = rows.rows.last().map_or(1, |row| row.version.main);
    let (tree, sizes) = rows.into_tree();
    Ok(Loaded {
        tree,
        sizes,
        revision: newest.max(scheduled).max(1),
        scheduled,
        finished,
        applied,
    })
}

fn system_revision(engine: &dyn Engine, name: &[u8]) -> Result<i64, Error> {
    match engine.get(Space::System, name)? {
        None => Ok(-1),
        Some(row) => match <[u8; 8]>::try_from(&row[..]) {
            Ok(bytes) => Ok(i64::from_be_bytes(bytes)),
            Err(_) => Err(Error::Corrupt(
                "a compaction revision is unreadable".to_owned(),
            )),
        },
    }
}

impl Rows {
    fn read(engine: &dyn Engine) -> Result<Self, Error> {
        let mut rows = Self::default();
        let mut corrupt = None;
        engine.scan(Space::Meta, &[], None, &mut |key, row| {
            let read = Revision::from_key(key).zip(MetaRow::decode(row));
            match read {
                Some((revision, row)) => {
                    rows.push(revision, &row);
                    ControlFlow::Continue(())
                }
                None => {
                    corrupt = Some(key.to_vec());
                    ControlFlow::Break(())
                }
            }
        })?;
        match corrupt {
            None => Ok(rows),
            Some(key) => Err(Error::Corrupt(format!(
                "index row {key:02x?} is unreadable"
            ))),
        }
    }

    fn push(&mut self, revision: Revision, row: &MetaRow<'_>) {
        if self.rows.is_empty() {
            self.shared = row.key.len();
        } else {
            let first = &self.arena[..self.shared];
            let same = first.iter().zip(row.key).take_while(|(a, b)| a == b);
            self.shared = same.count();
        }
        self.rows.push(Row {
            version: Version {
                main: revision.main,
                create: row.create,
                version: row.version,
                sub: revision.sub,
                record_len: row.record_len,
            },
            lease: row.lease,
            key: self.arena.len() as u64,
            key_len: row.key.len() as u32,
        });
        self.arena.extend_from_slice(row.key);
    }

    fn key(&self, row: &Row) -> &[u8] {
        let start = row.key as usize;
        &self.arena[start..start + row.key_len as usize]
    }

    /// The places of the rows, sorted by key and then by revision.
    fn sorted(&self) -> Vec<(u64, u32)> {
        let head = |row: &Row| head_of(&self.key(row)[self.shared..]);
        let places = self.rows.iter().enumerate();
        let mut order: Vec<_> = places.map(|(at, row)| (head(row), at as u32)).collect();
        order.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0)
                .then_with(|| {
                    let key = |at: u32| &self.key(&self.rows[at as usize])[self.shared..];
                    key(a.1).cmp(key(b.1))
                })
                .then(a.1.cmp(&b.1))
        });
        order
    }

    /// The index over the rows, and the bytes of all revisions and of the live ones.
    fn into_tree(self) -> (Tree, (u64, u64)) {
        let order = self.sorted();
        let mut entries = Entries {
            rows: &self,
            order: &order,
            logical: 0,
            in_use: 0,
        };
        let tree = Tree::from_sorted(&mut entries);
        (tree, (entries.logical, entries.in_use))
    }
}

/// Makes entries of sorted rows, one at a time, as the tree takes them.
struct Entries<'r> {
    rows: &'r Rows,
    order: &'r [(u64, u32)],
    logical: u64,
    in_use: u64,
}

impl<'r> Entries<'r> {
    fn take_row(&mut self) -> Option<&'r Row> {
        let ((_, at), rest) = self.order.split_first()?;
        self.order = rest;
        let row = &self.rows.rows[*at as usize];
        self.logical += revision_bytes(row.version.record_len);
        Some(row)
    }
}

impl<'r> Iterator for Entries<'r> {
    type Item = (&'r [u8], Entry);

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.rows;
        let mut newest = self.take_row()?;
        let key = rows.key(newest);
        let mut older = Vec::new();
        while let Some((_, at)) = self.order.first()
            && rows.key(&rows.rows[*at as usize]) == key
        {
            older.push(newest.version);
            newest = self.take_row()?;
        }
        if newest.version.is_live() {
            self.in_use += revision_bytes(newest.version.record_len);
        }
        let entry = Entry {
            value: None,
            older: (!older.is_empty()).then(|| Box::new(Older::from_sorted(older))),
            current: newest.version,
            lease: newest.lease,
        };
        Some((key, entry))
    }
}
