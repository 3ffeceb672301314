//! The URLs of etcd's flags: `http://host:port`, `https://…`, `unix:/path` and `unixs:/path`.
//!
//! Promises etcd's rules and texts (`client/pkg/types/urls.go`) over Go's `url.Parse`. Resolves nothing.

use std::fmt;
use std::path::PathBuf;

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// TCP.
    Http,
    /// TCP with TLS.
    Https,
    /// A socket in the file system.
    Unix,
    /// A socket in the file system, with TLS.
    Unixs,
}

/// A parsed URL. Equal, ordered and printed by its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    text: String,
    scheme: Scheme,
    /// `host:port` for TCP; what stands between `//` and the path for a socket.
    authority: String,
    path: String,
}

/// Why a URL was refused, in the words of etcd and of Go's `net/url`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Go could not parse it.
    #[error("parse {url:?}: {reason}")]
    Parse {
        /// The text.
        url: String,
        /// Go's reason.
        reason: String,
    },
    /// A scheme that etcd does not know.
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    /// No port.
    #[error("URL address does not have the form \"host:port\": {0}")]
    Address(String),
    /// A path after the port.
    #[error("URL must not contain a path: {0}")]
    Path(String),
}

impl Url {
    /// Reads one URL; spaces around it are ignored.
    ///
    /// # Errors
    /// With etcd's text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let refuse = |reason: String| Error::Parse {
            url: text.to_owned(),
            reason,
        };
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(refuse(
                "net/url: invalid control character in URL".to_owned(),
            ));
        }
        let (scheme, rest) = split_scheme(text).map_err(|reason| refuse(reason.to_owned()))?;
        if scheme.is_empty() && !rest.starts_with('/') {
            let segment = rest.split('/').next().unwrap_or_default();
            if segment.contains(':') {
                return Err(refuse(
                    "first path segment in URL cannot contain colon".to_owned(),
                ));
            }
        }
        let (authority, path) = match rest.strip_prefix("//") {
            Some(after) if !scheme.is_empty() => {
                let end = after.find(['/', '?', '#']).unwrap_or(after.len());
                let (authority, path) = after.split_at(end);
                (authority, path.split(['?', '#']).next().unwrap_or_default())
            }
            _ if rest.starts_with('/') => ("", rest),
            _ => ("", ""),
        };
        check_host(authority).map_err(refuse)?;
        let scheme = match scheme.as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(Error::Scheme(text.to_owned())),
        };
        let url = Self {
            text: format!("{}{}", scheme.as_str(), &text[scheme.as_str().len()..]),
            scheme,
            authority: authority.to_owned(),
            path: path.to_owned(),
        };
        if !url.is_unix() {
            if split_host_port(&url.authority).is_none() {
                return Err(Error::Address(text.to_owned()));
            }
            if !url.path.is_empty() {
                return Err(Error::Path(text.to_owned()));
            }
        }
        Ok(url)
    }

    /// Reads URLs separated by commas, and sorts them as etcd does.
    ///
    /// # Errors
    /// As [`Url::parse`] of the first that is wrong.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, Error> {
        let mut urls = text
            .split(',')
            .map(Self::parse)
            .collect::<Result<Vec<_>, _>>()?;
        urls.sort();
        Ok(urls)
    }

    /// A TCP URL of `host`, which may be an IPv6 address, and `port`.
    pub fn tcp(scheme: Scheme, host: &str, port: &str) -> Self {
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Self {
            text: format!("{}://{authority}", scheme.as_str()),
            scheme,
            authority,
            path: String::new(),
        }
    }

    /// The text, as it is shown and advertised.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether it is a socket in the file system.
    pub fn is_unix(&self) -> bool {
        matches!(self.scheme, Scheme::Unix | Scheme::Unixs)
    }

    /// Whether TLS is spoken there.
    pub fn is_secure(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Unixs)
    }

    /// The host without brackets; empty for a socket without one.
    pub fn host(&self) -> &str {
        split_host_port(&self.authority).map_or(&self.authority, |(host, _)| host)
    }

    /// The port as it was written; empty where there is none.
    pub fn port(&self) -> &str {
        split_host_port(&self.authority).map_or("", |(_, port)| port)
    }

    /// `host:port`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The socket's file, for a socket: etcd joins host and path.
    pub fn socket_path(&self) -> Option<PathBuf> {
        self.is_unix()
            .then(|| PathBuf::from(format!("{}{}", self.authority, self.path)))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Scheme {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Unix => "unix",
            Self::Unixs => "unixs",
        }
    }
}

