//! Answers as HTTP responses.

use std::future::Future;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::encoded::Encoded;
use crate::grpc::Code;
use crate::grpc::body::Body;
use crate::grpc::outbox::{Outbox, StreamBody};
use crate::metrics::MethodCounters;
use crate::status::Refusal;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// One message and the status OK.
pub fn unary(message: Encoded) -> Response<Body> {
    response(Body::message(message))
}

/// The messages that `write` sends, then the status it returns.
pub fn streamed<F, W>(counters: Arc<MethodCounters>, write: W) -> Response<Body>
where
    W: FnOnce(Outbox) -> F,
    F: Future<Output = Result<(), Refusal>> + Send + 'static,
{
    response(Body::stream(StreamBody::new(counters, write)))
}

/// No message, only a status: it travels in the headers.
pub fn refused(refusal: &Refusal) -> Response<Body> {
    let mut response = response(Body::empty());
    put_status(response.headers_mut(), refusal);
    response
}

/// The answer to a gRPC request that is none: HTTP status 415, as grpc-go.
pub(crate) fn not_grpc(content_type: &str) -> Response<Body> {
    let text = format!("invalid gRPC request content-type {content_type:?}");
    let mut response = refused(&Refusal::told(Code::InvalidArgument, text));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// What stands behind the last message.
pub(super) fn trailers(result: Result<(), Refusal>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    match result {
        Ok(()) => {
            trailers.insert(GRPC_STATUS, HeaderValue::from_static(Code::Ok.digits()));
        }
        Err(refusal) => put_status(&mut trailers, &refusal),
    }
    trailers
}

fn put_status(headers: &mut HeaderMap, refusal: &Refusal) {
    headers.insert(
        GRPC_STATUS,
        HeaderValue::from_static(refusal.code().digits()),
    );
    if !refusal.text().is_empty() {
        headers.insert(GRPC_MESSAGE, message_value(refusal.text()));
    }
}

/// Percent-encodes everything but printable ASCII, and `%` itself, as the protocol wants it.
fn message_value(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status;

    #[test]
    fn a_refusal_travels_in_the_headers() {
        let response = refused(&status::NO_LEADER);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "etcdserver: no leader");
    }

    #[test]
    fn a_message_is_percent_encoded() {
        assert_eq!(message_value("100% of ä\n"), "100%25 of %C3%A4%0A");
    }
}
