//! A cluster under load: real processes on loopback, one target at a time.

use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use metastore_harness::Port;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::process;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Target {
    #[serde(rename = "etcd")]
    Etcd,
    MetaStore,
}

impl Target {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Target::Etcd => "etcd",
            Target::MetaStore => "MetaStore",
        }
    }
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) etcd: PathBuf,
    pub(crate) metastore: PathBuf,
    pub(crate) benchmark: PathBuf,
}

struct Member {
    process: Child,
    arguments: Vec<String>,
    client_port: u16,
}

/// A member that has been stopped.
pub(crate) struct Stopped {
    arguments: Vec<String>,
    client_port: u16,
}

impl Stopped {
    pub(crate) fn client_port(&self) -> u16 {
        self.client_port
    }
}

/// A running cluster with its data.
pub(crate) struct Cluster {
    pub(crate) target: Target,
    program: PathBuf,
    directory: TempDir,
    members: Vec<Member>,
    /// Nobody else gets them meanwhile.
    _ports: Vec<Port>,
}

impl Cluster {
    /// Starts a new cluster and waits until it answers.
    pub(crate) fn start(
        target: Target,
        programs: &Programs,
        size: usize,
        data: &Path,
        metastore_flags: &[&str],
    ) -> Result<Self> {
        let program = match target {
            Target::Etcd => programs.etcd.clone(),
            Target::MetaStore => programs.metastore.clone(),
        };
        let directory = tempfile::tempdir_in(data).context("make a data directory")?;
        let ports = take_ports(size * 2)?;
        let (clients, peers) = ports.split_at(size);
        let initial: Vec<String> = peers
            .iter()
            .enumerate()
            .map(|(i, port)| format!("m{i}=http://127.0.0.1:{}", port.number()))
            .collect();
        let mut cluster = Self {
            target,
            program,
            directory,
            members: Vec::new(),
            _ports: Vec::new(),
        };
        for i in 0..size {
            let client = format!("http://127.0.0.1:{}", clients[i].number());
            let peer = format!("http://127.0.0.1:{}", peers[i].number());
            let mut arguments: Vec<String> = [
                format!("--name=m{i}"),
                format!(
                    "--data-dir={}",
                    cluster.directory.path().join(format!("m{i}")).display()
                ),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={}", initial.join(",")),
                "--quota-backend-bytes=8589934592".to_owned(),
                "--log-level=warn".to_owned(),
            ]
            .into();
            if target == Target::MetaStore {
                arguments.push("--storage-engine=rocksdb".to_owned());
                arguments.extend(metastore_flags.iter().map(|flag| (*flag).to_owned()));
            }
            cluster.launch(arguments, clients[i].number())?;
        }
        cluster.wait_ready()?;
        cluster._ports = ports;
        Ok(cluster)
    }

