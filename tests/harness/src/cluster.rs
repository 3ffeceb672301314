//! Some members that form one cluster on loopback.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use metastore_proto::etcdserverpb::StatusRequest;
use tempfile::TempDir;

use crate::client::{self, Clients};
use crate::identity::{cluster_id, member_id};
use crate::member::{Member, Target};
use crate::ports::Port;
use crate::tls::{Authority, Identity};

const TOKEN: &str = "metastore-test";

/// What cluster to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The program.
    pub target: Target,
    /// How many members.
    pub size: usize,
    /// Flags added to those that the harness needs, after them.
    pub flags: Vec<OsString>,
    /// Environment variables of the members.
    pub environment: Vec<(String, String)>,
    /// Whether the client port speaks TLS and asks for client certificates.
    pub client_tls: bool,
    /// Whether the members speak TLS to each other, with certificates of the same authority.
    pub peer_tls: bool,
    /// Whether the members speak TLS to each other with certificates that they make themselves.
    pub peer_auto_tls: bool,
}

impl Spec {
    /// A cluster of `size` members without extras.
    pub fn new(target: Target, size: usize) -> Self {
        let (flags, environment) = (Vec::new(), Vec::new());
        Self {
            target,
            size,
            flags,
            environment,
            client_tls: false,
            peer_tls: false,
            peer_auto_tls: false,
        }
    }

    /// Adds flags.
    #[must_use]
    pub fn with_flags<F: Into<OsString>>(mut self, flags: impl IntoIterator<Item = F>) -> Self {
        self.flags.extend(flags.into_iter().map(Into::into));
        self
    }

    /// Serves clients over TLS, for those with a certificate of the cluster's authority.
    #[must_use]
    pub fn with_client_tls(mut self) -> Self {
        self.client_tls = true;
        self
    }

    /// Lets the members speak TLS to each other.
    #[must_use]
    pub fn with_peer_tls(mut self) -> Self {
        self.peer_tls = true;
        self
    }
}

/// A running cluster. Dropping it kills every member and removes its folder, unless the test panics or
/// `METASTORE_TEST_KEEP` is set: then the folder (data and logs) stays and its path is printed.
pub struct Cluster {
    members: Vec<Member>,
    target: Target,
    id: u64,
    authority: Option<Authority>,
    folder: Option<TempDir>,
    _ports: Vec<Port>,
}

impl Cluster {
    /// Starts the members and waits until each serves clients.
    pub async fn start(spec: &Spec) -> Result<Self> {
        let mut cluster = Self::prepare(spec)?;
        for member in &mut cluster.members {
            member.launch()?;
        }
        for member in &mut cluster.members {
            member.ready().await?;
        }
        Ok(cluster)
    }

