//! gRPC over HTTP/2, as much of it as a server needs: messages in and out of bodies, metadata, status.
//!
//! Written directly on hyper since the door's hot path is a few microseconds: a unary request is decoded
//! from the very buffer it arrived in, and an answer leaves as the bytes that the rooms below have
//! encoded, without a boxed body, a copy or a second encoding. Texts for protocol errors are those of
//! grpc-go, which etcd's clients know.
//! This module must not know what a message means.

mod body;
mod code;
mod deadline;
mod inbox;
mod metadata;
mod method;
mod outbox;
mod reply;
mod unfinished;

pub use body::Body;
pub use code::Code;
pub use inbox::{Inbox, decode, decode_streamed};
pub use metadata::Metadata;
pub use method::{Kind, Method};
pub use outbox::Outbox;
pub(crate) use reply::not_grpc;
pub use reply::{refused, streamed, unary};

/// Bytes before each message: a compression flag and the length.
pub const PREFIX_BYTES: usize = 5;
