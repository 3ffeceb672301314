//! One member from its configuration to its end: data folder, node, peer port, and, when the member can
//! serve, the client ports; then everything back in reverse order.

mod identity;
mod peer_port;

use std::sync::Arc;
use std::time::Duration;

use metastore_api::{
    AccessControl, Connections, Door, Feature, Listener, Port, TlsSource, Traffic,
};
use metastore_node::{Limits, Node, Options, PeerStream, Versions};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Allowed, Compaction, Config};
use crate::data_dir::DataDirectory;
use crate::dial::{Dialer, Timeouts};
use crate::flag::feature_gates::{GATES, Gate};
use crate::listen::{self, Bound, SocketFile};
use crate::logging::Note;
use crate::signal::{self, Signal, Signals};
use crate::tls::{PeerClientTls, ServerTls};
use crate::url::Url;
use crate::{init_daemon, version};
use identity::Identity;

/// How often leases' remainders are written down (etcd: leaseCheckpointInterval).
const LEASE_CHECKPOINT: Duration = Duration::from_secs(300);

/// How long the client ports may take to close.
const STOP: Duration = Duration::from_millis(800);
/// How long a member that cannot serve may take to stop.
const STOP_IN_TROUBLE: Duration = Duration::from_secs(5);

/// Runs the member, and ends the process: with exit code 1 where it could not start or had to stop by itself; of the
/// signal where it was asked to stop.
pub fn run(config: Config) -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(live(config));
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(signal) => signal::end_by(signal),
        Err(error) => {
            Note::fatal("discovery failed").error(error).log();
            // Threads of RocksDB may be at work still: they must not meet a process that takes itself apart.
            signal_hook::low_level::exit(1)
        }
    }
}

async fn live(config: Config) -> anyhow::Result<Signal> {
    let signals = Signals::catch()?;
    let peers = bind_all(&config.listen.peer, config.listen.reuse_port)?;
    let folder = DataDirectory::open(&config.data)?;
    config.announce(Identity::is_settled(&config));
    let peer_tls = server_tls("peer", &config.peer_tls, &config.listen.peer, &folder)?;
    let client_tls = server_tls("client", &config.client_tls, &client_urls(&config), &folder)?;
    let options = node_options(&config, &folder)?;
    let node = Node::start(options).await?;
    let router = peer_port::router(&node);
    let mut peer_ports = JoinSet::new();
    for (url, bound) in peers {
        let tls = peer_tls.clone().filter(|_| url.is_secure());
        peer_ports.spawn_on(
            peer_port::serve(bound, tls, router.clone()),
            node.peer_runtime(),
        );
    }
    let advertised: Vec<String> = config
        .advertise
        .client
        .iter()
        .map(|url| url.as_str().to_owned())
        .collect();
    let stop = CancellationToken::new();
    let (served_node, served_stop) = (node.clone(), stop.clone());
    let mut serving = tokio::spawn(async move {
        served_node.ready(&config.name, &advertised).await;
        let ports = open_client_ports(&config, &served_node, client_tls, &served_stop)?;
        tracing::info!("ready to serve client requests");
        init_daemon::notify_ready();
        ports.join_all().await;
        anyhow::Ok(())
    });
    let signal = tokio::select! {
        signal = signals.received() => signal,
        why = node.failed() => {
            stop_in_trouble(&node).await;
            anyhow::bail!("raft failed: {why}");
        }
        served = &mut serving => {
            stop_in_trouble(&node).await;
            served??;
            anyhow::bail!("the client ports have closed");
        }
    };
    // Leadership goes first, while clients can still be told; then the ports, then raft.
    node.resign().await;
    stop.cancel();
    if tokio::time::timeout(STOP, &mut serving).await.is_err() {
        serving.abort();
    }
    node.stop().await;
    Ok(signal)
}

/// RocksDB may not be at work when the process takes itself apart.
async fn stop_in_trouble(node: &Node) {
    if tokio::time::timeout(STOP_IN_TROUBLE, node.stop())
        .await
        .is_err()
    {
        tracing::warn!("the member does not stop");
    }
}

fn client_urls(config: &Config) -> Vec<Url> {
    [
        &config.listen.client,
        &config.listen.client_http,
        &config.listen.metrics,
    ]
    .into_iter()
    .flatten()
    .cloned()
    .collect()
}

fn bind_all(urls: &[Url], reuse_port: bool) -> Result<Vec<(Url, Bound)>, listen::Error> {
    urls.iter()
        .map(|url| Ok((url.clone(), listen::bind(url, reuse_port)?)))
        .collect()
}

