//! Whoever wants to know what is applied: for counting, and for measuring time, which this room must not.

use metastore_proto::commandpb::Command;

use crate::Outcome;

/// Is told of the commands as they are applied, on the thread that applies. It must not block.
pub trait Observer: Send + Sync {
    /// The commands of an entry come next.
    fn begin(&mut self);

    /// This one has been carried out, or refused.
    fn applied(&mut self, command: &Command, outcome: &Outcome);
}
