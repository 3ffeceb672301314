//! THE table of what a request can be refused with: etcd's texts and gRPC codes, and which error of the
//! rooms below becomes which of them.
//!
//! Texts and codes are those of `api/v3rpc/rpctypes/error.go`; clients compare them literally. Which
//! error becomes which follows `server/etcdserver/api/v3rpc/util.go`. Nobody else in this crate writes
//! a text that etcd has. This module must not know how a refusal travels.

use std::borrow::Cow;

use metastore_mvcc as mvcc;
use metastore_node as node;
use metastore_state_machine as state_machine;

use crate::grpc::Code;

/// Why a request is refused: a gRPC code and the text a client sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    code: Code,
    text: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with a text known beforehand.
    pub const fn new(code: Code, text: &'static str) -> Self {
        Self {
            code,
            text: Cow::Borrowed(text),
        }
    }

    /// A refusal that tells details of this very request.
    pub fn told(code: Code, text: String) -> Self {
        Self {
            code,
            text: Cow::Owned(text),
        }
    }

    /// An error that etcd has no code for: gRPC's `Unknown`, as `togRPCError` answers it.
    pub fn unknown(error: impl std::fmt::Display) -> Self {
        Self::told(Code::Unknown, error.to_string())
    }

    /// A method that is part of the protocol and that this server does not offer, in grpc-go's words.
    pub fn unimplemented(method: &str) -> Self {
        Self::told(
            Code::Unimplemented,
            format!("method {method} not implemented"),
        )
    }

    /// The gRPC code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The text, without the `rpc error: …` that clients put before it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Display for Refusal {
    /// As Go prints a status error; etcd shows this form in `/health` and in a watch's cancel reason.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "rpc error: code = {} desc = {}",
            self.code.name(),
            self.text
        )
    }
}

impl std::error::Error for Refusal {}

macro_rules! table {
    ($($name:ident = $code:ident, $text:literal;)*) => {
        $(
            #[doc = concat!("`", stringify!($code), "`: ", $text)]
            pub const $name: Refusal = Refusal::new(Code::$code, $text);
        )*

        /// Every row, for tests and documentation.
        pub const ALL: &[Refusal] = &[$($name),*];
    };
}