/// The lower-cased scheme, and what follows its colon; Go's `getScheme`.
fn split_scheme(text: &str) -> Result<(String, &str), &'static str> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme"),
            b':' => return Ok((text[..at].to_ascii_lowercase(), &text[at + 1..])),
            _ => break,
        }
    }
    Ok((String::new(), text))
}

/// Go's checks of what stands between `//` and the path.
fn check_host(authority: &str) -> Result<(), String> {
    let port = if let Some(inside) = authority.strip_prefix('[') {
        let end = inside.find(']').ok_or("missing ']' in host")?;
        &inside[end + 1..]
    } else {
        authority.find(':').map_or("", |at| &authority[at..])
    };
    if !port.is_empty()
        && (!port.starts_with(':') || !port[1..].bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(format!("invalid port {port:?} after host"));
    }
    if let Some(bad) = authority
        .chars()
        .find(|c| matches!(c, ' ' | '\\' | '^' | '`' | '{' | '|' | '}'))
    {
        return Err(format!(
            "invalid character {:?} in host name",
            bad.to_string()
        ));
    }
    Ok(())
}

/// Go's `net.SplitHostPort`: `None` where it gives an error.
fn split_host_port(authority: &str) -> Option<(&str, &str)> {
    if let Some(inside) = authority.strip_prefix('[') {
        let (host, after) = inside.split_once(']')?;
        return after.strip_prefix(':').map(|port| (host, port));
    }
    let (host, port) = authority.rsplit_once(':')?;
    (!host.contains(':')).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of etcd 3.7.3, given each URL as `--listen-peer-urls`.
    #[test]
    fn urls_that_etcd_refuses_are_refused_in_its_words() {
        for (text, error) in [
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            ("", "URL scheme must be http, https, unix, or unixs: "),
            (
                "localhost:2379",
                "URL scheme must be http, https, unix, or unixs: localhost:2379",
            ),
            (
                "tcp://localhost:2379",
                "URL scheme must be http, https, unix, or unixs: tcp://localhost:2379",
            ),
            (
                "http://localhost",
                "URL address does not have the form \"host:port\": http://localhost",
            ),
            (
                "http://[::1]",
                "URL address does not have the form \"host:port\": http://[::1]",
            ),
            (
                "http://::1:2379",
                "parse \"http://::1:2379\": invalid port \"::1:2379\" after host",
            ),
            (
                "unix://localhost:m0",
                "parse \"unix://localhost:m0\": invalid port \":m0\" after host",
            ),
            (
                "http://localhost:2379/",
                "URL must not contain a path: http://localhost:2379/",
            ),
            (
                "127.0.0.1:2379",
                "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon",
            ),
            (":2379", "parse \":2379\": missing protocol scheme"),
            (
                "http://a:b",
                "parse \"http://a:b\": invalid port \":b\" after host",
            ),
            ("http://[::1", "parse \"http://[::1\": missing ']' in host"),
            (
                "http://a b:1",
                "parse \"http://a b:1\": invalid character \" \" in host name",
            ),
        ] {
            assert_eq!(
                Url::parse(text).map_err(|e| e.to_string()),
                Err(error.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_tcp_url_gives_host_and_port() {
        let url = Url::parse(" https://[::1]:2380 ").expect("a URL");
        assert_eq!(
            (url.scheme(), url.host(), url.port(), url.is_secure()),
            (Scheme::Https, "::1", "2380", true)
        );
        assert_eq!(url.to_string(), "https://[::1]:2380");
        assert_eq!(
            Url::parse("HTTP://a:1").expect("a URL").as_str(),
            "http://a:1"
        );
        let url = Url::parse("http://10.0.0.1:").expect("a URL");
        assert_eq!((url.host(), url.port()), ("10.0.0.1", ""));
    }

    #[test]
    fn a_socket_url_gives_a_path() {
        for (text, path) in [
            ("unix:///run/etcd.sock", "/run/etcd.sock"),
            ("unix:/run/etcd.sock", "/run/etcd.sock"),
            ("unixs://localhost:20", "localhost:20"),
            ("unix://localhost:2379", "localhost:2379"),
        ] {
            assert_eq!(
                Url::parse(text).expect("a URL").socket_path(),
                Some(PathBuf::from(path)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_list_is_sorted() {
        let urls = Url::parse_list("http://b:1, http://a:2").expect("URLs");
        assert_eq!(
            urls.iter().map(Url::as_str).collect::<Vec<_>>(),
            ["http://a:2", "http://b:1"]
        );
    }
}
