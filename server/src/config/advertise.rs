//! The addresses that a member tells others, where they were left at their defaults; follows
//! `UpdateDefaultClusterFromName` and `InferLocalAddr` in `server/embed/config.go`.

use std::io;
use std::net::{IpAddr, UdpSocket};

use super::Advertise;
use crate::flag::values::Values;
use crate::logging::Note;
use crate::url::Url;

const DEFAULT_NAME: &str = "default";
const DEFAULT_CLUSTER: &str = "default=http://localhost:2380";
const DEFAULT_PEER: &str = "http://localhost:2380";
const DEFAULT_CLIENT: &str = "http://localhost:2379";

/// What `resolve` found.
pub(super) struct Addresses {
    pub(super) advertise: Advertise,
    pub(super) initial_cluster: String,
}

/// A member that listens on 0.0.0.0 and advertises the default tells the address of its default route instead;
/// one that has only a name is the one member of its cluster under that name.
pub(super) fn resolve(values: &Values, notes: &mut Vec<Note>) -> Addresses {
    resolve_with(values, notes, default_address)
}

fn resolve_with(
    values: &Values,
    notes: &mut Vec<Note>,
    default_address: impl Fn() -> io::Result<IpAddr>,
) -> Addresses {
    let mut peer = values.urls("initial-advertise-peer-urls").urls.clone();
    let mut client = values.urls("advertise-client-urls").urls.clone();
    let everywhere = |flag: &str| {
        values
            .urls(flag)
            .urls
            .first()
            .filter(|url| url.host() == "0.0.0.0")
            .cloned()
    };
    let peer_listener = everywhere("listen-peer-urls").filter(|_| is_only(&peer, DEFAULT_PEER));
    let client_listener =
        everywhere("listen-client-urls").filter(|_| is_only(&client, DEFAULT_CLIENT));
    if peer_listener.is_some() || client_listener.is_some() {
        match default_address() {
            Ok(host) => {
                let host = host.to_string();
                if let Some(listener) = peer_listener {
                    peer[0] = Url::tcp(peer[0].scheme(), &host, listener.port());
                }
                if let Some(listener) = client_listener {
                    client[0] = Url::tcp(client[0].scheme(), &host, listener.port());
                }
                notes.push(Note::info("detected default host for advertise").with("host", host));
            }
            Err(error) => notes.push(Note::info("failed to detect default host").error(error)),
        }
    }
    let name = values.text("name");
    let mut initial_cluster = values.text("initial-cluster").to_owned();
    if name != DEFAULT_NAME && initial_cluster == DEFAULT_CLUSTER {
        let name = if name.is_empty() { DEFAULT_NAME } else { name };
        initial_cluster = peer
            .iter()
            .map(|url| format!("{name}={url}"))
            .collect::<Vec<_>>()
            .join(",");
    }
    Addresses {
        advertise: Advertise { peer, client },
        initial_cluster,
    }
}

fn is_only(urls: &[Url], text: &str) -> bool {
    urls.len() == 1 && urls[0].as_str() == text
}

/// The address from which packets leave by the default route. Connecting a datagram socket sends nothing.
fn default_address() -> io::Result<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // An address of the documentation's network: routed by default, never answered.
    socket.connect("192.0.2.1:9")?;
    Ok(socket.local_addr()?.ip())
}

/// The first advertised peer address that is neither loopback nor unspecified.
pub(super) fn local_address(advertise: &Advertise, notes: &mut Vec<Note>) -> Option<IpAddr> {
    let address = advertise
        .peer
        .iter()
        .filter_map(|url| url.host().parse::<IpAddr>().ok())
        .find(|address| !address.is_loopback() && !address.is_unspecified());
    let urls: Vec<_> = advertise.peer.iter().map(Url::as_str).collect();
    notes.push(match address {
        Some(address) => {
            Note::info("setting member local address").with("LocalAddr", address.to_string())
        }
        None => Note::warn(
            "unable to set a member local address due to lack of suitable local addresses",
        )
        .with("advertise-peer-urls", urls),
    });
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flag::command_line;

    fn resolve(
        arguments: &[&str],
        address: io::Result<&str>,
    ) -> (Vec<String>, String, Vec<String>) {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let values = command_line::parse(&arguments)
            .expect("a command line")
            .values;
        let mut notes = Vec::new();
        let found = resolve_with(&values, &mut notes, || match &address {
            Ok(address) => Ok(address.parse().expect("an address")),
            Err(error) => Err(io::Error::from(error.kind())),
        });
        let urls = found
            .advertise
            .peer
            .iter()
            .chain(&found.advertise.client)
            .map(Url::to_string)
            .collect();
        (
            urls,
            found.initial_cluster,
            notes.iter().map(|note| note.message().to_owned()).collect(),
        )
    }

    #[test]
    fn a_member_that_listens_everywhere_advertises_its_default_address() {
        let (urls, cluster, notes) = resolve(
            &[
                "--name=a",
                "--listen-peer-urls=http://0.0.0.0:12380",
                "--listen-client-urls=http://0.0.0.0:12379",
            ],
            Ok("10.0.0.7"),
        );
        assert_eq!(urls, ["http://10.0.0.7:12380", "http://10.0.0.7:12379"]);
        assert_eq!(
            (cluster.as_str(), notes.len()),
            ("a=http://10.0.0.7:12380", 1)
        );
    }

    #[test]
    fn what_was_given_is_kept() {
        let given = &[
            "--listen-peer-urls=http://0.0.0.0:1",
            "--initial-advertise-peer-urls=http://a:1",
            "--initial-cluster=b=http://a:1",
        ];
        let (urls, cluster, notes) = resolve(given, Ok("10.0.0.7"));
        assert_eq!(urls, ["http://a:1", "http://localhost:2379"]);
        assert_eq!((cluster.as_str(), notes.len()), ("b=http://a:1", 0));
    }

    #[test]
    fn without_a_route_the_defaults_stay_and_the_name_still_counts() {
        let unreachable = io::Error::from(io::ErrorKind::NetworkUnreachable);
        let (urls, cluster, notes) = resolve(
            &["--name=a", "--listen-peer-urls=http://0.0.0.0:1"],
            Err(unreachable),
        );
        assert_eq!(urls, ["http://localhost:2380", "http://localhost:2379"]);
        assert_eq!(
            (cluster.as_str(), notes),
            (
                "a=http://localhost:2380",
                vec!["failed to detect default host".to_owned()]
            )
        );
    }

    #[test]
    fn a_member_connects_from_its_first_address_that_others_reach() {
        let urls =
            Url::parse_list("http://127.0.0.1:1,http://10.0.0.9:1,http://name:1").expect("URLs");
        let advertise = Advertise {
            peer: urls,
            client: Vec::new(),
        };
        assert_eq!(
            local_address(&advertise, &mut Vec::new()),
            Some("10.0.0.9".parse().expect("an address"))
        );
    }
}
