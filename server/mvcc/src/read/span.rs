//! A range of keys in etcd's encoding.

/// Keys from `from` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span<'k> {
    pub(crate) from: &'k [u8],
    pub(crate) to: To<'k>,
}

/// Where a range ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To<'k> {
    /// With its first key.
    First,
    /// Before this key.
    Before(&'k [u8]),
    /// Nowhere.
    End,
}

impl<'k> Span<'k> {
    /// Reads `key` and `range_end` of a request.
    pub(crate) fn decode(key: &'k [u8], end: &'k [u8]) -> Self {
        let to = match end {
            [] => To::First,
            [0] => To::End,
            end => To::Before(end),
        };
        Self { from: key, to }
    }

    pub(crate) fn is_one(&self) -> bool {
        self.to == To::First
    }

    /// The bound of a walk; of a single key there is none to be had without making one.
    pub(crate) fn bound(&self) -> Option<&'k [u8]> {
        match self.to {
            To::Before(end) => Some(end),
            To::First | To::End => None,
        }
    }
}
