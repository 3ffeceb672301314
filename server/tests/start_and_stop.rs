//! A member from its start to its end: what others rely on when they start, watch and stop it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_harness::{
    Cluster, Ending, Engine, Port, Process, Signal, Spec, Target, metastore_binary,
};
use metastore_proto::etcdserverpb::{PutRequest, RangeRequest, StatusRequest};

const READY: &str = "ready to serve client requests";
const PATIENCE: Duration = Duration::from_secs(60);

fn run(test: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("a runtime")?;
    runtime.block_on(test)
}

fn memory(size: usize) -> Spec {
    Spec::new(Target::MetaStore(Engine::Memory), size)
}

fn put(key: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into_bytes().into(),
        value: b"1".to_vec().into(),
        ..PutRequest::default()
    }
}

/// A member that gets nothing but ports: no home, no data directory, no variables.
fn bare(folder: &Path, ports: &[Port; 2]) -> Result<Command> {
    let [client, peer] =
        [&ports[0], &ports[1]].map(|port| format!("http://127.0.0.1:{}", port.number()));
    let mut command = Command::new(metastore_binary()?);
    command.env_clear().current_dir(folder).args([
        "--name=bare".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=bare={peer}"),
    ]);
    Ok(command)
}

#[test]
fn a_member_needs_no_home_and_keeps_its_data_under_its_name_in_the_current_folder() -> Result<()> {
    run(async {
        let (folder, ports) = (tempfile::tempdir()?, [Port::take()?, Port::take()?]);
        fs::create_dir(folder.path().join("bare.etcd"))?;
        let log = folder.path().join("log");
        let mut process = Process::spawn("bare", &mut bare(folder.path(), &ports)?, &log)?;
        process
            .wait_for_line(|line| line.contains(READY), PATIENCE)
            .await?;
        ensure!(folder.path().join("bare.etcd/member/METASTORE").is_file());
        ensure!(
            process
                .lines()
                .iter()
                .any(|line| line.contains("'data-dir' was empty; using default"))
        );
        Ok(())
    })
}

#[test]
fn systemd_is_told_when_the_member_serves_and_not_before() -> Result<()> {
    run(async {
        let (folder, ports) = (tempfile::tempdir()?, [Port::take()?, Port::take()?]);
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut command = bare(folder.path(), &ports)?;
        command.env("NOTIFY_SOCKET", &path);
        let _process = Process::spawn("told", &mut command, &folder.path().join("log"))?;
        let mut message = [0; 64];
        let length = socket.recv(&mut message)?;
        ensure!(
            message[..length].starts_with(b"READY=1"),
            "{:?}",
            &message[..length]
        );
        // Clients are served by now.
        TcpStream::connect(("127.0.0.1", ports[0].number()))?;
        Ok(())
    })
}

#[test]
fn a_member_says_that_it_is_ready_only_when_it_serves() -> Result<()> {
    run(async {
        // One of three cannot serve.
        let mut cluster = Cluster::prepare(&memory(3))?;
        let url = cluster.members()[0]
            .client_url()
            .trim_start_matches("http://")
            .to_owned();
        let first = cluster.member(0);
        first.launch()?;
        let said = first
            .process()?
            .wait_for_line(|line| line.contains(READY), Duration::from_secs(3))
            .await;
        ensure!(said.is_err(), "ready without a quorum: {said:?}");
        ensure!(
            TcpStream::connect(&url).is_err(),
            "the client port is open without a quorum"
        );
        // The others come in an order of their own, the last one late.
        cluster.member(2).launch()?;
        cluster.member(0).ready().await?;
        cluster.member(2).ready().await?;
        cluster.member(1).start().await?;
        for index in 0..3 {
            let member = cluster.member(index);
            let lines = member.process()?.lines();
            let ready = lines.iter().filter(|line| line.contains(READY)).count();
            ensure!(ready == 1, "{ready} times ready");
        }
        cluster.clients(1).await?.kv.put(put("a")).await?;
        Ok(())
    })
}