table! {
    EMPTY_KEY = InvalidArgument, "etcdserver: key is not provided";
    KEY_NOT_FOUND = InvalidArgument, "etcdserver: key not found";
    VALUE_PROVIDED = InvalidArgument, "etcdserver: value is provided";
    LEASE_PROVIDED = InvalidArgument, "etcdserver: lease is provided";
    TOO_MANY_OPS = InvalidArgument, "etcdserver: too many operations in txn request";
    DUPLICATE_KEY = InvalidArgument, "etcdserver: duplicate key given in txn request";
    INVALID_CLIENT_API_VERSION = InvalidArgument, "etcdserver: invalid client api version";
    INVALID_SORT_OPTION = InvalidArgument, "etcdserver: invalid sort option";
    COMPACTED = OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    FUTURE_REV = OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    NO_SPACE = ResourceExhausted, "etcdserver: mvcc: database space exceeded";

    // etcd has none: there a full disk ends the process.
    DISK_FULL = ResourceExhausted, "etcdserver: no space left on device";

    LEASE_NOT_FOUND = NotFound, "etcdserver: requested lease not found";
    LEASE_EXIST = FailedPrecondition, "etcdserver: lease already exists";
    LEASE_TTL_TOO_LARGE = OutOfRange, "etcdserver: too large lease TTL";

    WATCH_CANCELED = Canceled, "etcdserver: watch canceled";

    MEMBER_EXIST = FailedPrecondition, "etcdserver: member ID already exist";
    PEER_URL_EXIST = FailedPrecondition, "etcdserver: Peer URLs already exists";
    MEMBER_NOT_ENOUGH_STARTED = FailedPrecondition, "etcdserver: re-configuration failed due to not enough started members";
    MEMBER_BAD_URLS = InvalidArgument, "etcdserver: given member URLs are invalid";
    MEMBER_NOT_FOUND = NotFound, "etcdserver: member not found";
    MEMBER_NOT_LEARNER = FailedPrecondition, "etcdserver: can only promote a learner member";
    LEARNER_NOT_READY = FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader";
    TOO_MANY_LEARNERS = FailedPrecondition, "etcdserver: too many learner members in cluster";
    CLUSTER_ID_MISMATCH = FailedPrecondition, "etcdserver: cluster ID mismatch";

    REQUEST_TOO_LARGE = InvalidArgument, "etcdserver: request is too large";
    REQUEST_TOO_MANY_REQUESTS = ResourceExhausted, "etcdserver: too many requests";

    ROOT_USER_NOT_EXIST = FailedPrecondition, "etcdserver: root user does not exist";
    ROOT_ROLE_NOT_EXIST = FailedPrecondition, "etcdserver: root user does not have root role";
    USER_ALREADY_EXIST = FailedPrecondition, "etcdserver: user name already exists";
    USER_EMPTY = InvalidArgument, "etcdserver: user name is empty";
    USER_NOT_FOUND = FailedPrecondition, "etcdserver: user name not found";
    ROLE_ALREADY_EXIST = FailedPrecondition, "etcdserver: role name already exists";
    ROLE_NOT_FOUND = FailedPrecondition, "etcdserver: role name not found";
    ROLE_EMPTY = InvalidArgument, "etcdserver: role name is empty";
    AUTH_FAILED = InvalidArgument, "etcdserver: authentication failed, invalid user ID or password";
    PERMISSION_NOT_GIVEN = InvalidArgument, "etcdserver: permission not given";
    PERMISSION_DENIED = PermissionDenied, "etcdserver: permission denied";
    ROLE_NOT_GRANTED = FailedPrecondition, "etcdserver: role is not granted to the user";
    PERMISSION_NOT_GRANTED = FailedPrecondition, "etcdserver: permission is not granted to the role";
    AUTH_NOT_ENABLED = FailedPrecondition, "etcdserver: authentication is not enabled";
    INVALID_AUTH_TOKEN = Unauthenticated, "etcdserver: invalid auth token";
    INVALID_AUTH_MGMT = InvalidArgument, "etcdserver: invalid auth management";
    AUTH_OLD_REVISION = InvalidArgument, "etcdserver: revision of auth store is old";

    NO_LEADER = Unavailable, "etcdserver: no leader";
    NOT_LEADER = FailedPrecondition, "etcdserver: not leader";
    LEADER_CHANGED = Unavailable, "etcdserver: leader changed";
    NOT_CAPABLE = FailedPrecondition, "etcdserver: not capable";
    STOPPED = Unavailable, "etcdserver: server stopped";
    TIMEOUT = Unavailable, "etcdserver: request timed out";
    TIMEOUT_DUE_TO_LEADER_FAIL = Unavailable, "etcdserver: request timed out, possibly due to previous leader failure";
    TIMEOUT_DUE_TO_CONNECTION_LOST = Unavailable, "etcdserver: request timed out, possibly due to connection lost";
    TIMEOUT_WAIT_APPLIED_INDEX = Unavailable, "etcdserver: request timed out, waiting for the applied index took too long";
    UNHEALTHY = Unavailable, "etcdserver: unhealthy cluster";
    CORRUPT = DataLoss, "etcdserver: corrupt cluster";
    NOT_SUPPORTED_FOR_LEARNER = FailedPrecondition, "etcdserver: rpc not supported for learner";
    BAD_LEADER_TRANSFEREE = FailedPrecondition, "etcdserver: bad leader transferee";

    WRONG_DOWNGRADE_VERSION_FORMAT = InvalidArgument, "etcdserver: wrong downgrade target version format";
    INVALID_DOWNGRADE_TARGET_VERSION = InvalidArgument, "etcdserver: invalid downgrade target version";
    CLUSTER_VERSION_UNAVAILABLE = FailedPrecondition, "etcdserver: cluster version not found during downgrade";
    DOWNGRADE_IN_PROCESS = FailedPrecondition, "etcdserver: cluster has a downgrade job in progress";
    NO_INFLIGHT_DOWNGRADE = FailedPrecondition, "etcdserver: no inflight downgrade job";

    CANCELED = Canceled, "etcdserver: request canceled";
    DEADLINE_EXCEEDED = DeadlineExceeded, "etcdserver: context deadline exceeded";

    // gRPC's own: what a server says when the caller gave up or ran out of time.
    CONTEXT_CANCELED = Canceled, "context canceled";
    CONTEXT_DEADLINE_EXCEEDED = DeadlineExceeded, "context deadline exceeded";

    // Refused without a code of its own: etcd hands out its client-side error here, which gRPC knows nothing of.
    TOO_MANY_REQUESTS = Unknown, "etcdserver: too many requests";
    NOT_ENOUGH_STARTED_MEMBERS = Unknown, "etcdserver: re-configuration failed due to not enough started members";
    NOT_PRIMARY_LESSOR = Unknown, "not a primary lessor";
    LEADER_TRANSFER_TIMEOUT = Unknown, "etcdserver: request timed out, leader transfer took too long";

    RANGE_STREAM_SORT = Unimplemented, "RangeStream does not support custom sort orders";
    RANGE_STREAM_FILTERS = Unimplemented, "RangeStream does not support revision filters";
}

