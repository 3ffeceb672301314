//! What goes over the wire and into the log: etcd 3.7's messages and services, the envelope of the raft
//! log and the members' own protocol.
//!
//! Promises names, numbers and types as in `proto/*.proto`; every `bytes` field is a
//! [`bytes::Bytes`], so that a decoded request shares the buffer it came in. With the feature `services`
//! each service has a tonic client and server. Knows no behaviour.

// Generated code carries the comments of its .proto file and nothing else, and routes all methods in one function.
#![allow(missing_docs, clippy::too_many_lines)]

/// A stored key and its events.
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// The client's protocol.
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// Users, roles, permissions.
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}

/// Members as etcd's log and snapshot hold them.
pub mod membershippb {
    include!(concat!(env!("OUT_DIR"), "/membershippb.rs"));
}

/// The lock service.
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}

/// The election service.
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}

/// gRPC's health service.
pub mod healthpb {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// The envelope of the raft log.
pub mod commandpb {
    include!(concat!(env!("OUT_DIR"), "/commandpb.rs"));
}

/// What members say to each other.
#[cfg(peer_protocol)]
pub mod peerpb {
    include!(concat!(env!("OUT_DIR"), "/peerpb.rs"));
}
