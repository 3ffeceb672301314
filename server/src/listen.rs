//! Listeners for etcd's listen URLs.
//!
//! Promises what Go's listeners do for etcd: 0.0.0.0 takes IPv6 too, `localhost` is its IPv4 address, a socket
//! left in the file system by a dead process is replaced, and connections get keepalives every 30 s.

use std::fs;
use std::io;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdTcpListener, ToSocketAddrs,
};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind as bind_socket, listen, socket_with, sockopt,
};
use tokio::net::{TcpListener, UnixListener};

use crate::go_text;
use crate::url::Url;

/// Connections that wait to be accepted; the kernel may allow fewer.
const BACKLOG: i32 = 4096;
const KEEPALIVE: Duration = Duration::from_secs(30);

/// An open listener. Options that accepted connections inherit (no delay, keepalive) are set.
pub enum Bound {
    /// A TCP port.
    Tcp(TcpListener),
    /// A socket in the file system; its file goes when the guard does.
    Unix(UnixListener, SocketFile),
}

/// Removes a socket's file when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have removed it; nothing depends on it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Why a listener could not be opened, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("listen {network} {address}: {reason}")]
pub struct Error {
    network: &'static str,
    address: String,
    reason: String,
}

/// Opens the listener of a URL; `reuse_port` is --socket-reuse-port. To be called inside a tokio runtime.
///
/// # Errors
/// Where the address is taken or not this machine's.
pub fn bind(url: &Url, reuse_port: bool) -> Result<Bound, Error> {
    if let Some(path) = url.socket_path() {
        return bind_unix(&path)
            .map_err(|error| failure("unix", path.display().to_string(), &error));
    }
    let bound = addresses(url).and_then(|addresses| bind_first(&addresses, reuse_port));
    bound
        .map(Bound::Tcp)
        .map_err(|error| failure("tcp", url.authority().to_owned(), &error))
}

fn failure(network: &'static str, address: String, error: &io::Error) -> Error {
    Error {
        network,
        address,
        reason: format!("bind: {}", go_text::os_error(error)),
    }
}

fn bind_unix(path: &Path) -> io::Result<Bound> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdUnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(Bound::Unix(
        UnixListener::from_std(listener)?,
        SocketFile(path.to_owned()),
    ))
}

/// What to try, in order: for all addresses both families first, for a name its IPv4 address first.
fn addresses(url: &Url) -> io::Result<Vec<SocketAddr>> {
    let port = match url.port() {
        "" => 0,
        port => port
            .parse()
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "invalid port"))?,
    };
    match url.host().parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => Ok(vec![
            (Ipv6Addr::UNSPECIFIED, port).into(),
            (Ipv4Addr::UNSPECIFIED, port).into(),
        ]),
        Ok(address) => Ok(vec![(address, port).into()]),
        Err(_) => {
            let mut addresses: Vec<_> = (url.host(), port).to_socket_addrs()?.collect();
            addresses.sort_by_key(SocketAddr::is_ipv6);
            addresses.truncate(1);
            Ok(addresses)
        }
    }
}

fn bind_first(addresses: &[SocketAddr], reuse_port: bool) -> io::Result<TcpListener> {
    let mut result = Err(io::Error::new(
        io::ErrorKind::AddrNotAvailable,
        "no such host",
    ));
    for address in addresses {
        result = bind_tcp(*address, reuse_port);
        match &result {
            // A kernel without IPv6: the other family is next.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {}
            _ => break,
        }
    }
    result
}

fn bind_tcp(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(family, SocketType::STREAM, flags, None)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if reuse_port {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(&socket, KEEPALIVE)?;
    bind_socket(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    TcpListener::from_std(StdTcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpStream, UnixStream};

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    async fn port_of(text: &str) -> (TcpListener, u16) {
        let Ok(Bound::Tcp(listener)) = bind(&url(text), false) else {
            panic!("{text} is not bound")
        };
        let port = listener.local_addr().expect("an address").port();
        (listener, port)
    }

    #[tokio::test]
    async fn localhost_is_its_ipv4_address() {
        let (listener, _) = port_of("http://localhost:0").await;
        assert_eq!(
            listener.local_addr().expect("an address").ip(),
            IpAddr::from([127, 0, 0, 1])
        );
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_told_in_gos_words_unless_it_is_shared() {
        let Ok(Bound::Tcp(first)) = bind(&url("http://127.0.0.1:0"), true) else {
            panic!()
        };
        let address = first.local_addr().expect("an address");
        let again = url(&format!("http://{address}"));
        let error = bind(&again, false).err().expect("a taken port").to_string();
        assert_eq!(
            error,
            format!("listen tcp {address}: bind: address already in use")
        );
        assert!(bind(&again, true).is_ok());
    }

    #[tokio::test]
    async fn accepted_connections_inherit_the_options() {
        let (listener, port) = port_of("http://127.0.0.1:0").await;
        let _client = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("connected");
        let (stream, _) = listener.accept().await.expect("accepted");
        assert!(stream.nodelay().expect("an option"));
        assert_eq!(
            sockopt::tcp_keepidle(&stream).expect("an option"),
            KEEPALIVE
        );
        assert!(sockopt::socket_keepalive(&stream).expect("an option"));
    }

    #[tokio::test]
    async fn a_socket_in_the_file_system_replaces_a_dead_one_and_goes_with_its_guard() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("etcd.sock");
        let text = format!("unix://{}", path.display());
        fs::write(&path, "left behind").expect("written");
        let Ok(Bound::Unix(listener, guard)) = bind(&url(&text), false) else {
            panic!()
        };
        let (connected, accepted) = tokio::join!(UnixStream::connect(&path), listener.accept());
        assert!(connected.is_ok() && accepted.is_ok());
        drop((listener, guard));
        assert!(!path.exists());
    }
}
