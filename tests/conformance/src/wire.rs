//! Calls as bytes: what goes over the wire is what is recorded, unknown fields included.

use std::sync::LazyLock;

use bytes::{Buf, BufMut, Bytes};
use prost_reflect::{DescriptorPool, MessageDescriptor};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let bytes: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    DescriptorPool::decode(bytes).expect("the build script writes valid descriptors")
});

/// The request and response type of a method, named like `etcdserverpb.KV/Range`.
///
/// Panics when there is no such method: cases name methods literally.
pub fn method_messages(method: &str) -> (MessageDescriptor, MessageDescriptor) {
    let found = method.split_once('/').and_then(|(service, name)| {
        let service = POOL.get_service_by_name(service)?;
        let method = service.methods().find(|method| method.name() == name)?;
        Some((method.input(), method.output()))
    });
    found.unwrap_or_else(|| panic!("no method {method} in the descriptors"))
}

/// A message type by its full name. Panics when there is none.
pub(crate) fn message(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name)
        .unwrap_or_else(|| panic!("no message {name} in the descriptors"))
}

/// Passes message bodies through untouched.
#[derive(Clone, Copy, Default)]
pub(crate) struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = source.remaining();
        Ok(Some(source.copy_to_bytes(length)))
    }
}
