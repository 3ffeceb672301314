//! A leaf of the memory engine's tree: some dozens of rows packed into one buffer.
//!
//! Promises: rows ascend by key; a row costs its bytes, two to six bytes of lengths and eight of
//! position and hint. Replaced and removed rows leave garbage, which stays below a quarter of the buffer.
//! Must not know its neighbours.

use std::ops::Range;

/// Bytes that a leaf takes before rows go to the next one. A row larger than this has its own.
pub(super) const LEAF_BYTES: usize = if cfg!(test) { 256 } else { 32 << 10 };

/// Bytes of a key before its hint. Those of a revision change once in four thousand million.
const HEAD: usize = 4;

/// Where a row is, and as much of its key as spares most looks at the row while searching.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    at: u32,
    /// The four bytes of the key behind its head, with zeros where it is shorter.
    hint: u32,
}

/// Rows in ascending order of their keys.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    /// Rows in order of arrival: key length, value length (both LEB128), key, value.
    bytes: Vec<u8>,
    /// The rows in order of their keys.
    slots: Vec<Slot>,
    /// Whether all keys have the same first [`HEAD`] bytes, so that the slots' hints have the
    /// order of the keys.
    has_hints: bool,
    /// Bytes of rows that no slot points to.
    garbage: usize,
}

impl Clone for Leaf {
    /// Copies live rows only, and leaves as much room to append as there was.
    fn clone(&self) -> Self {
        self.copy(0..self.slots.len(), self.bytes.capacity())
    }
}

impl Leaf {
    /// An empty leaf that rows will be appended to.
    pub(super) fn for_appends() -> Self {
        Self {
            bytes: Vec::with_capacity(LEAF_BYTES),
            ..Self::default()
        }
    }

