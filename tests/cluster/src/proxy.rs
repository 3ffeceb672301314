//! A way to a member that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of the connections that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing more gets through, and nobody is told.
    Silent,
}

/// Forwards connections from one port of 127.0.0.1 to another.
pub struct Proxy {
    forwarded: Arc<AtomicU64>,
    /// A new value ends the connections of the one before.
    generation: watch::Sender<(u64, State)>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Accepts on port `from` and connects to port `to`; rests for `pace` after each 64 KiB towards the member.
    pub async fn start(from: u16, to: u16, pace: Duration) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", from)).await;
        let listener = listener.with_context(|| format!("a proxy on port {from}"))?;
        let forwarded = Arc::new(AtomicU64::new(0));
        let (generation, follow) = watch::channel((0, State::Open));
        let count = forwarded.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (count, follow) = (count.clone(), follow.clone());
                tokio::spawn(async move {
                    let to = SocketAddr::from(([127, 0, 0, 1], to));
                    if let Ok(server) = TcpStream::connect(to).await {
                        forward(stream, server, (&count, pace), follow).await;
                    }
                });
            }
        });
        Ok(Self {
            forwarded,
            generation,
            accepting,
        })
    }

    /// Bytes that have gone towards the member since the start.
    pub fn forwarded(&self) -> u64 {
        self.forwarded.load(Ordering::SeqCst)
    }

    /// Closes every open connection; new ones are forwarded.
    pub fn cut(&self) {
        self.generation
            .send_modify(|(number, state)| (*number, *state) = (*number + 1, State::Open));
    }

    /// Lets nothing more through the open connections, without closing them; new ones are forwarded.
    pub fn silence(&self) {
        self.generation
            .send_modify(|(number, state)| (*number, *state) = (*number + 1, State::Silent));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    (count, pace): (&AtomicU64, Duration),
    mut follow: watch::Receiver<(u64, State)>,
) {
    // A stream that has gone away already is about to end anyway.
    let _ = client.set_nodelay(true).and(server.set_nodelay(true));
    follow.mark_unchanged();
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut debt = 0;
    loop {
        let moved = tokio::select! {
            changed = follow.changed() => {
                let silent = changed.is_ok() && follow.borrow().1 == State::Silent;
                if silent {
                    // Held open until the proxy is cut, or gone.
                    while follow.changed().await.is_ok() && follow.borrow().1 == State::Silent {}
                }
                return;
            }
            read = client.read(&mut up) => match read {
                Ok(bytes) if bytes > 0 => {
                    count.fetch_add(bytes as u64, Ordering::SeqCst);
                    debt += bytes;
                    if debt >= up.len() {
                        debt = 0;
                        tokio::time::sleep(pace).await;
                    }
                    server.write_all(&up[..bytes]).await
                }
                _ => return,
            },
            read = server.read(&mut down) => match read {
                Ok(bytes) if bytes > 0 => client.write_all(&down[..bytes]).await,
                _ => return,
            },
        };
        if moved.is_err() {
            return;
        }
    }
}