fn server_tls(
    port: &'static str,
    options: &crate::tls::TlsOptions,
    urls: &[Url],
    folder: &DataDirectory,
) -> anyhow::Result<Option<Arc<ServerTls>>> {
    if !urls.iter().any(Url::is_secure) {
        return Ok(None);
    }
    Ok(Some(Arc::new(ServerTls::open(
        port,
        options,
        urls,
        &folder.fixtures(port),
    )?)))
}

fn node_options(config: &Config, folder: &DataDirectory) -> anyhow::Result<Options> {
    let identity = Identity::settle(config)?;
    let engine_options = metastore_engine::Options {
        memory_budget_bytes: config.data.engine_memory_bytes,
        ..metastore_engine::Options::default()
    };
    Ok(Options {
        member_id: identity.member_id,
        cluster_id: identity.cluster_id,
        name: config.name.clone(),
        client_urls: config
            .advertise
            .client
            .iter()
            .map(|url| url.as_str().to_owned())
            .collect(),
        initial_members: identity.founders,
        state_directory: folder.state().to_owned(),
        log_directory: folder.log().to_owned(),
        engine: config.data.engine,
        engine_options,
        store_options: store_options(config),
        heartbeat: config.raft.heartbeat,
        election: config.raft.election,
        pre_vote: config.raft.pre_vote,
        early_election: config.raft.early_election,
        log_retention_bytes: config.data.log_retention_bytes,
        fsync: config.data.fsync,
        peer_silence: config.raft.read_timeout,
        slow_apply: config.warning_apply,
        auto_compaction: config.compaction.auto,
        limits: Limits {
            max_request_bytes: config
                .limits
                .max_request_bytes
                .min(metastore_raft::COMMAND_BYTES_MAX),
            max_txn_ops: config.limits.max_txn_ops,
            quota_backend_bytes: config.limits.quota_backend_bytes.unwrap_or(0),
        },
        watch_progress_interval: config.watch_progress_interval,
        lease_checkpoint_interval: lease_checkpoint_interval(config),
        versions: Versions {
            server: version::ETCD.to_owned(),
            metastore: version::METASTORE.to_owned(),
        },
        connect: connector(config)?,
    })
}

fn lease_checkpoint_interval(config: &Config) -> Option<Duration> {
    let wanted = config.features.enabled("LeaseCheckpoint");
    wanted.then_some(LEASE_CHECKPOINT)
}

fn store_options(config: &Config) -> metastore_mvcc::Options {
    let defaults = metastore_mvcc::Options::default();
    let Compaction {
        batch_limit,
        sleep_interval,
        ..
    } = config.compaction;
    metastore_mvcc::Options {
        value_cache_bytes: config.data.value_cache_bytes,
        compaction_rows: batch_limit.unwrap_or(defaults.compaction_rows),
        compaction_pause: sleep_interval.unwrap_or(defaults.compaction_pause),
        ..defaults
    }
}

/// Opens connections to other members, with TLS where their URLs ask for it.
fn dialer(config: &Config) -> anyhow::Result<Dialer> {
    let secure = config.advertise.peer.iter().any(Url::is_secure)
        || config.cluster.initial.contains("https://");
    let tls = if secure {
        Some(PeerClientTls::open(&config.peer_tls)?)
    } else {
        None
    };
    let timeouts = Timeouts {
        connect: Duration::from_secs(1) + config.raft.election,
        write: config.raft.write_timeout,
    };
    Ok(Dialer::new(tls, config.raft.local_address, timeouts))
}

fn connector(config: &Config) -> anyhow::Result<metastore_node::Connect> {
    let dialer = dialer(config)?;
    Ok(Arc::new(move |url: String| {
        let dialer = dialer.clone();
        Box::pin(async move { Ok(Box::new(dialer.connect(&url).await?) as Box<dyn PeerStream>) })
    }))
}

/// The certificates of a client port, asked for at each connection.
struct ClientTls(Arc<ServerTls>);

impl TlsSource for ClientTls {
    fn config(&self) -> Arc<rustls::ServerConfig> {
        self.0.config()
    }
}

/// Opens the client, HTTP and metrics listeners and serves them until `stop`.
fn open_client_ports(
    config: &Config,
    node: &Node,
    tls: Option<Arc<ServerTls>>,
    stop: &CancellationToken,
) -> anyhow::Result<JoinSet<()>> {
    let door = Door::new(node.clone(), door_options(config))?;
    let split = !config.listen.client_http.is_empty();
    let mut ports = JoinSet::new();
    let kinds = [
        (
            &config.listen.client,
            if split { Traffic::Grpc } else { Traffic::Both },
        ),
        (&config.listen.client_http, Traffic::Http),
        (&config.listen.metrics, Traffic::Metrics),
    ];
    for (urls, traffic) in kinds {
        for (url, bound) in bind_all(urls, config.listen.reuse_port)? {
            let tls = tls.clone().filter(|_| url.is_secure());
            let tls = tls.map(|tls| Arc::new(ClientTls(tls)) as Arc<dyn TlsSource>);
            let (listener, file) = split_bound(bound);
            let port = Port {
                listener,
                tls,
                traffic,
            };
            let serving = port.serve(door.clone(), connections(config), stop.clone());
            ports.spawn(async move {
                serving.await;
                drop(file);
            });
            tracing::info!(address = url.as_str(), "serving client traffic");
        }
    }
    Ok(ports)
}

