//! One kube-apiserver on loopback, with certificates, a token and a kubeconfig of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use metastore_harness::{Authority, Ending, Port, Process, Signal};
use serde_json::json;
use tempfile::TempDir;

use crate::client::Client;
use crate::kubectl::Kubectl;
use crate::metrics::Metrics;
use crate::runner::eventually;
use crate::version::Version;

const TOKEN: &str = "lab-token";
/// A cold start on a busy machine: the first member of a control plane writes its bootstrap roles, too.
const START: Duration = Duration::from_secs(150);
const STOP: Duration = Duration::from_secs(90);

/// The client certificate with which the apiserver goes to its store.
#[derive(Clone, Debug)]
pub struct StoreTls {
    /// `--etcd-cafile`
    pub authority: PathBuf,
    /// `--etcd-certfile` and `--etcd-keyfile`
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How to start a kube-apiserver.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which Kubernetes.
    pub version: Version,
    /// `--etcd-servers`
    pub stores: Vec<String>,
    /// TLS to the store.
    pub tls: Option<StoreTls>,
    /// Flags after those that every apiserver of the tests has.
    pub flags: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
}

/// Where an apiserver is, and what to show there.
#[derive(Clone, Debug)]
pub struct Address {
    at: String,
    authority: String,
}

impl Address {
    /// A new connection.
    pub async fn client(&self) -> Result<Client> {
        Client::connect(&self.at, &self.authority, TOKEN).await
    }
}

/// A kube-apiserver. Dropping it kills its process.
pub struct ApiServer {
    options: Options,
    authority: Authority,
    port: Port,
    folder: TempDir,
    process: Option<Process>,
}

impl ApiServer {
    /// Starts one and waits until it is ready.
    pub async fn start(options: Options) -> Result<Self> {
        let mut server = Self::prepare(options)?;
        server.launch()?;
        server.ready().await?;
        Ok(server)
    }

    /// Chooses a port and writes certificates, and starts nothing.
    pub fn prepare(options: Options) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("metastore-apiserver-")
            .tempdir()
            .context("a folder for the apiserver")?;
        let authority = Authority::generate(&folder.path().join("tls"))?;
        authority.issue(
            "apiserver",
            &["localhost", "127.0.0.1", "kubernetes.default.svc"],
        )?;
        authority.issue("service-accounts", &[])?;
        let server = Self {
            options,
            authority,
            port: Port::take()?,
            folder,
            process: None,
        };
        let tokens = format!("{TOKEN},admin,admin,system:masters\n");
        fs::write(server.folder.path().join("tokens.csv"), tokens).context("writing tokens")?;
        fs::write(server.kubeconfig(), server.configuration()).context("writing a kubeconfig")?;
        Ok(server)
    }

    /// Starts the process and returns without waiting until it is ready.
    pub fn launch(&mut self) -> Result<()> {
        let mut command = Command::new(self.options.version.binary("kube-apiserver")?);
        command
            .args(self.flags())
            .args(&self.options.flags)
            .envs(self.options.environment.iter().cloned());
        let name = format!("kube-apiserver {}", self.options.version);
        let log = self.folder.path().join("apiserver.log");
        self.process = Some(Process::spawn(&name, &mut command, &log)?);
        Ok(())
    }

    /// Waits until `/readyz` says ok and namespace `default` is there.
    pub async fn ready(&mut self) -> Result<()> {
        let outcome = eventually(START, async || {
            if !self.process()?.is_running() {
                return Ok(Err(anyhow!("kube-apiserver has ended")));
            }
            let client = self.client().await?;
            let (status, text) = client.text("/readyz?verbose").await?;
            ensure!(status == 200, "/readyz says {status}: {text}");
            client.get("/api/v1/namespaces/default").await.map(Ok)
        })
        .await;
        outcome
            .flatten()
            .map(drop)
            .with_context(|| format!("not ready; its log:\n{}", self.log_tail(40)))
    }

    /// A new connection.
    pub async fn client(&self) -> Result<Client> {
        self.address().client().await
    }

    /// What a client needs to connect, now and after a restart.
    pub fn address(&self) -> Address {
        Address {
            at: format!("127.0.0.1:{}", self.port.number()),
            authority: self.authority.pem().to_owned(),
        }
    }

    /// kubectl, of the same version, for this apiserver.
    pub fn kubectl(&self) -> Result<Kubectl> {
        Kubectl::new(self.options.version, &self.kubeconfig(), self.folder.path())
    }

    /// Its own metrics.
    pub async fn metrics(&self) -> Result<Metrics> {
        let (status, text) = self.client().await?.text("/metrics").await?;
        ensure!(status == 200, "/metrics says {status}: {text}");
        Ok(Metrics::new(text))
    }

    /// The process, while started.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process
            .as_mut()
            .context("kube-apiserver is not started")
    }

    /// Asks it to end and waits for it.
    pub async fn stop(&mut self) -> Result<Ending> {
        let process = self.process()?;
        process.signal(Signal::TERM)?;
        let ending = process.wait(STOP).await;
        self.process = None;
        ending
    }

    /// The lines of its log that hold `text`.
    pub fn log_lines(&self, text: &str) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("apiserver.log")).unwrap_or_default();
        log.lines()
            .filter(|line| line.contains(text))
            .map(str::to_owned)
            .collect()
    }

    /// The last lines of its log.
    pub fn log_tail(&self, count: usize) -> String {
        let lines = self.log_lines("");
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    fn configuration(&self) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "admin", "namespace": "default"}}],
            "clusters": [{"name": "lab", "cluster": {
                "server": format!("https://{}", self.address().at),
                "certificate-authority": self.authority.file(),
            }}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
        })
        .to_string()
    }

    fn flags(&self) -> Vec<String> {
        let tls = self.folder.path().join("tls");
        let file = |name: &str| tls.join(name).display().to_string();
        let mut flags = vec![
            format!("--etcd-servers={}", self.options.stores.join(",")),
            format!("--secure-port={}", self.port.number()),
            "--bind-address=127.0.0.1".to_owned(),
            // From TEST-NET-1: an address that is written down for Services, and that nobody connects to.
            "--advertise-address=192.0.2.1".to_owned(),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--cert-dir={}", self.folder.path().display()),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!(
                "--service-account-key-file={}",
                file("service-accounts.crt")
            ),
            format!(
                "--service-account-signing-key-file={}",
                file("service-accounts.key")
            ),
            format!(
                "--token-auth-file={}",
                self.folder.path().join("tokens.csv").display()
            ),
            "--authorization-mode=RBAC".to_owned(),
            // Nobody makes service accounts here, since no controller runs.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
        ];
        if let Some(tls) = &self.options.tls {
            flags.push(format!("--etcd-cafile={}", tls.authority.display()));
            if let Some((certificate, key)) = &tls.identity {
                flags.push(format!("--etcd-certfile={}", certificate.display()));
                flags.push(format!("--etcd-keyfile={}", key.display()));
            }
        }
        flags
    }
}
