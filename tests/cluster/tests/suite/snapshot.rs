//! The state of a member on its way to one that was away for longer than the log is kept.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_cluster_tests::client::{lazy, until};
use metastore_cluster_tests::load::{Load, Shape, Writes};
use metastore_cluster_tests::proxy::Proxy;
use metastore_cluster_tests::soak;
use metastore_cluster_tests::trouble::leader;
use metastore_cluster_tests::verify::{caught_up, nothing_is_lost, urls};
use metastore_harness::{Cluster, Engine, Member, Port, Spec, Target};

const WAIT: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;
const INSTALLED: &str = "installing a received snapshot";
const SENT: &str = "\"msg\":\"sending a snapshot\"";
/// So slow that a transfer can be caught in the middle: 64 KiB in this time.
const PACE: Duration = Duration::from_millis(2);

/// Three members, the third behind a proxy that stands between it and what others send it.
struct Three {
    cluster: Cluster,
    proxy: Proxy,
    _port: Port,
}

const THIRD: usize = 2;

fn number_of(url: &str) -> Result<u16> {
    let port = url.rsplit(':').next().context("a port")?;
    Ok(port.parse()?)
}

impl Three {
    async fn start(engine: Engine, retention: u64) -> Result<Self> {
        Self::start_some(engine, retention, 3).await
    }

    /// Starts the first `running` of them.
    async fn start_some(engine: Engine, retention: u64, running: usize) -> Result<Self> {
        let flag = format!("--raft-log-retention-bytes={retention}");
        let spec = Spec::new(Target::MetaStore(engine), 3).with_flags([flag]);
        let mut cluster = Cluster::prepare(&spec)?;
        let port = Port::take()?;
        let listen = format!("--listen-peer-urls=http://127.0.0.1:{}", port.number());
        cluster.member(THIRD).flags_mut().push(listen.into());
        let advertised = number_of(cluster.members()[THIRD].peer_url())?;
        let proxy = Proxy::start(advertised, port.number(), PACE).await?;
        for index in 0..running {
            cluster.member(index).launch()?;
        }
        for index in 0..running {
            cluster.member(index).ready().await?;
        }
        Ok(Self {
            cluster,
            proxy,
            _port: port,
        })
    }

    /// Stops the third and writes until the others have forgotten the log that it lacks.
    async fn leave_behind(&mut self, load: &Load, writes: u64) -> Result<()> {
        self.cluster.member(THIRD).stop().await?;
        load.progress(writes, WAIT).await?;
        is_purged(&self.cluster, &[0, 1], 1).await
    }

    async fn forwarded(&self, from: u64, bytes: u64) -> Result<()> {
        until("a part of the snapshot is sent", WAIT, async || {
            let sent = self.proxy.forwarded() - from;
            ensure!(sent >= bytes, "{sent} of {bytes} bytes");
            Ok(())
        })
        .await
    }

    /// Where the transfers to the third began: the numbers of chunks that it had already.
    fn begun_at(&mut self) -> Result<Vec<u64>> {
        let mut begun = Vec::new();
        for index in 0..THIRD {
            for line in self.cluster.member(index).process()?.lines() {
                if line.contains(SENT) {
                    let skip = line.split("\"skip\":").nth(1).context("where it began")?;
                    let digits: String = skip.chars().take_while(char::is_ascii_digit).collect();
                    begun.push(digits.parse()?);
                }
            }
        }
        Ok(begun)
    }
}

fn log_of(member: &Member) -> PathBuf {
    member.data_dir().join("member/log")
}

/// The number of the newest segment of a member's log.
fn newest_segment(member: &Member) -> Result<u64> {
    let mut newest = 0;
    for entry in fs::read_dir(log_of(member))? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        let number = name
            .strip_suffix(".wal")
            .map(|hex| u64::from_str_radix(hex, 16));
        newest = newest.max(number.transpose()?.unwrap_or(0));
    }
    Ok(newest)
}

/// Waits until these members have removed a segment of their logs, and with it all before.
async fn is_purged(cluster: &Cluster, members: &[usize], segment: u64) -> Result<()> {
    let name = format!("{segment:016x}.wal");
    until("the log is purged", WAIT, async || {
        for index in members {
            let file = log_of(&cluster.members()[*index]).join(&name);
            ensure!(!file.exists(), "{} is there", file.display());
        }
        Ok(())
    })
    .await
}

fn shape() -> Shape {
    Shape {
        writers: 8,
        value_bytes: 10_000,
        pause: Duration::from_millis(2),
    }
}

