//! Applying the log: one entry, one command, the order of the gates.
//!
//! Promises: every command of an entry gets an outcome, or the member stops by a [`Fault`]; a refused command has changed nothing; what
//! changes does not depend on whether anybody waits for the answers. One module for each kind of command.

mod alarm;
mod compaction;
mod compare;
mod delete_range;
mod lease;
mod membership;
mod put;
mod txn;

use metastore_proto::commandpb::command::Request;
use metastore_proto::commandpb::{Command, Entry};

pub(crate) use compare::{Found, Keys, all_hold};
pub(crate) use txn::{check_revision, query_of};

use crate::fault::Halt;
use crate::gate::GATES;
use crate::{Applied, ENTRY_FORMAT, Error, Fault, LogPosition, Outcome, StateMachine};

impl StateMachine {
    /// Applies an entry: one outcome for each command, none where nobody here waits for `answers`.
    ///
    /// An entry at or below [`StateMachine::applied`] is skipped, with no outcomes.
    ///
    /// # Errors
    /// The member must stop: the store failed, or a newer version wrote the entry. From then on every call fails.
    pub fn apply(
        &mut self,
        position: LogPosition,
        entry: &Entry,
        answers: bool,
    ) -> Result<Vec<Outcome>, Fault> {
        self.check_fault()?;
        if self.is_applied(position) {
            return Ok(Vec::new());
        }
        if entry.format != ENTRY_FORMAT {
            return Err(self.stop(Fault::Format {
                index: position.index,
                found: entry.format,
                known: ENTRY_FORMAT,
            }));
        }
        let mut outcomes = Vec::with_capacity(if answers { entry.commands.len() } else { 0 });
        if let Some(observer) = &mut self.observer {
            observer.begin();
        }
        for command in &entry.commands {
            let outcome = match self.apply_command(command, answers) {
                Ok(applied) => Ok(applied),
                Err(Halt::Refused(error)) => Err(error),
                Err(Halt::Fault(fault)) => return Err(self.stop(fault)),
            };
            if let Some(observer) = &mut self.observer {
                observer.applied(command, &outcome);
            }
            if answers {
                outcomes.push(outcome);
            }
        }
        self.mark_applied(position);
        Ok(outcomes)
    }

    /// The gates, in their order; then the request.
    fn apply_command(&mut self, command: &Command, answers: bool) -> Result<Applied, Halt> {
        for gate in GATES {
            gate(self.standing, command)?;
        }
        let Some(request) = &command.request else {
            return Err(Error::UnknownCommand.into());
        };
        match request {
            Request::Put(request) => put::apply(self, request, answers),
            Request::DeleteRange(request) => delete_range::apply(self, request, answers),
            Request::Txn(request) => txn::apply(self, request, answers),
            Request::Compaction(request) => compaction::apply(self, request),
            Request::LeaseGrant(request) => lease::grant(self, request),
            Request::LeaseRevoke(request) => lease::revoke(self, request),
            Request::LeaseCheckpoint(request) => lease::checkpoint(self, request),
            Request::Alarm(request) => alarm::apply(self, request),
            Request::MemberAttributes(request) => membership::attributes(self, request),
            Request::ClusterVersion(request) => membership::cluster_version(self, request),
        }
    }
}
