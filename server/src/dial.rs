//! Connections to the peer URLs of other members.
//!
//! Promises the way there: TCP or a socket in the file system, plain or TLS by the URL's scheme, from the local
//! address where one is set. Speaks no protocol.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};

use crate::stream::Stream;
use crate::tls::PeerClientTls;
use crate::url::Url;

/// Opens connections to other members. A clone is another handle.
#[derive(Clone)]
pub struct Dialer {
    tls: Option<PeerClientTls>,
    local_address: Option<IpAddr>,
    timeouts: Timeouts,
}

/// How long things may take on the way to another member.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// One attempt to connect (etcd: a second and the election timeout, `PeerDialTimeout`).
    pub connect: Duration,
    /// What was written and the other side's kernel does not take (--raft-write-timeout).
    pub write: Duration,
}

impl Dialer {
    /// `tls` is needed for `https` and `unixs`.
    pub fn new(
        tls: Option<PeerClientTls>,
        local_address: Option<IpAddr>,
        timeouts: Timeouts,
    ) -> Self {
        Self {
            tls,
            local_address,
            timeouts,
        }
    }

    /// Connects to the member at `url`, the TLS handshake included.
    ///
    /// # Errors
    /// Where nobody answers in time, or the member is not who it should be.
    pub async fn connect(&self, url: &str) -> io::Result<Stream> {
        let url =
            Url::parse(url).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        tokio::time::timeout(self.timeouts.connect, self.connect_to(&url))
            .await
            .unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("dial {url}: i/o timeout"),
                ))
            })
    }

    async fn connect_to(&self, url: &Url) -> io::Result<Stream> {
        let tls = match (&self.tls, url.is_secure()) {
            (tls, true) => Some(tls.as_ref().ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("{url} needs TLS, which is not set up"),
                )
            })?),
            (_, false) => None,
        };
        if let Some(path) = url.socket_path() {
            let stream = UnixStream::connect(path).await?;
            let host = if url.host().is_empty() {
                "localhost"
            } else {
                url.host()
            };
            return Ok(match tls {
                Some(tls) => Stream::UnixTls(Box::new(tls.connect(host, stream).await?)),
                None => Stream::Unix(stream),
            });
        }
        let stream = self.connect_tcp(url).await?;
        stream.set_nodelay(true)?;
        let write = u32::try_from(self.timeouts.write.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(&stream, write)?;
        Ok(match tls {
            Some(tls) => Stream::TcpTls(Box::new(tls.connect(url.host(), stream).await?)),
            None => Stream::Tcp(stream),
        })
    }

    async fn connect_tcp(&self, url: &Url) -> io::Result<TcpStream> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, format!("no address of {url}"));
        for address in lookup_host(url.authority()).await? {
            match self.connect_from(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn connect_from(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let Some(local) = self.local_address else {
            return TcpStream::connect(address).await;
        };
        let socket = if local.is_ipv6() {
            TcpSocket::new_v6()?
        } else {
            TcpSocket::new_v4()?
        };
        socket.bind(SocketAddr::new(local, 0))?;
        socket.connect(address).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    fn dialer() -> Dialer {
        Dialer::new(
            None,
            Some(IpAddr::from([127, 0, 0, 2])),
            Timeouts {
                connect: Duration::from_secs(5),
                write: Duration::from_secs(7),
            },
        )
    }

    #[tokio::test]
    async fn a_member_is_reached_from_the_local_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (stream, accepted) =
            tokio::join!(async { dialer().connect(&url).await }, listener.accept());
        let (mut there, remote) = accepted.expect("accepted");
        assert_eq!(remote.ip(), IpAddr::from([127, 0, 0, 2]));
        let mut stream = stream.expect("connected");
        let Stream::Tcp(tcp) = &stream else {
            panic!("a connection without TLS")
        };
        assert_eq!(sockopt::tcp_user_timeout(tcp).expect("an option"), 7000);
        stream.write_all(b"x").await.expect("written");
        assert_eq!(there.read_u8().await.expect("read"), b'x');
    }

    #[tokio::test]
    async fn a_member_is_reached_over_a_socket_in_the_file_system() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("peer");
        let listener = UnixListener::bind(&path).expect("bound");
        let url = format!("unix://{}", path.display());
        let (stream, accepted) =
            tokio::join!(async { dialer().connect(&url).await }, listener.accept());
        accepted
            .expect("accepted")
            .0
            .write_all(b"x")
            .await
            .expect("written");
        assert_eq!(
            stream.expect("connected").read_u8().await.expect("read"),
            b'x'
        );
    }

    #[tokio::test]
    async fn a_secure_url_needs_tls() {
        let error = dialer()
            .connect("https://127.0.0.1:1")
            .await
            .err()
            .expect("a refusal");
        assert_eq!(
            error.to_string(),
            "https://127.0.0.1:1 needs TLS, which is not set up"
        );
        let error = dialer()
            .connect("ftp://127.0.0.1:1")
            .await
            .err()
            .expect("a refusal");
        assert!(
            error.to_string().starts_with("URL scheme must be"),
            "{error}"
        );
    }
}
