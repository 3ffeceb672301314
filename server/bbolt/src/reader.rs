//! Reading a file that may be damaged.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use crate::Error;
use crate::page::{
    BUCKET_BYTES, ELEMENT_BYTES, HEADER_BYTES, Header, IS_BUCKET, META_BYTES, Meta, kind, u32_at,
    u64_at,
};

/// Page sizes that a file may have: those of the machines that bbolt runs on, and of who asked for another.
const PAGE_BYTES: std::ops::RangeInclusive<usize> = 512..=1 << 20;
/// No tree is higher: bbolt's pages hold at least two keys.
const HEIGHT_MAX: usize = 64;

/// A file of bbolt.
#[derive(Debug)]
pub struct Database {
    file: File,
    page_bytes: usize,
    /// Whole pages that the file has.
    pages: u64,
    root: u64,
}

/// A bucket of it.
#[derive(Debug)]
pub struct Bucket<'d> {
    database: &'d Database,
    begin: Begin,
}

/// Where a bucket's tree begins.
#[derive(Debug, Clone)]
enum Begin {
    Page(u64),
    /// A small bucket's only page lies in its value.
    Inline(Vec<u8>),
}

/// A page with those that it goes on in.
struct Page {
    id: u64,
    header: Header,
    bytes: Vec<u8>,
}

/// An element of a leaf.
struct Element<'p> {
    flags: u32,
    key: &'p [u8],
    value: &'p [u8],
}

/// What a walk calls with each element of a leaf.
type Visit<'v> = dyn FnMut(&Element<'_>) -> ControlFlow<()> + 'v;

/// What a walk over a bucket calls with each key and its value.
type VisitEntry<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// A walk over a tree: what has been met so far.
struct Walk<'v> {
    visit: &'v mut Visit<'v>,
    /// The key before, than which all that follow are greater.
    last: Option<Vec<u8>>,
    /// Pages that may still be met: more would be a circle.
    left: u64,
}

impl Database {
    /// Opens a file; what lies behind its last whole page is not looked at.
    ///
    /// # Errors
    /// [`Error::Foreign`] when there is no whole meta page, [`Error::Damaged`] when it leads nowhere.
    pub fn open(file: File) -> Result<Self, Error> {
        let length = file.metadata()?.len();
        let meta = newest_meta(&file, length)?;
        let page_bytes = meta.page_bytes as usize;
        let pages = length / page_bytes as u64;
        if meta.pages > pages {
            return Err(Error::Damaged {
                page: pages,
                what: "the file ends before its last page",
            });
        }
        Ok(Self {
            file,
            page_bytes,
            pages: meta.pages,
            root: meta.root,
        })
    }

    /// Bytes of the pages in use and those between them.
    pub fn bytes(&self) -> u64 {
        self.pages * self.page_bytes as u64
    }

    /// The bucket of a name, if there is one.
    ///
    /// # Errors
    /// Those of reading, and of damage on the way.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'_>>, Error> {
        let mut found = None;
        self.root().walk(&mut |element| {
            if element.flags & IS_BUCKET != 0 && element.key == name {
                found = Some(element.value.to_vec());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        let Some(value) = found else {
            return Ok(None);
        };
        Ok(Some(self.begin(&value)?))
    }

    /// The names of all buckets, in order.
    ///
    /// # Errors
    /// Those of reading, and of damage on the way.
    pub fn buckets(&self) -> Result<Vec<Vec<u8>>, Error> {
        let mut names = Vec::new();
        self.root().walk(&mut |element| {
            if element.flags & IS_BUCKET != 0 {
                names.push(element.key.to_vec());
            }
            ControlFlow::Continue(())
        })?;
        Ok(names)
    }

    fn root(&self) -> Bucket<'_> {
        Bucket {
            database: self,
            begin: Begin::Page(self.root),
        }
    }

    fn begin(&self, value: &[u8]) -> Result<Bucket<'_>, Error> {
        let begin = match (u64_at(value, 0), value.get(BUCKET_BYTES..)) {
            (Some(0), Some(page)) if page.len() >= HEADER_BYTES => Begin::Inline(page.to_vec()),
            (Some(page), Some(_)) if page != 0 => Begin::Page(page),
            _ => return Err(damaged(self.root, "a bucket begins nowhere")),
        };
        Ok(Bucket {
            database: self,
            begin,
        })
    }

    fn page(&self, id: u64) -> Result<Page, Error> {
        if id < 2 || id >= self.pages {
            return Err(damaged(id, "there is no such page"));
        }
        let mut bytes = vec![0; self.page_bytes];
        let offset = id * self.page_bytes as u64;
        self.file.read_exact_at(&mut bytes, offset)?;
        let header = Header::decode(&bytes).ok_or(damaged(id, "it has no header"))?;
        if header.id != id {
            return Err(damaged(id, "it says that it is another one"));
        }
        let more = u64::from(header.overflow);
        if more >= self.pages - id {
            return Err(damaged(id, "it goes on behind the last page"));
        }
        bytes.resize(self.page_bytes * (1 + more as usize), 0);
        let first = self.page_bytes;
        self.file
            .read_exact_at(&mut bytes[first..], offset + first as u64)?;
        Ok(Page { id, header, bytes })
    }
}

