//! Connections to a member's client port.

use std::time::Duration;

use anyhow::{Context, Result};
use metastore_proto::etcdserverpb::auth_client::AuthClient;
use metastore_proto::etcdserverpb::cluster_client::ClusterClient;
use metastore_proto::etcdserverpb::kv_client::KvClient;
use metastore_proto::etcdserverpb::lease_client::LeaseClient;
use metastore_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use metastore_proto::etcdserverpb::watch_client::WatchClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::tls::{Authority, Identity};

/// Above what any test sends or receives.
const MESSAGE_BYTES: usize = 512 << 20;

/// A client of each service, over one connection.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Clients {
    pub kv: KvClient<Channel>,
    pub watch: WatchClient<Channel>,
    pub lease: LeaseClient<Channel>,
    pub maintenance: MaintenanceClient<Channel>,
    pub cluster: ClusterClient<Channel>,
    pub auth: AuthClient<Channel>,
    pub channel: Channel,
}

impl Clients {
    /// Clients over `channel`, with message limits that stand in no test's way.
    pub fn new(channel: Channel) -> Self {
        macro_rules! client {
            ($client:ident) => {
                $client::new(channel.clone())
                    .max_decoding_message_size(MESSAGE_BYTES)
                    .max_encoding_message_size(MESSAGE_BYTES)
            };
        }
        Self {
            kv: client!(KvClient),
            watch: client!(WatchClient),
            lease: client!(LeaseClient),
            maintenance: client!(MaintenanceClient),
            cluster: client!(ClusterClient),
            auth: client!(AuthClient),
            channel,
        }
    }
}

/// Connects without TLS.
pub async fn connect(url: &str) -> Result<Channel> {
    endpoint(url)?
        .connect()
        .await
        .with_context(|| format!("connecting to {url}"))
}

/// Connects with TLS: trusts `authority`, shows `identity`'s certificate if given.
pub async fn connect_tls(
    url: &str,
    authority: &Authority,
    identity: Option<&Identity>,
) -> Result<Channel> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    if let Some(identity) = identity {
        tls = tls.identity(tonic::transport::Identity::from_pem(
            &identity.certificate,
            &identity.key,
        ));
    }
    let endpoint = endpoint(url)?
        .tls_config(tls)
        .context("TLS of the client")?;
    endpoint
        .connect()
        .await
        .with_context(|| format!("connecting to {url}"))
}

fn endpoint(url: &str) -> Result<Endpoint> {
    Ok(Endpoint::from_shared(url.to_owned())
        .with_context(|| format!("the URL {url}"))?
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20))
}
