//! Runs a case on every version of Kubernetes and every store of this run.
//!
//! `METASTORE_KUBERNETES` (default `1.34,1.37`) and `METASTORE_APISERVER_STORES` (default `rocksdb`; also
//! `memory`, and `etcd`, which shows whether the case itself is right) choose what a run covers.

use std::env;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::LocalBoxFuture;
use metastore_harness::{Cluster, Engine, Spec, Target};

use crate::apiserver::{ApiServer, Options, StoreTls};
use crate::client::Client;
use crate::version::Version;

const CASE: Duration = Duration::from_secs(1200);
const LOG_LINES: usize = 25;
/// What kubeadm 1.37 gives its etcd beside names, URLs and certificates (`cmd/kubeadm/app/phases/etcd/local.go`).
const KUBEADM: [&str; 3] = [
    "--snapshot-count=10000",
    "--feature-gates=InitialCorruptCheck=true",
    "--watch-progress-notify-interval=5s",
];

/// What a case needs.
#[derive(Clone, Debug)]
pub struct Setup {
    size: usize,
    member_flags: Vec<String>,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    tls: bool,
    versions: Vec<Version>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            size: 1,
            member_flags: Vec::new(),
            flags: Vec::new(),
            environment: Vec::new(),
            tls: false,
            versions: Version::ALL.to_vec(),
        }
    }
}

impl Setup {
    /// One member and one apiserver.
    pub fn single() -> Self {
        Self::default()
    }

    /// Three members, all of them named to the apiserver.
    pub fn three() -> Self {
        Self {
            size: 3,
            ..Self::default()
        }
    }

    /// Flags of the apiserver.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags
            .extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Flags of the members.
    #[must_use]
    pub fn member_flags(mut self, flags: &[&str]) -> Self {
        self.member_flags
            .extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// An environment variable of the apiserver.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// TLS between members, and from the apiserver to them with a client certificate.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// For this version alone: for rules that no other version has.
    #[must_use]
    pub fn only(mut self, version: Version) -> Self {
        self.versions = vec![version];
        self
    }
}

/// A store and a ready apiserver on it.
pub struct World {
    /// The members.
    pub cluster: Cluster,
    /// The apiserver.
    pub apiserver: ApiServer,
    /// A connection to it.
    pub api: Client,
    /// Which Kubernetes it is.
    pub version: Version,
    options: Options,
}

impl World {
    async fn start(setup: &Setup, version: Version, target: Target) -> Result<Self> {
        let mut spec = Spec::new(target, setup.size)
            .with_flags(KUBEADM)
            .with_flags(setup.member_flags.clone());
        if setup.tls {
            spec = spec.with_client_tls().with_peer_tls();
        }
        let cluster = Cluster::start(&spec).await?;
        let stores = cluster.members().iter();
        let tls = cluster.authority().map(|authority| {
            let identity = authority.issue("kube-apiserver-etcd-client", &[])?;
            Ok::<_, anyhow::Error>(StoreTls {
                authority: authority.file(),
                identity: Some((identity.certificate_file, identity.key_file)),
            })
        });
        let options = Options {
            version,
            stores: stores
                .map(|member| member.client_url().to_owned())
                .collect(),
            tls: tls.transpose()?,
            flags: setup.flags.clone(),
            environment: setup.environment.clone(),
        };
        let apiserver = ApiServer::start(options.clone()).await?;
        let api = apiserver.client().await?;
        Ok(Self {
            cluster,
            apiserver,
            api,
            version,
            options,
        })
    }

    /// How this world's apiserver was started, to start another one beside it.
    pub fn options(&self) -> Options {
        self.options.clone()
    }
}

/// Runs a case on every version and store of this run; the first failure ends it.
pub fn check(setup: &Setup, case: impl AsyncFn(&mut World) -> Result<()>) -> Result<()> {
    let case = &case;
    check_boxed(setup, &|mut world| {
        Box::pin(async move {
            let outcome = tokio::time::timeout(CASE, case(&mut world))
                .await
                .unwrap_or_else(|_| bail!("did not end within {CASE:?}"));
            (world, outcome)
        })
    })
}

/// A case behind a pointer, so that the runner is compiled once and not once per case.
type Case<'a> = &'a dyn Fn(World) -> LocalBoxFuture<'a, (World, Result<()>)>;

fn check_boxed(setup: &Setup, case: Case<'_>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("a runtime")?;
    runtime.block_on(async {
        for version in versions()? {
            if !setup.versions.contains(&version) {
                continue;
            }
            for target in stores()? {
                let world = World::start(setup, version, target)
                    .await
                    .with_context(|| format!("starting Kubernetes {version} on {target}"))?;
                let (world, outcome) = case(world).await;
                if let Err(error) = outcome {
                    eprintln!(
                        "Kubernetes {version} on {target}: {error:?}\n--- log of kube-apiserver\n{}\n{}",
                        world.apiserver.log_tail(LOG_LINES),
                        world.cluster.log_tails(LOG_LINES)
                    );
                    bail!("Kubernetes {version} on {target}: {error:#}");
                }
            }
        }
        Ok(())
    })
}

/// Calls `attempt` until it succeeds; after `within`, fails with what it failed with last.
pub async fn eventually<T>(
    within: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("still so after {within:?}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn versions() -> Result<Vec<Version>> {
    list("METASTORE_KUBERNETES", "1.34,1.37")
        .iter()
        .map(|name| Version::named(name))
        .collect()
}

fn stores() -> Result<Vec<Target>> {
    list("METASTORE_APISERVER_STORES", "rocksdb")
        .iter()
        .map(|name| match name.as_str() {
            "etcd" => Ok(Target::Etcd),
            "rocksdb" => Ok(Target::MetaStore(Engine::RocksDb)),
            "memory" => Ok(Target::MetaStore(Engine::Memory)),
            other => bail!("METASTORE_APISERVER_STORES knows no {other}"),
        })
        .collect()
}

fn list(variable: &str, default: &str) -> Vec<String> {
    env::var(variable)
        .unwrap_or_else(|_| default.to_owned())
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}
