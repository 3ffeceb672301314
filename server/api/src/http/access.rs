//! Who may ask for a page: the host names of `--host-whitelist`, the origins of `--cors`
//! (`accessController` of `server/embed/serve.go`).

use std::collections::HashSet;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST,
    HeaderMap, HeaderValue, ORIGIN,
};
use http::{Request, Response, StatusCode};

use super::response::failure;
use crate::grpc::Body;

/// Stands for every host or origin.
const ANY: &str = "*";

/// The lists of those who may ask.
#[derive(Debug, Clone)]
pub struct AccessControl {
    /// Host names that requests without TLS may be addressed to; `*` for any.
    pub hosts: HashSet<String>,
    /// Origins of web pages whose requests are allowed; `*` for any.
    pub origins: HashSet<String>,
}

impl Default for AccessControl {
    /// Everybody, as etcd's flags have it by default.
    fn default() -> Self {
        Self {
            hosts: [ANY.to_owned()].into(),
            origins: [ANY.to_owned()].into(),
        }
    }
}

impl AccessControl {
    /// The answer to a request for a host that is not in the list; guards against DNS rebinding.
    pub(super) fn check_host<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        if self.hosts.is_empty() || self.hosts.contains(ANY) {
            return None;
        }
        let header = request
            .headers()
            .get(HOST)
            .and_then(|host| host.to_str().ok());
        let authority = request.uri().authority().map(http::uri::Authority::as_str);
        let host = host_name(header.or(authority).unwrap_or_default());
        if self.hosts.contains(host) {
            return None;
        }
        tracing::warn!(
            host,
            "rejecting HTTP request to prevent DNS rebinding attacks"
        );
        Some(failure(
            StatusCode::MISDIRECTED_REQUEST,
            &unknown_host(host),
        ))
    }

    /// The origin that the answer may be shown to.
    pub(super) fn allowed_origin<B>(&self, request: &Request<B>) -> Option<HeaderValue> {
        if self.origins.contains(ANY) {
            return Some(HeaderValue::from_static(ANY));
        }
        let origin = request.headers().get(ORIGIN)?;
        self.origins
            .contains(origin.to_str().ok()?)
            .then(|| origin.clone())
    }
}

/// Tells a browser that `origin` may see the answer.
pub(super) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
    );
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("accept, content-type, authorization"),
    );
}

/// The host without its port.
fn host_name(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn unknown_host(host: &str) -> String {
    format!(
        "\netcd received your request, but the Host header was unrecognized.\n\n\
         To fix this, choose one of the following options:\n\
         - Enable TLS, then any HTTPS request will be allowed.\n\
         - Add the hostname you want to use to the whitelist in settings.\n  \
         - e.g. etcd --host-whitelist {host:?}\n\n\
         This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str) -> Request<()> {
        Request::builder()
            .header(HOST, host)
            .body(())
            .expect("valid")
    }

    #[test]
    fn by_default_everybody_may_ask() {
        let access = AccessControl::default();
        assert!(access.check_host(&request("evil.example:2379")).is_none());
        assert_eq!(
            access.allowed_origin(&request("x")),
            Some(HeaderValue::from_static("*"))
        );
    }

    #[test]
    fn a_host_must_be_in_the_list() {
        let access = AccessControl {
            hosts: ["etcd.example".to_owned(), "::1".to_owned()].into(),
            ..AccessControl::default()
        };
        assert!(access.check_host(&request("etcd.example:2379")).is_none());
        assert!(access.check_host(&request("[::1]:2379")).is_none());
        let refused = access
            .check_host(&request("evil.example:2379"))
            .expect("refused");
        assert_eq!(refused.status(), StatusCode::MISDIRECTED_REQUEST);
    }

    #[test]
    fn an_origin_must_be_in_the_list() {
        let access = AccessControl {
            origins: ["https://good.example".to_owned()].into(),
            ..AccessControl::default()
        };
        let from = |origin: &str| {
            let request = Request::builder()
                .header(ORIGIN, origin)
                .body(())
                .expect("valid");
            access.allowed_origin(&request)
        };
        assert_eq!(
            from("https://good.example"),
            Some(HeaderValue::from_static("https://good.example"))
        );
        assert_eq!(from("https://evil.example"), None);
    }
}
