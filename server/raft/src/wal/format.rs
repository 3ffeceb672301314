//! The bytes of the log.
//!
//! A segment is a row of *records*, each beginning at a sector. A record is everything that was queued
//! when it was written; it is synced before the next is begun, so at most the last record of a log can
//! be incomplete. Its head names log, segment and sequence, so that no other bytes can be taken for it.
//!
//! Every sector of a record has several non-zero bytes, whatever it holds (see [`seal`]). So a sector
//! of zeros says that a write did not reach the disk, and a flipped byte never looks like that.

use std::path::Path;

use super::Error;

/// The unit that a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;
/// Bytes before the body of a record.
pub(super) const HEAD_BYTES: usize = 64;
/// The newest format of a record that this version reads, and the one it writes.
pub(super) const FORMAT: u32 = 1;
/// Longest body of a record.
pub(super) const BODY_BYTES_MAX: usize = 1 << 30;

/// Begins each record; none of its bytes is zero.
const MAGIC: [u8; 8] = *b"\x89MSlog\r\n";
/// Fills the last sector of a record.
const PADDING: u8 = 0xa5;
/// A sector with fewer non-zero bytes than this could be mistaken for one that was never written.
const NON_ZERO_MIN: usize = 8;

/// The head of a record:
/// magic 8, crc of what follows 4, format 4, log 8, segment 8, sequence 8, body length 4, body crc 4,
/// mask 4, zeros; all little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Random number of the log.
    pub(super) log: u64,
    pub(super) segment: u64,
    /// Number of the record in the log.
    pub(super) sequence: u64,
    pub(super) body_bytes: u32,
    /// CRC-32C of the body as it is on disk, padding included.
    pub(super) body_crc: u32,
    /// Key of the mask over the body; 0 for none.
    pub(super) mask: u32,
}

/// What is found where a record should begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Record(Head),
    /// A sector of zeros.
    Nothing,
    /// A record of a later format.
    Newer(u32),
    Garbage,
}