    /// Takes rows as [`Leaf::encode`] wrote them; the reason where they are not.
    pub(super) fn decode(bytes: Vec<u8>, rows: usize) -> Result<Self, &'static str> {
        if u32::try_from(bytes.len()).is_err() {
            return Err("block too large");
        }
        let mut slots = Vec::with_capacity(rows.min(bytes.len()));
        let mut at = 0;
        let mut first_key: Option<&[u8]> = None;
        let mut previous: Option<&[u8]> = None;
        let mut has_hints = true;
        while at < bytes.len() {
            let row = Row::parse(&bytes[at..]).ok_or("row exceeds its block")?;
            if previous.is_some_and(|previous| previous >= row.key) {
                return Err("keys do not ascend");
            }
            previous = Some(row.key);
            has_hints &= have_same_head(first_key.get_or_insert(row.key), row.key);
            slots.push(Slot {
                at: u32::try_from(at).expect("checked above"),
                hint: hint(row.key),
            });
            at += row.size;
        }
        if slots.len() != rows {
            return Err("wrong number of rows");
        }
        Ok(Self {
            bytes,
            slots,
            has_hints,
            garbage: 0,
        })
    }

    /// Appends the live rows in order of their keys to `buffer`.
    pub(super) fn encode(&self, buffer: &mut Vec<u8>) {
        if self.garbage == 0 && self.slots.is_sorted() {
            buffer.extend_from_slice(&self.bytes);
            return;
        }
        for index in 0..self.slots.len() {
            buffer.extend_from_slice(self.raw(index));
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of the live rows.
    pub(super) fn live(&self) -> usize {
        self.bytes.len() - self.garbage
    }

    /// Bytes of memory held.
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity() + self.slots.capacity() * size_of::<Slot>()
    }

    pub(super) fn row(&self, index: usize) -> (&[u8], &[u8]) {
        let row = self.at(index);
        (row.key, row.value)
    }

    pub(super) fn key(&self, index: usize) -> &[u8] {
        self.at(index).key
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let index = self.find(key).ok()?;
        Some(self.at(index).value)
    }

    /// The row with `key`, or where it would be.
    pub(super) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let full = |slot: &Slot| parse(&self.bytes, slot.at).key.cmp(key);
        match self.slots.first() {
            Some(first) if self.has_hints => {
                if !have_same_head(parse(&self.bytes, first.at).key, key) {
                    return self.slots.binary_search_by(full);
                }
                let hint = hint(key);
                self.slots
                    .binary_search_by(|slot| slot.hint.cmp(&hint).then_with(|| full(slot)))
            }
            _ => self.slots.binary_search_by(full),
        }
    }

    /// As [`Leaf::find`]; quick where `key` belongs behind the last row.
    pub(super) fn find_to_write(&self, key: &[u8]) -> Result<usize, usize> {
        match self.slots.last() {
            Some(last) if parse(&self.bytes, last.at).key >= key => self.find(key),
            _ => Err(self.slots.len()),
        }
    }

    /// Whether a row of these lengths still goes into this leaf.
    pub(super) fn has_room(&self, key: &[u8], value: &[u8]) -> bool {
        let size = encoded_size(key, value);
        self.slots.is_empty() || self.live() + size <= LEAF_BYTES
    }

    /// Adds a row at `index`, which [`Leaf::find`] named.
    pub(super) fn insert(&mut self, index: usize, key: &[u8], value: &[u8]) {
        let size = encoded_size(key, value);
        if self.garbage > 0 && self.bytes.len() + size > self.bytes.capacity() {
            *self = self.copy(0..self.slots.len(), self.live() + size);
        }
        let slot = Slot {
            at: self.end(),
            hint: hint(key),
        };
        self.has_hints = match self.slots.first() {
            Some(first) => self.has_hints && have_same_head(parse(&self.bytes, first.at).key, key),
            None => have_same_head(key, key),
        };
        write_length(&mut self.bytes, key.len());
        write_length(&mut self.bytes, value.len());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.slots.insert(index, slot);
    }

    /// Gives the row at `index` another value.
    pub(super) fn replace(&mut self, index: usize, value: &[u8]) {
        let row = self.at(index);
        let (key_len, size) = (row.key.len(), row.size);
        let old_len = row.value.len();
        let end = self.slots[index].at as usize + size;
        if old_len == value.len() {
            self.bytes[end - old_len..end].copy_from_slice(value);
            return;
        }
        let at = self.end();
        write_length(&mut self.bytes, key_len);
        write_length(&mut self.bytes, value.len());
        let key_end = end - old_len;
        self.bytes.extend_from_within(key_end - key_len..key_end);
        self.bytes.extend_from_slice(value);
        self.garbage += size;
        self.slots[index].at = at;
        self.sweep();
    }

    pub(super) fn remove(&mut self, rows: Range<usize>) {
        for index in rows.clone() {
            self.garbage += self.at(index).size;
        }
        self.slots.drain(rows);
        self.sweep();
    }

    /// Moves the rows from `index` on into a leaf of their own.
    pub(super) fn split_off(&mut self, index: usize) -> Leaf {
        let right = self.copy(index..self.slots.len(), 0);
        *self = self.copy(0..index, 0);
        right
    }

    /// Appends the rows of `right`, whose keys are greater than all keys here.
    pub(super) fn merge(&mut self, right: &Leaf) {
        if self.garbage > 0 || self.bytes.capacity() < self.bytes.len() + right.live() {
            *self = self.copy(0..self.slots.len(), self.live() + right.live());
        }
        if right.rows() == 0 {
            return;
        }
        self.has_hints = right.has_hints
            && (self.rows() == 0 || (self.has_hints && have_same_head(self.key(0), right.key(0))));
        self.push_rows(right, 0..right.rows());
    }

    /// Gives back the room to append: no more rows are expected.
    pub(super) fn seal(&mut self) {
        self.slots.shrink_to_fit();
        if self.bytes.capacity() - self.bytes.len() > LEAF_BYTES / 16 {
            self.bytes.shrink_to_fit();
        }
    }

    fn copy(&self, rows: Range<usize>, capacity: usize) -> Leaf {
        let size: usize = rows.clone().map(|index| self.at(index).size).sum();
        let mut leaf = Leaf {
            bytes: Vec::with_capacity(size.max(capacity)),
            slots: Vec::with_capacity(rows.len()),
            has_hints: self.has_hints,
            garbage: 0,
        };
        leaf.push_rows(self, rows);
        leaf
    }

    fn push_rows(&mut self, from: &Leaf, rows: Range<usize>) {
        for index in rows {
            self.slots.push(Slot {
                at: self.end(),
                hint: from.slots[index].hint,
            });
            self.bytes.extend_from_slice(from.raw(index));
        }
    }

    fn sweep(&mut self) {
        if self.garbage * 4 > self.bytes.len() {
            *self = self.copy(0..self.slots.len(), 0);
        }
    }

    fn end(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("a leaf is one large row or 32 KiB of small ones")
    }

    fn at(&self, index: usize) -> Row<'_> {
        parse(&self.bytes, self.slots[index].at)
    }

    fn raw(&self, index: usize) -> &[u8] {
        let at = self.slots[index].at as usize;
        &self.bytes[at..at + self.at(index).size]
    }
}