impl Bucket<'_> {
    /// Visits the entries in the order of their keys until the visitor breaks; buckets inside are passed over.
    ///
    /// # Errors
    /// Those of reading, and of damage: also keys out of order, and pages that lead in a circle.
    pub fn for_each(&self, visit: &mut VisitEntry<'_>) -> Result<(), Error> {
        self.walk(&mut |element| {
            if element.flags & IS_BUCKET != 0 {
                return ControlFlow::Continue(());
            }
            visit(element.key, element.value)
        })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// As [`Bucket::for_each`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let mut found = None;
        self.for_each(&mut |at, value| {
            if at == key {
                found = Some(value.to_vec());
            }
            if at >= key {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok(found)
    }

    fn walk(&self, visit: &mut dyn FnMut(&Element<'_>) -> ControlFlow<()>) -> Result<(), Error> {
        let mut walk = Walk {
            visit,
            last: None,
            left: self.database.pages,
        };
        match &self.begin {
            Begin::Page(page) => walk.tree(self.database, *page, 0).map(drop),
            Begin::Inline(bytes) => {
                let header = Header::decode(bytes);
                let page = Page {
                    id: 0,
                    header: header.ok_or(damaged(0, "an inner page without a header"))?,
                    bytes: bytes.clone(),
                };
                if page.header.kind != kind::LEAF {
                    return Err(damaged(0, "an inner page that is no leaf"));
                }
                walk.leaf(&page).map(drop)
            }
        }
    }
}

impl Walk<'_> {
    fn tree(
        &mut self,
        database: &Database,
        id: u64,
        depth: usize,
    ) -> Result<ControlFlow<()>, Error> {
        if depth > HEIGHT_MAX || self.left == 0 {
            return Err(damaged(id, "pages lead in a circle"));
        }
        self.left -= 1;
        let page = database.page(id)?;
        match page.header.kind {
            kind::LEAF => self.leaf(&page),
            kind::BRANCH => {
                for at in 0..page.count() {
                    let child = page.child(at)?;
                    if self.tree(database, child, depth + 1)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok(ControlFlow::Continue(()))
            }
            _ => Err(damaged(id, "it is neither a leaf nor a branch")),
        }
    }

    fn leaf(&mut self, page: &Page) -> Result<ControlFlow<()>, Error> {
        for at in 0..page.count() {
            let element = page.element(at)?;
            if self.last.as_deref().is_some_and(|last| last >= element.key) {
                return Err(damaged(page.id, "its keys are out of order"));
            }
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(element.key);
            if (self.visit)(&element).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Page {
    fn count(&self) -> usize {
        usize::from(self.header.count)
    }

    /// The page that the element of a branch leads to.
    fn child(&self, at: usize) -> Result<u64, Error> {
        let child = u64_at(&self.bytes, HEADER_BYTES + at * ELEMENT_BYTES + 8);
        child.ok_or(damaged(self.id, "it has more elements than room"))
    }

    /// The element of a leaf.
    fn element(&self, at: usize) -> Result<Element<'_>, Error> {
        let begin = HEADER_BYTES + at * ELEMENT_BYTES;
        let number = |at: usize| {
            let number = u32_at(&self.bytes, begin + at);
            number.ok_or(damaged(self.id, "it has more elements than room"))
        };
        let (flags, position) = (number(0)?, number(4)? as usize);
        let (key, value) = (number(8)? as usize, number(12)? as usize);
        let data = self.bytes.get(begin + position..);
        let data = data.and_then(|data| data.split_at_checked(key));
        let (key, rest) = data.ok_or(damaged(self.id, "a key reaches beyond it"))?;
        let value = rest.get(..value);
        Ok(Element {
            flags,
            key,
            value: value.ok_or(damaged(self.id, "a value reaches beyond it"))?,
        })
    }
}

fn damaged(page: u64, what: &'static str) -> Error {
    Error::Damaged { page, what }
}

/// The newer of the meta pages that are whole. The second one's place depends on the page size, which the first one tells,
/// unless it is damaged: then sizes are tried (bbolt's `db.getPageSize`).
fn newest_meta(file: &File, length: u64) -> Result<Meta, Error> {
    let meta_at = |offset: u64| -> Result<Option<Meta>, Error> {
        let mut bytes = [0; HEADER_BYTES + META_BYTES];
        if offset + bytes.len() as u64 > length {
            return Ok(None);
        }
        file.read_exact_at(&mut bytes, offset)?;
        let header = Header::decode(&bytes).filter(|header| header.kind == kind::META);
        Ok(header.and_then(|_| Meta::decode(&bytes[HEADER_BYTES..])))
    };
    let good = |meta: &Meta| PAGE_BYTES.contains(&(meta.page_bytes as usize));
    let first = meta_at(0)?.filter(good);
    let second = match first {
        Some(first) => meta_at(u64::from(first.page_bytes))?.filter(good),
        None => {
            let mut second = None;
            for power in 9..=20 {
                let found = meta_at(1 << power)?;
                second = second.or(found.filter(|meta| meta.page_bytes == 1 << power));
            }
            second
        }
    };
    let newest = first.into_iter().chain(second).max_by_key(|meta| meta.txid);
    newest.ok_or_else(|| Error::Foreign("it has no whole meta page".to_owned()))
}
