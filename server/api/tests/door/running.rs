//! One member with the memory engine behind a door on a loopback port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metastore_api::{
    AccessControl, Connections, Door, Listener, Options, Port, TlsSource, Traffic,
};
use metastore_engine::Kind;
use metastore_node::{Limits, Member, Node, Versions, plain_tcp};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) const MEMBER: u64 = 0x8e9e_05c5_2164_694d;
pub(crate) const CLUSTER: u64 = 0xcdf8_181e_3227_f740;

/// A member that stops when it is dropped.
pub(crate) struct Running {
    pub(crate) node: Node,
    address: Option<SocketAddr>,
    pub(crate) stop: CancellationToken,
    pub(crate) served: tokio::task::JoinHandle<()>,
    _directory: TempDir,
}

impl Running {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        Self::start_on(Listener::Tcp(listener), None).await
    }

    pub(crate) async fn start_on(listener: Listener, tls: Option<Arc<dyn TlsSource>>) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let options = node_options(directory.path());
        let (name, urls) = (options.name.clone(), options.client_urls.clone());
        let node = Node::start(options).await.expect("member starts");
        node.ready(&name, &urls).await;
        let door = Door::new(node.clone(), door_options()).expect("door opens");
        let address = match &listener {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(_) => None,
        };
        let port = Port {
            listener,
            tls,
            traffic: Traffic::Both,
        };
        let stop = CancellationToken::new();
        let served = tokio::spawn(port.serve(door, Connections::default(), stop.clone()));
        Self {
            node,
            address,
            stop,
            served,
            _directory: directory,
        }
    }

    /// Where the door is; it has to be a TCP port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.expect("a TCP port")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn door_options() -> Options {
    Options {
        registry: prometheus::Registry::new(),
        extensive_metrics: false,
        election_timeout: Duration::from_millis(200),
        slow_request: Duration::from_millis(300),
        slow_read: Duration::from_millis(100),
        features: Vec::new(),
        watch_progress_interval: Duration::from_secs(600),
        access: AccessControl::default(),
        command_line: vec!["metastore".to_owned()],
    }
}

fn node_options(directory: &std::path::Path) -> metastore_node::Options {
    metastore_node::Options {
        member_id: MEMBER,
        cluster_id: CLUSTER,
        name: "default".to_owned(),
        client_urls: vec!["http://127.0.0.1:2379".to_owned()],
        initial_members: vec![Member {
            id: MEMBER,
            name: "default".to_owned(),
            peer_urls: vec!["http://127.0.0.1:2380".to_owned()],
        }],
        state_directory: directory.join("state"),
        log_directory: directory.join("log"),
        engine: Kind::Memory,
        engine_options: metastore_engine::Options::default(),
        store_options: metastore_mvcc::Options::default(),
        heartbeat: Duration::from_millis(20),
        election: Duration::from_millis(200),
        pre_vote: true,
        early_election: true,
        log_retention_bytes: 1 << 30,
        fsync: true,
        peer_silence: Duration::from_secs(5),
        slow_apply: Duration::from_millis(100),
        auto_compaction: None,
        limits: Limits {
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            quota_backend_bytes: 2 << 30,
        },
        watch_progress_interval: Duration::from_secs(600),
        lease_checkpoint_interval: None,
        versions: Versions {
            server: "3.7.3".to_owned(),
            metastore: "0.1.0".to_owned(),
        },
        connect: plain_tcp(),
    }
}
