//! What can go wrong.

use std::time::Duration;

use etcd_client::Error as ClientError;
use tonic::Code;

/// Why something could not be had, kept or given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The session's lease has run out, was revoked, or could not be renewed in time.
    #[error("the session is lost")]
    SessionLost,
    /// Leadership that was campaigned for has ended meanwhile.
    #[error("not leader")]
    NotLeader,
    /// The cluster could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Between two tries to reach a cluster that does not answer.
pub(crate) const AGAIN: Duration = Duration::from_millis(100);

/// Whether the same request may succeed in a moment, from another member or after an election.
pub(crate) fn is_transient(error: &ClientError) -> bool {
    match error {
        ClientError::GRpcStatus(status) => {
            matches!(status.code(), Code::Unavailable | Code::Unknown)
        }
        ClientError::TransportError(_) | ClientError::IoError(_) => true,
        _ => false,
    }
}