#[test]
fn a_start_and_a_stop_in_order_log_nothing_at_level_error_and_free_the_ports() -> Result<()> {
    run(async {
        let mut cluster = Cluster::start(&Spec::new(Target::MetaStore(Engine::RocksDb), 1)).await?;
        let mut kv = cluster.clients(0).await?.kv;
        for number in 0..200 {
            kv.put(put(&format!("a{number}"))).await?;
        }
        let member = cluster.member(0);
        let urls = [member.client_url().to_owned(), member.peer_url().to_owned()];
        let log = member.process()?.log().to_owned();
        let process = member.process()?;
        let since = Instant::now();
        process.signal(Signal::TERM)?;
        let ending = process.wait(PATIENCE).await?;
        let took = since.elapsed();
        ensure!(ending == Ending::Signal(15), "{ending:?}");
        // Well within 1.5 s on a quiet machine; this one may be busy.
        ensure!(
            took < Duration::from_secs(5),
            "{took:?} for the stop of an idle member"
        );
        for url in urls {
            TcpListener::bind(url.trim_start_matches("http://")).context("the port is free")?;
        }
        for line in fs::read_to_string(log)?.lines() {
            let level = line.split('"').nth(3).unwrap_or_default();
            ensure!(["debug", "info", "warn"].contains(&level), "{line}");
            ensure!(!line.contains("was not flushed"), "{line}");
        }
        Ok(())
    })
}

#[test]
fn leadership_moves_away_before_the_leader_stops() -> Result<()> {
    run(async {
        let mut cluster = Cluster::start(&memory(3)).await?;
        let leader = cluster.leader().await?;
        let other = (leader + 1) % 3;
        let mut clients = cluster.clients(other).await?;
        clients.kv.put(put("before")).await?;
        let before = clients
            .maintenance
            .status(StatusRequest {})
            .await?
            .into_inner();
        let old = cluster.members()[leader].id();
        cluster.member(leader).process()?.signal(Signal::TERM)?;
        let since = Instant::now();
        let after = loop {
            let status = clients
                .maintenance
                .status(StatusRequest {})
                .await?
                .into_inner();
            if status.leader != 0 && status.leader != old {
                break status;
            }
            ensure!(since.elapsed() < PATIENCE, "{status:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        // An election that nobody called for would have waited for the timeout and might take more than one term.
        ensure!(
            after.raft_term == before.raft_term + 1,
            "{before:?} then {after:?}"
        );
        clients.kv.put(put("after")).await?;
        let ending = cluster.member(leader).process()?.wait(PATIENCE).await?;
        ensure!(ending == Ending::Signal(15), "{ending:?}");
        Ok(())
    })
}

#[test]
fn as_process_1_a_member_that_was_asked_to_stop_exits_with_0() -> Result<()> {
    run(async {
        let (folder, ports) = (tempfile::tempdir()?, [Port::take()?, Port::take()?]);
        let bare = bare(folder.path(), &ports)?;
        // A process name space of its own needs root, or a kernel that lets everybody have one.
        let root = rustix::process::geteuid().is_root();
        let mut command = Command::new("unshare");
        if !root {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .args(["--pid", "--fork", "--kill-child=TERM"])
            .arg(bare.get_program())
            .args(bare.get_args())
            .current_dir(folder.path());
        let mut process = Process::spawn("first", &mut command, &folder.path().join("log"))?;
        process
            .wait_for_line(|line| line.contains(READY), PATIENCE)
            .await?;
        let child = child_of(process.id())?;
        rustix::process::kill_process(child, Signal::TERM)?;
        let ending = process.wait(PATIENCE).await?;
        ensure!(ending == Ending::Code(0), "{ending:?}\n{}", process.tail(5));
        Ok(())
    })
}

fn child_of(process: u32) -> Result<rustix::process::Pid> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
    let child = children
        .split_whitespace()
        .next()
        .context("a child")?
        .parse()?;
    rustix::process::Pid::from_raw(child).context("a process id")
}

#[test]
fn a_restart_serves_what_it_was_told_before_it_says_ready() -> Result<()> {
    run(async {
        let mut cluster = Cluster::start(&memory(1)).await?;
        let mut last = 0;
        for round in 0..5 {
            let mut kv = cluster.clients(0).await?.kv;
            for number in 0..20 {
                let answer = kv
                    .put(put(&format!("{round}/{number}")))
                    .await?
                    .into_inner();
                last = answer.header.context("a header")?.revision;
            }
            cluster.member(0).kill()?;
            cluster.member(0).start().await?;
            let request = RangeRequest {
                key: b"a".to_vec().into(),
                serializable: true,
                ..RangeRequest::default()
            };
            let mut kv = cluster.clients(0).await?.kv;
            let header = kv
                .range(request)
                .await?
                .into_inner()
                .header
                .context("a header")?;
            ensure!(
                header.revision >= last,
                "revision {} after {last}",
                header.revision
            );
        }
        Ok(())
    })
}
