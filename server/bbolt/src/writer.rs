//! Writing a whole file, page by page in order.

use std::io::{self, Write};

use crate::page::{
    BUCKET_BYTES, ELEMENT_BYTES, HEADER_BYTES, Header, IS_BUCKET, Meta, PAGE_BYTES, kind,
};

/// The page of the list of free pages, of which there are none.
const FREELIST: u64 = 2;
/// bbolt wants at least so many keys in a branch.
const BRANCH_KEYS_MIN: usize = 2;

/// Writes the pages of a file behind its two first ones, which are known when all others are: see [`Head`].
pub struct Writer<W> {
    pages: Pages<W>,
    /// Names of buckets and the pages where they begin.
    buckets: Vec<(Vec<u8>, u64)>,
}

/// The first two pages of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    meta: Meta,
}

/// The entries of a bucket that is being written.
pub struct Entries<'w, W> {
    pages: &'w mut Pages<W>,
    leaf: Leaf,
    levels: Vec<Branch>,
    last: Option<Vec<u8>>,
}

/// Where pages go.
struct Pages<W> {
    out: W,
    /// The number of the next page.
    next: u64,
    /// A page while it is put together.
    page: Vec<u8>,
}

/// A leaf while it is put together.
#[derive(Default)]
struct Leaf {
    flags: u32,
    /// Lengths of the key and the value of each element.
    elements: Vec<(u32, u32)>,
    /// Keys and values, one behind the other.
    data: Vec<u8>,
}

/// A branch while it is put together: the first key of each child, and its page.
#[derive(Default)]
struct Branch {
    children: Vec<(Vec<u8>, u64)>,
    bytes: usize,
}

impl Head {
    /// The pages' bytes; they go to the beginning of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 * PAGE_BYTES);
        // As in bbolt's own copies, the second one is older by a transaction.
        for id in [0, 1] {
            let header = Header {
                id,
                kind: kind::META,
                count: 0,
                overflow: 0,
            };
            header.encode(&mut out);
            let meta = Meta {
                txid: self.meta.txid - id,
                ..self.meta
            };
            meta.encode(&mut out);
            out.resize(PAGE_BYTES * (id as usize + 1), 0);
        }
        out
    }

    /// Bytes of the whole file, these pages included.
    pub fn file_bytes(&self) -> u64 {
        self.meta.pages * PAGE_BYTES as u64
    }
}

impl<W: Write> Writer<W> {
    /// Begins with the third page of the file.
    ///
    /// # Errors
    /// Those of writing.
    pub fn new(out: W) -> io::Result<Self> {
        let mut pages = Pages {
            out,
            next: FREELIST,
            page: Vec::new(),
        };
        pages.begin(kind::FREELIST, 0, HEADER_BYTES);
        pages.end()?;
        Ok(Self {
            pages,
            buckets: Vec::new(),
        })
    }

    /// Adds a bucket with the entries that `fill` puts in. Each name may be used once.
    ///
    /// # Errors
    /// Those of `fill` and of writing.
    pub fn bucket<E: From<io::Error>>(
        &mut self,
        name: &[u8],
        fill: impl FnOnce(&mut Entries<'_, W>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut entries = Entries::new(&mut self.pages, 0);
        fill(&mut entries)?;
        let root = entries.finish()?;
        self.buckets.push((name.to_vec(), root));
        Ok(())
    }

    /// Writes what is left, and gives the pages that belong before all others.
    ///
    /// # Errors
    /// Those of writing; two buckets of one name.
    pub fn finish(mut self) -> io::Result<(W, Head)> {
        self.buckets.sort();
        let mut entries = Entries::new(&mut self.pages, IS_BUCKET);
        for (name, root) in &self.buckets {
            let mut value = [0; BUCKET_BYTES];
            value[..8].copy_from_slice(&root.to_le_bytes());
            entries.put(name, &value)?;
        }
        let root = entries.finish()?;
        self.pages.out.flush()?;
        let meta = Meta {
            page_bytes: PAGE_BYTES as u32,
            root,
            freelist: FREELIST,
            pages: self.pages.next,
            txid: 1,
        };
        Ok((self.pages.out, Head { meta }))
    }
}

impl<'w, W: Write> Entries<'w, W> {
    fn new(pages: &'w mut Pages<W>, flags: u32) -> Self {
        Self {
            pages,
            leaf: Leaf {
                flags,
                ..Leaf::default()
            },
            levels: Vec::new(),
            last: None,
        }
    }

    /// Puts an entry behind all others.
    ///
    /// # Errors
    /// A key that is empty, or not above the one before it; those of writing.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if key.is_empty() || self.last.as_deref().is_some_and(|last| last >= key) {
            let what = "keys must be given in ascending order, each once, and none empty";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        if !self.leaf.has_room(key.len() + value.len()) {
            self.end_leaf()?;
        }
        self.leaf.push(key, value)?;
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        Ok(())
    }