fn split_bound(bound: Bound) -> (Listener, Option<SocketFile>) {
    match bound {
        Bound::Tcp(listener) => (Listener::Tcp(listener), None),
        Bound::Unix(listener, file) => (Listener::Unix(listener), Some(file)),
    }
}

fn connections(config: &Config) -> Connections {
    let mut connections = Connections {
        max_concurrent_streams: config.limits.max_concurrent_streams,
        keepalive_interval: None,
        ..Connections::default()
    };
    if let Some(keepalive) = config.grpc.keepalive {
        connections.keepalive_interval = Some(keepalive.interval);
        connections.keepalive_timeout = keepalive.timeout;
    }
    connections
}

/// Every feature gate and whether it is on.
fn features(config: &Config) -> Vec<Feature> {
    let feature = |gate: &Gate| Feature {
        name: gate.name.to_owned(),
        stage: gate.stage.name().to_owned(),
        enabled: config.features.enabled(gate.name),
    };
    GATES.iter().map(feature).collect()
}

fn door_options(config: &Config) -> metastore_api::Options {
    let names = |allowed: &Allowed| match allowed {
        Allowed::All => ["*".to_owned()].into(),
        Allowed::Only(names) => names.iter().cloned().collect(),
    };
    metastore_api::Options {
        registry: prometheus::Registry::new(),
        extensive_metrics: config.http.extensive_metrics,
        election_timeout: config.raft.election,
        slow_request: config.warning_unary_request,
        slow_read: config.warning_apply,
        features: features(config),
        watch_progress_interval: config.watch_progress_interval,
        access: AccessControl {
            hosts: names(&config.http.hosts),
            origins: names(&config.http.origins),
        },
        command_line: std::env::args().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flag::command_line;
    use crate::stream::Stream;

    fn config(arguments: &[&str]) -> Config {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let line = command_line::parse(&arguments).expect("a command line");
        let loaded = crate::config::load(line, &[], &mut Vec::new());
        loaded.expect("a configuration").0
    }

    #[test]
    fn the_gates_decide_about_checkpoints_and_the_address_to_dial_from() {
        let peer = "--initial-advertise-peer-urls=http://10.0.0.9:2380";
        let plain = config(&[peer]);
        assert_eq!(lease_checkpoint_interval(&plain), None);
        assert_eq!(plain.raft.local_address, None);
        let gates = "--feature-gates=LeaseCheckpoint=true,SetMemberLocalAddr=true";
        let gated = config(&[peer, gates]);
        assert_eq!(lease_checkpoint_interval(&gated), Some(LEASE_CHECKPOINT));
        let address = "10.0.0.9".parse().expect("an address");
        assert_eq!(gated.raft.local_address, Some(address));
    }

    #[tokio::test]
    async fn what_another_member_does_not_take_is_given_up_after_the_time_set() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        for (flag, millis) in [
            ("--raft-write-timeout=7s", 7_000),
            ("--raft-write-timeout=1m", 60_000),
        ] {
            let dialer = dialer(&config(&[flag])).expect("a dialer");
            let Ok(Stream::Tcp(tcp)) = dialer.connect(&url).await else {
                panic!("a connection without TLS")
            };
            // The kernel ends the connection by itself then.
            let set = rustix::net::sockopt::tcp_user_timeout(&tcp).expect("an option");
            assert_eq!(set, millis, "{flag}");
        }
    }

    #[test]
    fn the_store_has_the_bounds_of_the_flags() {
        let bounds = |arguments: &[&str]| store_options(&config(arguments));
        // What the store does with it: `values_beyond_the_cache_are_read_from_the_engine` in metastore-mvcc.
        assert_eq!(bounds(&["--value-cache-bytes=7"]).value_cache_bytes, 7);
        let steps = bounds(&[
            "--compaction-batch-limit=8",
            "--compaction-sleep-interval=9ms",
        ]);
        assert_eq!(
            (steps.compaction_rows, steps.compaction_pause),
            (8, Duration::from_millis(9))
        );
        let defaults = metastore_mvcc::Options::default();
        assert_eq!(bounds(&[]).compaction_rows, defaults.compaction_rows);
    }
}