async fn installed(member: &mut Member) -> Result<()> {
    let process = member.process()?;
    process
        .wait_for_line(|line| line.contains(INSTALLED), WAIT)
        .await?;
    Ok(())
}

async fn finish(three: Three, load: Load) -> Result<Writes> {
    let writes = load.finish().await?;
    let all = urls(&three.cluster);
    nothing_is_lost(&all, &writes, shape().value_bytes).await?;
    Ok(writes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_is_cut_goes_on_where_it_was() -> Result<()> {
    for engine in [Engine::RocksDb, Engine::Memory] {
        let mut three = Three::start(engine, 4 * MIB).await?;
        let load = Load::start("cut", &urls(&three.cluster)[..2], &shape())?;
        let quiet = Instant::now();
        three.leave_behind(&load, 5_000).await?;
        let before = three.proxy.forwarded();
        let back = Instant::now();
        three.cluster.member(THIRD).launch()?;
        three.forwarded(before, 20 * MIB).await?;
        three.proxy.cut();
        three.cluster.member(THIRD).ready().await?;
        installed(three.cluster.member(THIRD)).await?;
        let done = Instant::now();
        let begun = three.begun_at()?;
        ensure!(
            begun.iter().any(|skip| *skip >= 10),
            "{engine:?}: no transfer went on where it was: {begun:?}"
        );
        load.progress(100, WAIT).await?;
        let writes = finish(three, load).await?;
        let during = writes.quantile(0.99, back, done);
        ensure!(
            during < Duration::from_secs(1),
            "p99 of puts {during:?} during the transfer, {:?} before",
            writes.quantile(0.99, quiet, back)
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_connection_does_not_hold_the_next_transfer_up() -> Result<()> {
    let mut three = Three::start(Engine::RocksDb, 4 * MIB).await?;
    let load = Load::start("silent", &urls(&three.cluster)[..2], &shape())?;
    three.leave_behind(&load, 5_000).await?;
    let before = three.proxy.forwarded();
    three.cluster.member(THIRD).launch()?;
    three.forwarded(before, 20 * MIB).await?;
    three.proxy.silence();
    three.cluster.member(THIRD).ready().await?;
    installed(three.cluster.member(THIRD)).await?;
    load.progress(100, WAIT).await?;
    finish(three, load).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_killed_gets_the_state_all_the_same() -> Result<()> {
    let mut three = Three::start(Engine::RocksDb, 4 * MIB).await?;
    let load = Load::start("killed", &urls(&three.cluster)[..2], &shape())?;
    three.leave_behind(&load, 5_000).await?;
    for _ in 0..2 {
        let before = three.proxy.forwarded();
        three.cluster.member(THIRD).launch()?;
        three.forwarded(before, 20 * MIB).await?;
        three.cluster.member(THIRD).kill()?;
    }
    three.cluster.member(THIRD).start().await?;
    load.progress(100, WAIT).await?;
    finish(three, load).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_comes_when_the_log_is_purged_gets_the_state() -> Result<()> {
    for engine in [Engine::RocksDb, Engine::Memory] {
        let mut three = Three::start_some(engine, 4 * MIB, THIRD).await?;
        let load = Load::start("late", &urls(&three.cluster)[..2], &shape())?;
        load.progress(2_000, WAIT).await?;
        is_purged(&three.cluster, &[0, 1], 1).await?;
        three.cluster.member(THIRD).start().await?;
        installed(three.cluster.member(THIRD)).await?;
        load.progress(100, WAIT).await?;
        finish(three, load).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_leader_sends_what_the_one_that_was_killed_did_not() -> Result<()> {
    let mut three = Three::start(Engine::RocksDb, 4 * MIB).await?;
    let load = Load::start("sender", &urls(&three.cluster)[..2], &shape())?;
    three.leave_behind(&load, 5_000).await?;
    let before = three.proxy.forwarded();
    three.cluster.member(THIRD).launch()?;
    three.forwarded(before, 20 * MIB).await?;
    let sender = leader(&three.cluster).await?;
    let next = 1 - sender;
    let sends = |line: &str| line.contains(SENT);
    let lines = three.cluster.member(sender).process()?.lines();
    ensure!(
        lines.iter().any(|line| sends(line)),
        "{sender} sent nothing"
    );
    let lines = three.cluster.member(THIRD).process()?.lines();
    ensure!(
        !lines.iter().any(|line| line.contains(INSTALLED)),
        "it has arrived already"
    );
    three.cluster.member(sender).kill()?;
    let process = three.cluster.member(next).process()?;
    process.wait_for_line(sends, WAIT).await?;
    installed(three.cluster.member(THIRD)).await?;
    three.cluster.member(THIRD).ready().await?;
    // Nobody but these two can have acknowledged it.
    load.progress(100, WAIT).await?;
    three.cluster.member(sender).start().await?;
    finish(three, load).await?;
    Ok(())
}

/// The load of openraft issue 2116: a small log, so that state is flushed and log purged all the time, and a follower
/// that stands still again and again.
async fn purges_with_a_slow_follower(enough: impl Fn(usize) -> bool) -> Result<(usize, usize)> {
    // The default quota is full of these writes in ten minutes.
    let flags = [
        format!("--raft-log-retention-bytes={}", 2 * MIB),
        format!("--quota-backend-bytes={}", 16_u64 << 30),
    ];
    let spec = Spec::new(Target::MetaStore(Engine::RocksDb), 3).with_flags(flags);
    let mut cluster = Cluster::start(&spec).await?;
    let all = urls(&cluster);
    let shape = Shape {
        writers: 32,
        value_bytes: 1024,
        pause: Duration::ZERO,
    };
    let load = Load::start("purge", &all, &shape)?;
    let mut rounds = 0;
    loop {
        let first = leader(&cluster).await?;
        let slow = (first + 1) % 3;
        // Where leadership has moved it is the one that was slow before, without which there is no quorum.
        let other = caught_up(&mut lazy(&all[(first + 2) % 3])?).await;
        other.context("the follower that goes on")?;
        cluster.member(slow).pause()?;
        let newest = newest_segment(&cluster.members()[first])?;
        // Much more than the log keeps; the other two are a quorum.
        load.progress(6_000, WAIT).await?;
        // Segments grow: later it would take long until one of them is full.
        if rounds == 0 {
            is_purged(&cluster, &[first], newest).await?;
        }
        cluster.member(slow).resume()?;
        if rounds == 0 {
            installed(cluster.member(slow)).await?;
        }
        load.progress(1_000, WAIT).await?;
        for index in 0..3 {
            let process = cluster.member(index).process()?;
            ensure!(
                process.is_running(),
                "member {index} has ended:\n{}",
                process.tail(20)
            );
        }
        rounds += 1;
        if enough(rounds) {
            break;
        }
    }
    let writes = load.finish().await?;
    nothing_is_lost(&all, &writes, shape.value_bytes).await?;
    for index in 0..3 {
        let lines = cluster.member(index).process()?.lines();
        ensure!(
            !lines.iter().any(|line| line.contains("panicked")),
            "member {index} panicked"
        );
    }
    Ok((rounds, writes.acknowledged.len()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purges_with_a_slow_follower_cost_nobody_its_life() -> Result<()> {
    purges_with_a_slow_follower(|rounds| rounds == 3).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_purges_with_a_slow_follower() -> Result<()> {
    let end = Instant::now() + soak::duration();
    let (rounds, writes) = purges_with_a_slow_follower(|_| Instant::now() > end).await?;
    soak::report(&format!(
        "{rounds} pauses of a follower, {writes} writes acknowledged"
    ));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_sends_a_state_of_a_gibibyte() -> Result<()> {
    let mut three = Three::start(Engine::RocksDb, 64 * MIB).await?;
    let shape = Shape {
        writers: 16,
        value_bytes: 100_000,
        pause: Duration::from_millis(5),
    };
    let load = Load::start("large", &urls(&three.cluster)[..2], &shape)?;
    three.cluster.member(THIRD).stop().await?;
    let quiet = Instant::now();
    load.progress(10_700, Duration::from_secs(1_200)).await?;
    let before = three.proxy.forwarded();
    let back = Instant::now();
    three.cluster.member(THIRD).launch()?;
    for part in 1..4 {
        three.forwarded(before, part * 256 * MIB).await?;
        three.proxy.cut();
    }
    installed(three.cluster.member(THIRD)).await?;
    // Then it has the log to catch up with, beside the load.
    caught_up(&mut lazy(&urls(&three.cluster)[THIRD])?).await?;
    let done = Instant::now();
    let begun = three.begun_at()?;
    let writes = load.finish().await?;
    nothing_is_lost(&urls(&three.cluster), &writes, shape.value_bytes).await?;
    soak::report(&format!(
        "1 GiB to a follower in {:?}, cut three times, gone on at chunks {begun:?}; p99 of puts {:?}, before {:?}",
        done - back,
        writes.quantile(0.99, back, done),
        writes.quantile(0.99, quiet, back)
    ));
    Ok(())
}