    fn launch(&mut self, arguments: Vec<String>, client_port: u16) -> Result<()> {
        let log = self.directory.path().join(format!("log-{client_port}"));
        let log = File::options().create(true).append(true).open(log)?;
        let process = Command::new(&self.program)
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        self.members.push(Member {
            process,
            arguments,
            client_port,
        });
        Ok(())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        for member in &mut self.members {
            while !healthy(member.client_port) {
                if let Some(status) = member.process.try_wait()? {
                    bail!(
                        "{} ended with {status}; arguments {:?}",
                        self.program.display(),
                        member.arguments
                    );
                }
                if Instant::now() > deadline {
                    bail!("{} was not ready within a minute", self.program.display());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }

    /// Stops all members and starts them on the same data; the time until they answer.
    pub(crate) fn restart(&mut self) -> Result<Duration> {
        let stopped: Vec<_> = self.members.drain(..).collect();
        let mut again = Vec::new();
        for mut member in stopped {
            terminate(&mut member.process)?;
            again.push((member.arguments, member.client_port));
        }
        let begin = Instant::now();
        for (arguments, port) in again {
            self.launch(arguments, port)?;
        }
        self.wait_ready()?;
        Ok(begin.elapsed())
    }

    /// Stops a member that does not lead, and not the one that [`Cluster::url`] names.
    pub(crate) fn stop_a_follower(&mut self) -> Result<Stopped> {
        let follows = |member: &Member| metric(member.client_port, "etcd_server_is_leader") == 0.0;
        let index = (1..self.members.len()).find(|index| follows(&self.members[*index]));
        let mut member = self.members.remove(index.context("a follower")?);
        terminate(&mut member.process)?;
        Ok(Stopped {
            arguments: member.arguments,
            client_port: member.client_port,
        })
    }

    /// Starts a stopped member, and does not wait for it.
    pub(crate) fn start_again(&mut self, stopped: Stopped) -> Result<()> {
        self.launch(stopped.arguments, stopped.client_port)
    }

    /// Waits until the member at this port answers, which it does when it knows what the others know.
    pub(crate) async fn is_up(client_port: u16) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !tokio::task::spawn_blocking(move || healthy(client_port)).await? {
            if Instant::now() > deadline {
                bail!("a member was not ready within two minutes");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// States that members have sent to others, from their own metrics.
    pub(crate) fn snapshots_sent(&self) -> u64 {
        let sent = "etcd_network_snapshot_send_success";
        let counts = self
            .members
            .iter()
            .map(|member| metric(member.client_port, sent));
        counts.sum::<f64>() as u64
    }

    /// Client endpoints, separated by commas.
    pub(crate) fn endpoints(&self) -> String {
        let endpoints: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("127.0.0.1:{}", member.client_port))
            .collect();
        endpoints.join(",")
    }

    /// One endpoint's URL.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.members[0].client_port)
    }

    /// CPU seconds of all members together.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        self.members
            .iter()
            .map(|member| process::cpu_seconds(member.process.id()))
            .sum()
    }

    /// Peak memory of the largest member, in bytes.
    pub(crate) fn peak_memory_bytes(&self) -> Result<u64> {
        let peaks: Result<Vec<u64>> = self
            .members
            .iter()
            .map(|member| process::memory_bytes(member.process.id(), "VmHWM"))
            .collect();
        Ok(peaks?.into_iter().max().unwrap_or(0))
    }

    /// Bytes on disk of the largest member.
    pub(crate) fn disk_bytes(&self) -> u64 {
        (0..self.members.len())
            .map(|i| process::disk_bytes(&self.directory.path().join(format!("m{i}"))))
            .max()
            .unwrap_or(0)
    }

    /// Completed syncs of the log, all members together, from their own metrics.
    pub(crate) fn fsyncs(&self) -> u64 {
        let syncs = "etcd_disk_wal_fsync_duration_seconds_count";
        let counts = self
            .members
            .iter()
            .map(|member| metric(member.client_port, syncs));
        counts.sum::<f64>() as u64
    }

    /// What was started, for the report: all flags but names, addresses and directories.
    pub(crate) fn command_line(&self) -> String {
        let own = [
            "--name=",
            "--data-dir=",
            "--initial-",
            "--listen-",
            "--advertise-",
        ];
        let flags = self.members[0].arguments.iter();
        let told = flags.filter(|flag| !own.iter().any(|own| flag.starts_with(own)));
        let words = std::iter::once(self.target.name()).chain(told.map(String::as_str));
        words.collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.process.kill();
            let _ = member.process.wait();
        }
    }
}

/// The sum of a metric's series on a member's page; 0 where it has none.
fn metric(client_port: u16, name: &str) -> f64 {
    let page = http_get(client_port, "/metrics").unwrap_or_default();
    let of_it = |line: &&str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with([' ', '{']))
    };
    let values = page.lines().filter(of_it);
    values
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

fn terminate(process: &mut Child) -> Result<()> {
    let pid = rustix::process::Pid::from_child(process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    process.wait()?;
    Ok(())
}

fn take_ports(count: usize) -> Result<Vec<Port>> {
    (0..count).map(|_| Port::take()).collect()
}

fn healthy(port: u16) -> bool {
    http_get(port, "/health").is_some_and(|body| body.contains("\"true\""))
}

fn http_get(port: u16, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