impl From<node::Error> for Refusal {
    fn from(error: node::Error) -> Self {
        match error {
            node::Error::NoLeader => NO_LEADER,
            node::Error::NotTaken => CONTEXT_DEADLINE_EXCEEDED,
            node::Error::Timeout => TIMEOUT,
            node::Error::TimeoutDueToLeaderFailure => TIMEOUT_DUE_TO_LEADER_FAIL,
            node::Error::TimeoutDueToConnectionLost => TIMEOUT_DUE_TO_CONNECTION_LOST,
            node::Error::NotLeader => NOT_LEADER,
            node::Error::LeaderChanged => LEADER_CHANGED,
            node::Error::Stopped => STOPPED,
            node::Error::TooManyRequests => TOO_MANY_REQUESTS,
            node::Error::DiskFull => DISK_FULL,
            node::Error::RequestTooLarge => REQUEST_TOO_LARGE,
            node::Error::NotSupportedForLearner => NOT_SUPPORTED_FOR_LEARNER,
            node::Error::LeaseNotFound => LEASE_NOT_FOUND,
            node::Error::Apply(error) => error.into(),
            node::Error::Store(error) => error.into(),
            error @ node::Error::Storage(_) => Self::unknown(format_args!("etcdserver: {error}")),
        }
    }
}

impl From<state_machine::Error> for Refusal {
    fn from(error: state_machine::Error) -> Self {
        use state_machine::Error;
        match error {
            Error::Compacted => COMPACTED,
            Error::FutureRevision => FUTURE_REV,
            Error::LeaseNotFound => LEASE_NOT_FOUND,
            Error::LeaseExists => LEASE_EXIST,
            Error::LeaseTtlTooLarge => LEASE_TTL_TOO_LARGE,
            Error::KeyNotFound => KEY_NOT_FOUND,
            Error::NoSpace => NO_SPACE,
            Error::Corrupt => CORRUPT,
            Error::EmptyKey => EMPTY_KEY,
            trouble => Self::unknown(format_args!("etcdserver: {trouble}")),
        }
    }
}

impl From<mvcc::Error> for Refusal {
    fn from(error: mvcc::Error) -> Self {
        match error {
            mvcc::Error::Compacted { .. } => COMPACTED,
            mvcc::Error::FutureRevision { .. } => FUTURE_REV,
            mvcc::Error::Stopped => STOPPED,
            trouble => Self::unknown(format_args!("etcdserver: {trouble}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_stands_once() {
        for (at, row) in ALL.iter().enumerate() {
            assert!(!ALL[..at].iter().any(|other| other == row), "{row}");
        }
    }

    #[test]
    fn an_error_of_the_rooms_below_has_the_text_that_clients_know() {
        let compacted = mvcc::Error::Compacted {
            compact_revision: 5,
        };
        assert_eq!(Refusal::from(compacted.clone()), COMPACTED);
        assert_eq!(Refusal::from(node::Error::Store(compacted)), COMPACTED);
        assert_eq!(
            Refusal::from(node::Error::Apply(state_machine::Error::NoSpace)),
            NO_SPACE
        );
        assert_eq!(
            Refusal::from(node::Error::NoLeader).to_string(),
            "rpc error: code = Unavailable desc = etcdserver: no leader"
        );
        let storage = Refusal::from(node::Error::Storage("disk on fire".to_owned()));
        assert_eq!(
            (storage.code(), storage.text()),
            (Code::Unknown, "etcdserver: storage: disk on fire")
        );
    }
}