    /// Chooses ports, folders and flags, and starts nothing.
    pub fn prepare(spec: &Spec) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("metastore-test-{}-", spec.target))
            .tempdir()
            .context("a folder for the cluster")?;
        let ports = (0..spec.size * 2)
            .map(|_| Port::take())
            .collect::<Result<Vec<_>>>()?;
        let url = |tls: bool, port: &Port| {
            format!(
                "{}://127.0.0.1:{}",
                if tls { "https" } else { "http" },
                port.number()
            )
        };
        let (first, second) = ports.split_at(spec.size);
        let peer_tls = spec.peer_tls || spec.peer_auto_tls;
        let peers: Vec<String> = first.iter().map(|port| url(peer_tls, port)).collect();
        let clients: Vec<String> = second
            .iter()
            .map(|port| url(spec.client_tls, port))
            .collect();
        let ids: Vec<u64> = peers.iter().map(|peer| member_id(&[peer], TOKEN)).collect();
        let initial: Vec<String> = peers
            .iter()
            .enumerate()
            .map(|(index, peer)| format!("m{}={peer}", index + 1))
            .collect();
        let tls = folder.path().join("tls");
        let authority = if spec.client_tls || spec.peer_tls {
            Some(Authority::generate(&tls)?)
        } else {
            None
        };
        let mut members = Vec::new();
        for index in 0..spec.size {
            let name = format!("m{}", index + 1);
            let data_dir = folder.path().join(&name);
            let mut flags = own_flags(
                &name,
                &data_dir,
                &clients[index],
                &peers[index],
                &initial.join(","),
            );
            flags.extend(tls_flags(spec, authority.as_ref(), &name)?);
            flags.extend(spec.flags.iter().cloned());
            members.push(Member {
                target: spec.target,
                id: ids[index],
                client_url: clients[index].clone(),
                peer_url: peers[index].clone(),
                log: folder.path().join(format!("{name}.log")),
                data_dir,
                name,
                flags,
                environment: spec.environment.clone(),
                process: None,
            });
        }
        let id = cluster_id(&ids);
        Ok(Self {
            members,
            target: spec.target,
            id,
            authority,
            folder: Some(folder),
            _ports: ports,
        })
    }

    /// The program that runs here.
    pub fn target(&self) -> Target {
        self.target
    }

    /// The cluster id that etcd computes for these members.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The cluster's folder: data directories, logs, certificates.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().map_or(Path::new("."), TempDir::path)
    }

    /// The members, `m1` first.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// One member, to stop, kill, pause or start it. Panics when there are fewer.
    pub fn member(&mut self, index: usize) -> &mut Member {
        &mut self.members[index]
    }

    /// The authority of the client port's certificates, when it speaks TLS.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// gRPC clients of one member (with a fresh client certificate when the port speaks TLS).
    pub async fn clients(&self, index: usize) -> Result<Clients> {
        let member = self.members.get(index).context("no such member")?;
        let authority = self
            .authority
            .as_ref()
            .filter(|_| member.client_url.starts_with("https"));
        let channel = match authority {
            None => client::connect(&member.client_url).await?,
            Some(authority) => {
                let identity: Identity = authority.issue("client", &["client"])?;
                client::connect_tls(&member.client_url, authority, Some(&identity)).await?
            }
        };
        Ok(Clients::new(channel))
    }

    /// The index of the member that the first running member takes for the leader.
    pub async fn leader(&mut self) -> Result<usize> {
        let mut last = None;
        for index in 0..self.members.len() {
            if !self.members[index]
                .process
                .as_mut()
                .is_some_and(crate::Process::is_running)
            {
                continue;
            }
            let status = self
                .clients(index)
                .await?
                .maintenance
                .status(StatusRequest {})
                .await?
                .into_inner();
            let position = self
                .members
                .iter()
                .position(|member| member.id == status.leader);
            if let Some(leader) = position {
                return Ok(leader);
            }
            last = Some(status.leader);
        }
        ensure!(last.is_some(), "no member runs");
        anyhow::bail!("no member knows a leader among us (last answer: {last:?})")
    }

    /// The last lines of every member's log, for a failure's message.
    pub fn log_tails(&self, lines: usize) -> String {
        let mut text = String::new();
        for member in &self.members {
            let log = fs::read_to_string(&member.log).unwrap_or_default();
            let kept: Vec<&str> = log.lines().collect();
            let tail = kept[kept.len().saturating_sub(lines)..].join("\n");
            text.push_str(&format!(
                "--- log of {} {}\n{tail}\n",
                self.target, member.name
            ));
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.process = None;
        }
        let keep = std::thread::panicking() || std::env::var_os("METASTORE_TEST_KEEP").is_some();
        if keep && let Some(folder) = self.folder.take() {
            eprintln!(
                "{}: data and logs are kept in {}",
                self.target,
                folder.keep().display()
            );
        }
    }
}

fn tls_flags(spec: &Spec, authority: Option<&Authority>, name: &str) -> Result<Vec<OsString>> {
    let mut flags = Vec::new();
    if let Some(authority) = authority {
        let identity = authority.issue(name, &["localhost", "127.0.0.1"])?;
        if spec.client_tls {
            flags.extend(identity.server_flags(authority));
        }
        if spec.peer_tls {
            flags.extend(identity.peer_flags(authority));
        }
    }
    if spec.peer_auto_tls {
        flags.push("--peer-auto-tls".into());
    }
    Ok(flags)
}

fn own_flags(
    name: &str,
    data_dir: &Path,
    client: &str,
    peer: &str,
    initial: &str,
) -> Vec<OsString> {
    let mut data = OsString::from("--data-dir=");
    data.push(data_dir);
    vec![
        format!("--name={name}").into(),
        data,
        format!("--listen-client-urls={client}").into(),
        format!("--advertise-client-urls={client}").into(),
        format!("--listen-peer-urls={peer}").into(),
        format!("--initial-advertise-peer-urls={peer}").into(),
        format!("--initial-cluster={initial}").into(),
        format!("--initial-cluster-token={TOKEN}").into(),
        "--initial-cluster-state=new".into(),
    ]
}
