//! The messages of the API by name.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MessageDescriptor};

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
