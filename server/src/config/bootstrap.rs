//! The members of a new cluster; follows `client/pkg/types/urlsmap.go` and `VerifyBootstrap` and
//! `VerifyJoinExisting` in `server/config/config.go`.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use super::{ClusterState, Config, Invalid, Members};
use crate::go_text;
use crate::logging::Note;
use crate::url::Url;

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(30);
const RESOLVE_RETRY: Duration = Duration::from_secs(1);

impl Config {
    /// The members that `--initial-cluster` names, checked against this member's name and, for a new cluster,
    /// against its advertised URLs. To be called where there is no data; blocks for up to 30 s while names do
    /// not resolve.
    ///
    /// # Errors
    /// With etcd's text.
    pub fn members_of_new_cluster(&self) -> Result<Members, Invalid> {
        let members = parse(&self.cluster.initial)?;
        let Some(own) = members.get(&self.name) else {
            return Err(Invalid::NameNotInCluster(self.name.clone()));
        };
        if self.cluster.state == ClusterState::New {
            compare(&self.name, &self.advertise.peer, own, &resolve)?;
        }
        let mut seen = BTreeSet::new();
        if !members
            .values()
            .flatten()
            .all(|url| seen.insert(url.as_str()))
        {
            return Err(Invalid::DuplicateUrl(text_of(&members)));
        }
        Ok(members)
    }
}

/// `name=url,name=url`; one name may have several URLs, which are sorted.
fn parse(text: &str) -> Result<Members, Invalid> {
    let mut members = Members::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
        let url = Url::parse(url).map_err(Invalid::InitialCluster)?;
        members.entry(name.to_owned()).or_default().push(url);
    }
    for urls in members.values_mut() {
        urls.sort();
    }
    Ok(members)
}

/// As etcd prints it: sorted pairs.
fn text_of(members: &Members) -> String {
    let mut pairs: Vec<_> = members
        .iter()
        .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
        .collect();
    pairs.sort();
    pairs.join(",")
}

