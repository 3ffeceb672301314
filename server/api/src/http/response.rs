//! Responses as Go's HTTP library makes them.

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};

use crate::grpc::Body;

pub(super) const PLAIN: &str = "text/plain; charset=utf-8";

/// A page that was found.
pub(super) fn document(content_type: &'static str, content: String) -> Response<Body> {
    let mut response = Response::new(Body::document(content));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// As [`document`], with the header that keeps browsers from guessing.
pub(super) fn plain(content: String) -> Response<Body> {
    let mut response = document(PLAIN, content);
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// What Go's `http.Error` writes: the text and a line feed.
pub(super) fn failure(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = plain(format!("{text}\n"));
    *response.status_mut() = status;
    response
}

pub(super) fn not_found() -> Response<Body> {
    failure(StatusCode::NOT_FOUND, "404 page not found")
}

pub(super) fn method_not_allowed() -> Response<Body> {
    let mut response = failure(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET"));
    response
}
