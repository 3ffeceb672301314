//! A batch of changes, kept as one contiguous buffer.
//!
//! Promises: operations take effect in the order in which they were added, all or none of them.
//! Adding one allocates nothing beyond the growth of the buffer, and a cleared batch keeps its
//! buffer. Must not know which engine will read it.

use crate::Space;

const PUT: u8 = 0;
const DELETE: u8 = 1;
const DELETE_RANGE: u8 = 2;

/// One operation's fixed part: kind, space, length of the first and of the second byte string.
const HEAD: usize = 2 + 4 + 4;

/// Changes that an engine applies atomically over all spaces, in order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Per operation: kind, space, two lengths (u32 LE), and the two byte strings.
    buffer: Vec<u8>,
    operations: usize,
}

/// One change of a batch, borrowed from its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Sets a row.
    Put {
        /// Where.
        space: Space,
        /// The row's key.
        key: &'a [u8],
        /// The row's new value.
        value: &'a [u8],
    },
    /// Removes a row, if it exists.
    Delete {
        /// Where.
        space: Space,
        /// The row's key.
        key: &'a [u8],
    },
    /// Removes the rows with `from <= key < to`.
    DeleteRange {
        /// Where.
        space: Space,
        /// First key removed.
        from: &'a [u8],
        /// First key kept.
        to: &'a [u8],
    },
}

impl Batch {
    /// An empty batch without a buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch whose buffer takes `bytes` before it grows.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            buffer: Vec::with_capacity(bytes),
            operations: 0,
        }
    }

    /// Sets `key` to `value`. Panics where one of them is 4 GiB or more.
    pub fn put(&mut self, space: Space, key: &[u8], value: &[u8]) {
        self.add(PUT, space, key, value);
    }

    /// Removes `key`; no error where it does not exist.
    pub fn delete(&mut self, space: Space, key: &[u8]) {
        self.add(DELETE, space, key, &[]);
    }

    /// Removes every row with `from <= key < to`; nothing where `from >= to`.
    pub fn delete_range(&mut self, space: Space, from: &[u8], to: &[u8]) {
        self.add(DELETE_RANGE, space, from, to);
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.operations
    }

    /// Bytes of the buffer in use: keys, values and ten bytes for each operation.
    pub fn byte_len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// Removes every operation and keeps the buffer.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.operations = 0;
    }

    /// The operations, in the order in which they were added.
    pub fn operations(&self) -> Operations<'_> {
        Operations { rest: &self.buffer }
    }

    fn add(&mut self, kind: u8, space: Space, first: &[u8], second: &[u8]) {
        let length = |bytes: &[u8]| {
            u32::try_from(bytes.len())
                .expect("keys and values are below 4 GiB")
                .to_le_bytes()
        };
        self.buffer.reserve(HEAD + first.len() + second.len());
        self.buffer.extend_from_slice(&[kind, space as u8]);
        self.buffer.extend_from_slice(&length(first));
        self.buffer.extend_from_slice(&length(second));
        self.buffer.extend_from_slice(first);
        self.buffer.extend_from_slice(second);
        self.operations += 1;
    }
}

/// Iterator over the operations of a [`Batch`].
#[derive(Clone, Debug)]
pub struct Operations<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Operations<'a> {
    type Item = Operation<'a>;

    fn next(&mut self) -> Option<Operation<'a>> {
        let (head, body) = self.rest.split_first_chunk::<HEAD>()?;
        let [kind, space, a, b, c, d, e, f, g, h] = *head;
        let first_len = u32::from_le_bytes([a, b, c, d]) as usize;
        let second_len = u32::from_le_bytes([e, f, g, h]) as usize;
        let (first, body) = body.split_at(first_len);
        let (second, rest) = body.split_at(second_len);
        self.rest = rest;
        let space = Space::ALL[usize::from(space)];
        Some(match kind {
            PUT => Operation::Put {
                space,
                key: first,
                value: second,
            },
            DELETE => Operation::Delete { space, key: first },
            _ => Operation::DeleteRange {
                space,
                from: first,
                to: second,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_come_back_in_the_order_in_which_they_were_added() {
        let mut batch = Batch::new();
        batch.put(Space::Record, b"k", b"");
        batch.delete(Space::Meta, b"");
        batch.delete_range(Space::System, b"a", b"b");
        assert_eq!(batch.len(), 3);
        assert_eq!(batch.byte_len(), 3 * HEAD + 3);
        let operations: Vec<_> = batch.operations().collect();
        assert_eq!(
            operations,
            [
                Operation::Put {
                    space: Space::Record,
                    key: b"k",
                    value: b""
                },
                Operation::Delete {
                    space: Space::Meta,
                    key: b""
                },
                Operation::DeleteRange {
                    space: Space::System,
                    from: b"a",
                    to: b"b"
                },
            ]
        );
        batch.clear();
        assert!(batch.is_empty());
        assert_eq!(batch.operations().next(), None);
    }
}