    /// Writes what is left; the page where the bucket begins.
    fn finish(mut self) -> io::Result<u64> {
        if self.leaf.elements.is_empty() && self.levels.is_empty() {
            return self.leaf.write(self.pages);
        }
        if !self.leaf.elements.is_empty() {
            self.end_leaf()?;
        }
        let mut level = 0;
        loop {
            let is_top = level + 1 == self.levels.len();
            if let ([(_, root)], true) = (&self.levels[level].children[..], is_top) {
                return Ok(*root);
            }
            self.end_branch(level)?;
            level += 1;
        }
    }

    fn end_leaf(&mut self) -> io::Result<()> {
        let first = self.leaf.first_key().to_vec();
        let page = self.leaf.write(self.pages)?;
        self.add_child(0, first, page)
    }

    fn end_branch(&mut self, level: usize) -> io::Result<()> {
        let branch = std::mem::take(&mut self.levels[level]);
        let Some((first, _)) = branch.children.first() else {
            return Ok(());
        };
        let first = first.clone();
        let page = branch.write(self.pages)?;
        self.add_child(level + 1, first, page)
    }

    fn add_child(&mut self, level: usize, key: Vec<u8>, page: u64) -> io::Result<()> {
        if level == self.levels.len() {
            self.levels.push(Branch::default());
        }
        if !self.levels[level].has_room(key.len()) {
            self.end_branch(level)?;
        }
        let branch = &mut self.levels[level];
        branch.bytes += ELEMENT_BYTES + key.len();
        branch.children.push((key, page));
        Ok(())
    }
}

impl Leaf {
    fn has_room(&self, bytes: usize) -> bool {
        let count = self.elements.len() + 1;
        let all = HEADER_BYTES + count * ELEMENT_BYTES + self.data.len() + bytes;
        self.elements.is_empty() || all <= PAGE_BYTES
    }

    fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        self.elements.push((length(key)?, length(value)?));
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
        Ok(())
    }

    fn first_key(&self) -> &[u8] {
        let length = self.elements.first().map_or(0, |(key, _)| *key as usize);
        &self.data[..length]
    }

    /// Writes it and is empty again; the page's number.
    fn write<W: Write>(&mut self, pages: &mut Pages<W>) -> io::Result<u64> {
        let count = self.elements.len();
        let bytes = HEADER_BYTES + count * ELEMENT_BYTES + self.data.len();
        pages.begin(kind::LEAF, count, bytes);
        // Positions count from the element itself.
        let mut position = count * ELEMENT_BYTES;
        for (key, value) in &self.elements {
            for number in [self.flags, position as u32, *key, *value] {
                pages.page.extend_from_slice(&number.to_le_bytes());
            }
            position += (*key + *value) as usize;
            position -= ELEMENT_BYTES;
        }
        pages.page.extend_from_slice(&self.data);
        self.elements.clear();
        self.data.clear();
        pages.end()
    }
}

impl Branch {
    fn has_room(&self, key_bytes: usize) -> bool {
        let all = HEADER_BYTES + self.bytes + ELEMENT_BYTES + key_bytes;
        self.children.len() < BRANCH_KEYS_MIN || all <= PAGE_BYTES
    }

    fn write<W: Write>(&self, pages: &mut Pages<W>) -> io::Result<u64> {
        let count = self.children.len();
        pages.begin(kind::BRANCH, count, HEADER_BYTES + self.bytes);
        let mut position = count * ELEMENT_BYTES;
        for (key, page) in &self.children {
            pages
                .page
                .extend_from_slice(&(position as u32).to_le_bytes());
            pages
                .page
                .extend_from_slice(&(key.len() as u32).to_le_bytes());
            pages.page.extend_from_slice(&page.to_le_bytes());
            position += key.len();
            position -= ELEMENT_BYTES;
        }
        for (key, _) in &self.children {
            pages.page.extend_from_slice(key);
        }
        pages.end()
    }
}

impl<W: Write> Pages<W> {
    /// Begins a page with a header; `bytes` is how long it will be.
    fn begin(&mut self, kind: u16, count: usize, bytes: usize) {
        self.page.clear();
        let header = Header {
            id: self.next,
            kind,
            count: count as u16,
            overflow: (bytes.div_ceil(PAGE_BYTES) - 1) as u32,
        };
        header.encode(&mut self.page);
    }

    /// Writes the page; its number.
    fn end(&mut self) -> io::Result<u64> {
        let pages = self.page.len().div_ceil(PAGE_BYTES);
        self.page.resize(pages * PAGE_BYTES, 0);
        self.out.write_all(&self.page)?;
        let id = self.next;
        self.next += pages as u64;
        Ok(id)
    }
}