impl Head {
    fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut out = [0; HEAD_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[12..16].copy_from_slice(&FORMAT.to_le_bytes());
        out[16..24].copy_from_slice(&self.log.to_le_bytes());
        out[24..32].copy_from_slice(&self.segment.to_le_bytes());
        out[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        out[40..44].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[44..48].copy_from_slice(&self.body_crc.to_le_bytes());
        out[48..52].copy_from_slice(&self.mask.to_le_bytes());
        let crc = crc32c::crc32c(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the beginning of a sector.
    pub(super) fn find(sector: &[u8]) -> Found {
        if is_zero(sector) {
            return Found::Nothing;
        }
        let mut input = Input::new(sector);
        let Some((magic, crc)) = input.take(8).zip(input.u32()) else {
            return Found::Garbage;
        };
        let rest = sector.get(12..HEAD_BYTES);
        if magic != MAGIC || rest.map(crc32c::crc32c) != Some(crc) {
            return Found::Garbage;
        }
        match input.u32() {
            Some(FORMAT) => Self::fields(&mut input).map_or(Found::Garbage, Found::Record),
            Some(format) => Found::Newer(format),
            None => Found::Garbage,
        }
    }

    fn fields(input: &mut Input<'_>) -> Option<Self> {
        Some(Self {
            log: input.u64()?,
            segment: input.u64()?,
            sequence: input.u64()?,
            body_bytes: input.u32()?,
            body_crc: input.u32()?,
            mask: input.u32()?,
        })
    }

    /// Bytes of the whole record, padding included.
    pub(super) fn record_bytes(&self) -> u64 {
        record_bytes(self.body_bytes as usize) as u64
    }
}

/// Bytes of a record with so long a body.
pub(super) fn record_bytes(body: usize) -> usize {
    (HEAD_BYTES + body).next_multiple_of(SECTOR)
}

/// True when `bytes` are all zero.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    // In blocks without an early end, which the compiler makes wide.
    bytes
        .chunks(128)
        .all(|block| block.iter().fold(0, |any, byte| any | byte) == 0)
}

/// True when one of the sectors is all zero: it was never written.
pub(super) fn has_unwritten_sector(record: &[u8]) -> bool {
    record.chunks(SECTOR).any(is_zero)
}

/// Which record a buffer becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seal {
    pub(super) log: u64,
    pub(super) segment: u64,
    pub(super) sequence: u64,
    /// Where in the segment it will be.
    pub(super) offset: u64,
}

/// Makes a record of `buffer`, which holds room for the head and then the body; gives the head.
///
/// A body with a sector of (nearly) nothing but zeros is masked until it has none.
pub(super) fn seal(buffer: &mut Vec<u8>, seal: Seal) -> Head {
    let body = buffer.len() - HEAD_BYTES;
    buffer.resize(record_bytes(body), PADDING);
    let at = seal.offset + HEAD_BYTES as u64;
    // Odd, so never the 0 that stands for none; nobody outside can know it, nor write against it.
    let mut next = seal.log as u32 | 1;
    let mut mask = 0;
    while buffer.chunks(SECTOR).skip(1).any(is_sparse) {
        let body = &mut buffer[HEAD_BYTES..];
        apply_mask(mask, at, body);
        (mask, next) = (next, next.wrapping_add(2));
        apply_mask(mask, at, body);
    }
    let head = Head {
        log: seal.log,
        segment: seal.segment,
        sequence: seal.sequence,
        body_bytes: u32::try_from(body).expect("the writer bounds a body by BODY_BYTES_MAX"),
        body_crc: crc32c::crc32c(&buffer[HEAD_BYTES..]),
        mask,
    };
    buffer[..HEAD_BYTES].copy_from_slice(&head.encode());
    head
}

fn is_sparse(sector: &[u8]) -> bool {
    sector
        .iter()
        .filter(|byte| **byte != 0)
        .take(NON_ZERO_MIN)
        .count()
        < NON_ZERO_MIN
}

/// Puts the mask `key` over bytes that lie at `offset` of a segment, or takes it off again.
pub(super) fn apply_mask(key: u32, offset: u64, bytes: &mut [u8]) {
    if key == 0 {
        return;
    }
    let before = (offset.next_multiple_of(8) - offset) as usize;
    let (before, words) = bytes.split_at_mut(before.min(bytes.len()));
    for (at, byte) in (offset % 8..).zip(before) {
        *byte ^= mask_word(key, offset / 8)[at as usize];
    }
    for (word, bytes) in (offset.div_ceil(8)..).zip(words.chunks_mut(8)) {
        for (byte, mask) in bytes.iter_mut().zip(mask_word(key, word)) {
            *byte ^= mask;
        }
    }
}

/// splitmix64 of the place.
fn mask_word(key: u32, word: u64) -> [u8; 8] {
    let mut z = ((u64::from(key) << 32) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_le_bytes()
}

/// A record read into memory and found whole.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) head: Head,
    /// The body without mask and padding.
    pub(super) body: Vec<u8>,
}

/// Checks the body of a record that lies in `record`, head included; none when it is not what the head says.
pub(super) fn open(head: Head, offset: u64, record: &[u8]) -> Option<Whole> {
    let masked = &record[HEAD_BYTES..];
    if crc32c::crc32c(masked) != head.body_crc {
        return None;
    }
    let mut body = masked[..head.body_bytes as usize].to_vec();
    apply_mask(head.mask, offset + HEAD_BYTES as u64, &mut body);
    Some(Whole { head, body })
}

/// Bytes being taken apart; every method gives none when they run out.
#[derive(Debug)]
pub(super) struct Input<'a> {
    left: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    pub(super) fn len(&self) -> usize {
        self.left.len()
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(len)?;
        self.left = left;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// The error for a record of a later format.
pub(super) fn newer(file: &Path, found: u32) -> Error {
    Error::NewerFormat {
        file: file.to_owned(),
        found,
        known: FORMAT,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEAL: Seal = Seal {
        log: 7,
        segment: 1,
        sequence: 3,
        offset: 1024,
    };

    fn sealed(body: &[u8]) -> (Head, Vec<u8>) {
        let mut buffer = vec![0; HEAD_BYTES];
        buffer.extend_from_slice(body);
        (seal(&mut buffer, SEAL), buffer)
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_fills_whole_sectors() {
        for len in [0, 1, 447, 448, 449, 5000] {
            let body: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let (head, record) = sealed(&body);
            assert_eq!(record.len() % SECTOR, 0);
            assert_eq!(record.len() as u64, head.record_bytes());
            assert_eq!(Head::find(&record[..SECTOR]), Found::Record(head));
            assert_eq!(open(head, SEAL.offset, &record).unwrap().body, body);
        }
    }

    #[test]
    fn zeros_and_near_zeros_are_masked_so_that_no_sector_looks_unwritten() {
        let mut nearly = vec![0; 4096];
        nearly[1000] = 1;
        for body in [vec![0; 4096], nearly, vec![0; 100_000]] {
            let (head, record) = sealed(&body);
            assert_ne!(head.mask, 0);
            assert!(!record.chunks(SECTOR).any(is_sparse));
            assert_eq!(open(head, SEAL.offset, &record).unwrap().body, body);
        }
    }

    #[test]
    fn a_body_that_defeats_one_mask_gets_another() {
        let mut body = vec![0; 2048];
        let first = SEAL.log as u32;
        apply_mask(first, SEAL.offset + HEAD_BYTES as u64, &mut body);
        body[..1024].fill(0);
        let (head, record) = sealed(&body);
        assert_eq!(head.mask, first + 2);
        assert_eq!(open(head, SEAL.offset, &record).unwrap().body, body);
    }

    #[test]
    fn a_mask_comes_off_in_any_portions() {
        let plain: Vec<u8> = (0..100).collect();
        let mut masked = plain.clone();
        apply_mask(5, 1003, &mut masked);
        for from in 0..plain.len() {
            for to in from..=plain.len() {
                let mut part = masked[from..to].to_vec();
                apply_mask(5, 1003 + from as u64, &mut part);
                assert_eq!(part, plain[from..to]);
            }
        }
    }

    #[test]
    fn a_record_of_a_later_format_is_known_as_such() {
        let (_, mut record) = sealed(b"body");
        record[12] = 9;
        let crc = crc32c::crc32c(&record[12..HEAD_BYTES]);
        record[8..12].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Head::find(&record[..SECTOR]), Found::Newer(9));
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_noticed_and_never_looks_torn(
            body in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..3000),
                (0usize..3000).prop_map(|len| vec![0; len]),
            ],
            at in any::<prop::sample::Index>(),
            change in 1u8..,
        ) {
            let (_, mut record) = sealed(&body);
            let at = at.index(record.len());
            record[at] ^= change;
            prop_assert!(!has_unwritten_sector(&record));
            if let Found::Record(head) = Head::find(&record[..SECTOR]) {
                prop_assert!(open(head, SEAL.offset, &record).is_none());
            }
        }
    }
}