/// Fails where the advertised URLs are not those of the cluster, written differently or not.
fn compare(
    name: &str,
    advertised: &[Url],
    own: &[Url],
    resolve: &dyn Fn(&Url) -> Result<Option<SocketAddr>, String>,
) -> Result<(), Invalid> {
    let reason = match equal(advertised, own, resolve) {
        Ok(()) => return Ok(()),
        Err(reason) => reason,
    };
    let join = |urls: &mut dyn Iterator<Item = &Url>, prefix: &str| {
        urls.map(|url| format!("{prefix}{url}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let prefix = format!("{name}=");
    let cluster = join(&mut advertised.iter(), &prefix);
    let missing = join(
        &mut own.iter().filter(|url| !advertised.contains(url)),
        &prefix,
    );
    if !missing.is_empty() {
        return Err(Invalid::NotAdvertised {
            missing,
            advertised: join(&mut advertised.iter(), ""),
            reason,
        });
    }
    let missing = join(&mut advertised.iter().filter(|url| !own.contains(url)), "");
    if !missing.is_empty() {
        return Err(Invalid::NotInCluster { missing, cluster });
    }
    Err(Invalid::NotResolved {
        advertised: join(&mut advertised.iter(), ""),
        cluster,
        reason,
    })
}

/// Follows `URLStringsEqual` in `pkg/netutil/netutil.go`.
fn equal(
    a: &[Url],
    b: &[Url],
    resolve: &dyn Fn(&Url) -> Result<Option<SocketAddr>, String>,
) -> Result<(), String> {
    let texts = |urls: &[Url]| {
        let quoted: Vec<_> = urls
            .iter()
            .map(|url| format!("{:?}", url.as_str()))
            .collect();
        format!("[{}]", quoted.join(" "))
    };
    if a.len() != b.len() {
        return Err(format!("len({}) != len({})", texts(a), texts(b)));
    }
    if a.iter().zip(b).all(|(a, b)| same(a, b)) {
        return Ok(());
    }
    let resolved = |urls: &[Url]| -> Result<Vec<Url>, String> {
        let mut urls = urls
            .iter()
            .map(|url| {
                match resolve(url)
                    .map_err(|e| format!("failed to resolve {:?} ({e})", url.as_str()))?
                {
                    Some(at) => Ok(Url::tcp(
                        url.scheme(),
                        &at.ip().to_string(),
                        &at.port().to_string(),
                    )),
                    None => Ok(url.clone()),
                }
            })
            .collect::<Result<Vec<_>, String>>()?;
        urls.sort();
        Ok(urls)
    };
    let (a, b) = (resolved(a)?, resolved(b)?);
    match a.iter().zip(&b).find(|(a, b)| !same(a, b)) {
        Some((a, b)) => Err(format!(
            "resolved urls: {:?} != {:?}",
            a.as_str(),
            b.as_str()
        )),
        None => Ok(()),
    }
}

/// Equal, where addresses may be written in several ways.
fn same(a: &Url, b: &Url) -> bool {
    let host = |url: &Url| {
        url.host()
            .parse::<IpAddr>()
            .map_or(url.host().to_owned(), |ip| ip.to_string())
    };
    a.as_str() == b.as_str()
        || (!a.is_unix() && a.scheme() == b.scheme() && host(a) == host(b) && a.port() == b.port())
}

/// The URL's address; `None` for a socket and for localhost. Tries again for a while: the name of a pod may
/// appear after the pod has started.
fn resolve(url: &Url) -> Result<Option<SocketAddr>, String> {
    if url.is_unix() || url.host() == "localhost" {
        return Ok(None);
    }
    let start = Instant::now();
    let port = url
        .port()
        .parse::<u16>()
        .map_err(|error| error.to_string())?;
    loop {
        let reason = match (url.host(), port).to_socket_addrs() {
            Ok(mut addresses) => match addresses.next() {
                Some(address) => return Ok(Some(address)),
                None => "no such host".to_owned(),
            },
            Err(error) => go_text::os_error(&error),
        };
        Note::warn("failed to resolve URL Host")
            .with("url", url.as_str())
            .with("retry-interval", "1s")
            .error(&reason)
            .log();
        if start.elapsed() >= RESOLVE_TIMEOUT {
            return Err(reason);
        }
        thread::sleep(RESOLVE_RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str) -> Vec<Url> {
        Url::parse_list(text).expect("URLs")
    }

    fn resolve_as_ten(url: &Url) -> Result<Option<SocketAddr>, String> {
        let host = if url.host() == "one" {
            "10.0.0.1"
        } else {
            url.host()
        };
        format!("{host}:{}", url.port())
            .parse()
            .map(Some)
            .map_err(|_| "no such host".to_owned())
    }

    fn compare(advertised: &str, own: &str) -> Result<(), String> {
        super::compare("a", &urls(advertised), &urls(own), &resolve_as_ten)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn a_cluster_is_names_with_urls() {
        let members = parse("b=http://b:1,a=http://a:2,,a=http://a:1").expect("members");
        assert_eq!(text_of(&members), "a=http://a:1,a=http://a:2,b=http://b:1");
        for text in ["foo", "a=foo"] {
            let given = text.strip_prefix("a=").unwrap_or("");
            assert_eq!(
                parse(text).expect_err(text).to_string(),
                format!(
                    "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: {given}"
                )
            );
        }
    }

    #[test]
    fn names_and_addresses_of_the_same_place_are_equal() {
        assert_eq!(compare("http://one:1", "http://10.0.0.1:1"), Ok(()));
        assert_eq!(compare("http://[::1]:1", "http://[0:0::1]:1"), Ok(()));
    }

    /// Texts of etcd 3.7.3.
    #[test]
    fn urls_that_do_not_match_are_told_in_etcds_words() {
        assert_eq!(
            compare("http://127.0.0.1:22380", "http://127.0.0.1:22380,http://127.0.0.1:22381"),
            Err("--initial-cluster has a=http://127.0.0.1:22381 but missing from \
                 --initial-advertise-peer-urls=http://127.0.0.1:22380 (len([\"http://127.0.0.1:22380\"]) != \
                 len([\"http://127.0.0.1:22380\" \"http://127.0.0.1:22381\"]))"
                .to_owned())
        );
        assert_eq!(
            compare(
                "http://127.0.0.1:22380,http://127.0.0.1:22381",
                "http://127.0.0.1:22380"
            ),
            Err(
                "--initial-advertise-peer-urls has http://127.0.0.1:22381 but missing from \
                 --initial-cluster=a=http://127.0.0.1:22380,a=http://127.0.0.1:22381"
                    .to_owned()
            )
        );
        assert_eq!(
            compare("http://10.0.0.2:1", "http://one:1"),
            Err("--initial-cluster has a=http://one:1 but missing from \
                 --initial-advertise-peer-urls=http://10.0.0.2:1 (resolved urls: \"http://10.0.0.2:1\" != \
                 \"http://10.0.0.1:1\")"
                .to_owned())
        );
    }
}
