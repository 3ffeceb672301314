//! What a member proposes: a batch of commands with its bytes.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use metastore_proto::commandpb;
use parking_lot::Mutex;
use prost::Message;

use super::{DecodeError, kind};

/// One batch of commands, decoded and encoded; a clone costs one reference count.
///
/// The decoded form is for the one that applies it, who takes it away: the newest entries of the log stay
/// in memory for followers that are behind, and those need the bytes alone.
#[derive(Clone)]
pub struct Proposal(Arc<Inner>);

struct Inner {
    /// The kind byte and the encoded `commandpb.Entry`, so that log and network need no copy.
    tagged: Bytes,
    entry: Mutex<Option<commandpb::Entry>>,
}

impl Proposal {
    /// From an encoded `commandpb.Entry`, which is not looked into yet.
    #[must_use]
    pub fn new(encoded: Bytes) -> Self {
        let mut tagged = BytesMut::with_capacity(1 + encoded.len());
        tagged.put_u8(kind::PROPOSAL);
        tagged.put_slice(&encoded);
        Self::from_tagged(tagged.freeze())
    }

    /// From an encoded `commandpb.Entry` of somebody else. What was decoded is kept for the one that applies it.
    ///
    /// # Errors
    /// When the bytes are no `commandpb.Entry`.
    pub fn checked(encoded: Bytes) -> Result<Self, DecodeError> {
        let proposal = Self::new(encoded);
        let entry = proposal.take_entry()?;
        *proposal.0.entry.lock() = Some(entry);
        Ok(proposal)
    }

    /// From the decoded form; encodes it.
    #[must_use]
    pub fn from_entry(entry: commandpb::Entry) -> Self {
        let mut tagged = Vec::with_capacity(1 + entry.encoded_len());
        tagged.push(kind::PROPOSAL);
        entry.encode_raw(&mut tagged);
        Self(Arc::new(Inner {
            tagged: tagged.into(),
            entry: Mutex::new(Some(entry)),
        }))
    }

    pub(super) fn from_tagged(tagged: Bytes) -> Self {
        Self(Arc::new(Inner {
            tagged,
            entry: Mutex::default(),
        }))
    }

    pub(super) fn tagged(&self) -> &Bytes {
        &self.0.tagged
    }

    /// Takes the commands out; decodes them when they are not there any more, or have come as bytes.
    ///
    /// # Errors
    /// When the bytes are no `commandpb.Entry`.
    pub fn take_entry(&self) -> Result<commandpb::Entry, DecodeError> {
        if let Some(entry) = self.0.entry.lock().take() {
            return Ok(entry);
        }
        commandpb::Entry::decode(self.encoded()).map_err(|error| DecodeError::Malformed {
            what: "proposal",
            reason: error.to_string(),
        })
    }

    /// The encoded `commandpb.Entry`.
    #[must_use]
    pub fn encoded(&self) -> Bytes {
        self.0.tagged.slice(1..)
    }

    /// Bytes it takes in the log.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.0.tagged.len()
    }
}

impl PartialEq for Proposal {
    fn eq(&self, other: &Self) -> bool {
        self.0.tagged == other.0.tagged
    }
}

impl Eq for Proposal {}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0.entry.lock() {
            Some(entry) => write!(
                f,
                "{} commands of {:x}#{}",
                entry.commands.len(),
                entry.origin,
                entry.sequence
            ),
            None => write!(f, "{} bytes", self.0.tagged.len()),
        }
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> commandpb::Entry {
        commandpb::Entry {
            format: 1,
            origin: 0xabc,
            sequence: 5,
            commands: vec![commandpb::Command::default()],
        }
    }

    #[test]
    fn either_form_gives_the_other() {
        let encoded = Bytes::from(entry().encode_to_vec());
        let from_bytes = Proposal::new(encoded.clone());
        let from_entry = Proposal::from_entry(entry());
        assert_eq!(from_bytes, from_entry);
        assert_eq!(from_entry.encoded(), encoded);
        assert_eq!(from_bytes.take_entry().unwrap(), entry());
        for _ in 0..2 {
            assert_eq!(from_entry.take_entry().unwrap(), entry());
        }
    }

    #[test]
    fn it_prints_short_whatever_it_holds() {
        let proposal = Proposal::from_entry(entry());
        assert_eq!(format!("{proposal:?}"), "Proposal(1 commands of abc#5)");
        proposal.take_entry().unwrap();
        assert_eq!(
            proposal.to_string(),
            format!("{} bytes", proposal.byte_len())
        );
    }

    #[test]
    fn bytes_that_are_no_entry_are_an_error_when_looked_into() {
        let bytes = Bytes::from_static(&[0xff; 4]);
        assert!(Proposal::new(bytes.clone()).take_entry().is_err());
        assert!(Proposal::checked(bytes).is_err());
        let good = Proposal::checked(entry().encode_to_vec().into());
        assert_eq!(good.unwrap().take_entry().unwrap(), entry());
    }
}
