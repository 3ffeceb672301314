//! Tells systemd that the member serves (`READY=1`), over the socket that `NOTIFY_SOCKET` names.
//!
//! Follows `notifySystemd` in `server/etcdmain/main.go`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

const READY: &[u8] = b"READY=1";

/// Says that clients can be served. Does nothing but log where no init daemon waits; to be called after the
/// line `ready to serve client requests`.
pub fn notify_ready() {
    tracing::info!("notifying init daemon");
    let socket = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty());
    match socket.map_or(Ok(()), |path| send(&path, READY)) {
        Ok(()) => tracing::info!("successfully notified init daemon"),
        Err(error) => tracing::error!(%error, "failed to notify systemd for readiness"),
    }
}

/// `@name` is a socket in the abstract name space, anything else a file.
fn send(path: &OsStr, state: &[u8]) -> io::Result<()> {
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(state, &address)
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> Vec<u8> {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).expect("received");
        buffer[..length].to_vec()
    }

    #[test]
    fn a_socket_in_the_file_system_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        send(path.as_os_str(), READY).expect("sent");
        assert_eq!(received(&socket), READY);
    }

    #[test]
    fn a_socket_in_the_abstract_name_space_is_told() {
        let name = format!("metastore-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an address");
        let socket = UnixDatagram::bind_addr(&address).expect("bound");
        send(OsStr::new(&format!("@{name}")), READY).expect("sent");
        assert_eq!(received(&socket), READY);
    }
}
