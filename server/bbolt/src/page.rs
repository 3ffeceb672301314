//! The layout of pages (bbolt's `internal/common/page.go`, `meta.go`, `bucket.go`).

/// Size of the pages that are written: that of a file made on a machine with pages of 4 KiB.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Bytes of a page's header: number (8), kind (2), count of elements (2), pages that it goes on for (4).
pub(crate) const HEADER_BYTES: usize = 16;
/// Bytes of an element of either kind, beside its key and value.
pub(crate) const ELEMENT_BYTES: usize = 16;
/// Bytes of a bucket's value: root page (8), sequence (8).
pub(crate) const BUCKET_BYTES: usize = 16;
/// Bytes of a meta page's content.
pub(crate) const META_BYTES: usize = 64;
/// An element of a leaf that is a bucket.
pub(crate) const IS_BUCKET: u32 = 1;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

/// Kinds of pages.
pub(crate) mod kind {
    pub(crate) const BRANCH: u16 = 0x01;
    pub(crate) const LEAF: u16 = 0x02;
    pub(crate) const META: u16 = 0x04;
    pub(crate) const FREELIST: u16 = 0x10;
}

/// A page's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: u64,
    pub(crate) kind: u16,
    pub(crate) count: u16,
    /// How many pages behind it belong to it.
    pub(crate) overflow: u32,
}

impl Header {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.kind.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.overflow.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(bytes, 0)?,
            kind: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }
}

/// What a meta page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_bytes: u32,
    pub(crate) root: u64,
    pub(crate) freelist: u64,
    /// One past the last page in use.
    pub(crate) pages: u64,
    pub(crate) txid: u64,
}

impl Meta {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        let begin = out.len();
        for number in [MAGIC, VERSION, self.page_bytes, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        // The root bucket has a sequence as any other.
        for number in [self.root, 0, self.freelist, self.pages, self.txid] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = fnv1a(&out[begin..]);
        out.extend_from_slice(&checksum.to_le_bytes());
    }

    /// None when the bytes are no whole meta page's.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let whole = bytes.get(..META_BYTES)?;
        let summed = META_BYTES - 8;
        let good = u32_at(whole, 0)? == MAGIC
            && u32_at(whole, 4)? == VERSION
            && u64_at(whole, summed)? == fnv1a(&whole[..summed]);
        Some(Self {
            page_bytes: u32_at(whole, 8)?,
            root: u64_at(whole, 16)?,
            freelist: u64_at(whole, 32)?,
            pages: u64_at(whole, 40)?,
            txid: u64_at(whole, 48)?,
        })
        .filter(|_| good)
    }
}

/// FNV-1a with 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