struct Row<'a> {
    key: &'a [u8],
    value: &'a [u8],
    /// Bytes of the whole row, lengths included.
    size: usize,
}

impl<'a> Row<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Row<'a>> {
        let (key_len, after_key_len) = read_length(bytes)?;
        let (value_len, body) = read_length(after_key_len)?;
        let (key, rest) = body.split_at_checked(key_len)?;
        let (value, rest) = rest.split_at_checked(value_len)?;
        Some(Row {
            key,
            value,
            size: bytes.len() - rest.len(),
        })
    }
}

fn parse(bytes: &[u8], at: u32) -> Row<'_> {
    Row::parse(&bytes[at as usize..]).expect("a slot points to a whole row")
}

/// Whether both keys have a head, and the same one.
fn have_same_head(a: &[u8], b: &[u8]) -> bool {
    match (a.first_chunk::<HEAD>(), b.first_chunk::<HEAD>()) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

fn hint(key: &[u8]) -> u32 {
    match key.get(HEAD..HEAD + 4) {
        Some(bytes) => u32::from_be_bytes(bytes.try_into().expect("four bytes")),
        None => {
            let mut padded = [0; 4];
            let rest = key.get(HEAD..).unwrap_or_default();
            padded[..rest.len()].copy_from_slice(rest);
            u32::from_be_bytes(padded)
        }
    }
}

fn encoded_size(key: &[u8], value: &[u8]) -> usize {
    length_size(key.len()) + length_size(value.len()) + key.len() + value.len()
}

fn length_size(length: usize) -> usize {
    let bits = usize::BITS - (length | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn write_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

fn read_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0;
    for (index, &byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((length, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_round_trip_at_their_edges() {
        for length in [0, 1, 127, 128, 16_383, 16_384, u32::MAX as usize] {
            let mut bytes = Vec::new();
            write_length(&mut bytes, length);
            assert_eq!(bytes.len(), length_size(length));
            assert_eq!(read_length(&bytes), Some((length, &[][..])));
        }
        assert_eq!(read_length(&[0x80]), None);
    }

    #[test]
    fn garbage_is_swept_before_it_is_a_quarter() {
        let mut leaf = Leaf::default();
        for index in 0..100u8 {
            leaf.insert(usize::from(index), &[index], &[index; 100]);
        }
        for round in 0..1000usize {
            leaf.replace(round % 100, &vec![1; 90 + round % 20]);
            assert!(leaf.garbage * 4 <= leaf.bytes.len());
        }
        leaf.remove(10..95);
        assert_eq!(leaf.rows(), 15);
        assert!(leaf.held() < 15 * 150);
        let mut block = Vec::new();
        leaf.encode(&mut block);
        let read = Leaf::decode(block, 15).unwrap();
        for index in 0..15 {
            assert_eq!(read.row(index), leaf.row(index));
        }
    }

    #[test]
    fn a_block_that_is_not_rows_is_refused() {
        let mut leaf = Leaf::default();
        leaf.insert(0, b"a", b"1");
        leaf.insert(1, b"b", b"2");
        let mut block = Vec::new();
        leaf.encode(&mut block);
        assert!(Leaf::decode(block.clone(), 3).is_err());
        assert!(Leaf::decode(block[..7].to_vec(), 2).is_err());
        let twice = [&block[4..], &block[..4]].concat();
        assert_eq!(Leaf::decode(twice, 2).unwrap_err(), "keys do not ascend");
    }
}
