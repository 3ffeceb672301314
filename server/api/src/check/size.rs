//! How large a request may be.

use crate::status::{self, Refusal};

/// What a gRPC message may have beyond `--max-request-bytes` (`grpcOverheadBytes` of etcd's config).
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

/// etcd measures a proposal with its envelope: an id of its own (at most 14 bytes) around the request.
const ENVELOPE_BYTES: usize = 14;

/// The largest gRPC message that is received at all.
pub const fn message_limit(max_request_bytes: usize) -> usize {
    max_request_bytes + GRPC_OVERHEAD_BYTES
}

/// Refuses a write whose log entry would be larger than `max_request_bytes`.
///
/// `request_bytes` is the length of the encoded request as it was received.
pub const fn proposal_size(request_bytes: usize, max_request_bytes: usize) -> Result<(), Refusal> {
    let tag_and_length = 1 + length_of_varint(request_bytes);
    if request_bytes + tag_and_length + ENVELOPE_BYTES > max_request_bytes {
        return Err(status::REQUEST_TOO_LARGE);
    }
    Ok(())
}

const fn length_of_varint(value: usize) -> usize {
    let bits = usize::BITS as usize - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1_572_864;

    #[test]
    fn a_write_may_be_as_large_as_the_limit_with_its_envelope() {
        let largest = MAX - ENVELOPE_BYTES - 1 - 3;
        assert_eq!(proposal_size(largest, MAX), Ok(()));
        assert_eq!(
            proposal_size(largest + 1, MAX),
            Err(status::REQUEST_TOO_LARGE)
        );
    }

    #[test]
    fn a_varint_is_as_long_as_protobuf_writes_it() {
        for (value, length) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (16_383, 2),
            (16_384, 3),
            (2_097_152, 4),
        ] {
            assert_eq!(length_of_varint(value), length, "{value}");
        }
    }
}
