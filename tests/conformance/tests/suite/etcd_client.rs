//! The Rust crate `etcd-client` as another client, with its own messages: reading, writing, transactions, watches,
//! leases, compaction, maintenance.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, Error, EventType, GetOptions,
    KeyValue, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, SortOrder, SortTarget, Txn,
    TxnOp, TxnOpResponse, WatchOptions, WatchResponse, WatchStream,
};
use metastore_conformance::{Session, check, expect};

const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(t: &Session) -> Result<Client> {
    Ok(Client::connect([t.url()], None).await?)
}

/// The key-value as etcd has it, with nothing of the crate's own printing.
fn shown(kv: &KeyValue) -> String {
    format!(
        "{}={} create {} mod {} version {} lease {}",
        kv.key().escape_ascii(),
        kv.value().escape_ascii(),
        kv.create_revision(),
        kv.mod_revision(),
        kv.version(),
        kv.lease()
    )
}

fn all_shown(kvs: &[KeyValue]) -> String {
    kvs.iter().map(shown).collect::<Vec<_>>().join("; ")
}

/// Records how a call is refused, and that it is.
async fn refused<R: Debug>(
    t: &Session,
    what: &str,
    call: impl Future<Output = Result<R, Error>>,
) -> Result<()> {
    match call.await {
        Err(Error::GRpcStatus(status)) => {
            t.record(what, format!("{:?}: {}", status.code(), status.message()));
            Ok(())
        }
        other => bail!("{what} should be refused, got {other:?}"),
    }
}

async fn get(
    t: &Session,
    client: &mut Client,
    key: &str,
    options: Option<GetOptions>,
) -> Result<Vec<String>> {
    let what = format!("get {key:?} {options:?}");
    let answer = client.get(key, options).await?;
    let revision = answer.header().context("a header")?.revision();
    t.record(
        what,
        format!(
            "revision {revision} count {} more {}: {}",
            answer.count(),
            answer.more(),
            all_shown(answer.kvs())
        ),
    );
    let key = |kv: &KeyValue| kv.key().escape_ascii().to_string();
    Ok(answer.kvs().iter().map(key).collect())
}

#[test]
fn pairs_are_put_got_and_deleted() -> Result<()> {
    check(async |t| {
        let client = &mut connect(t).await?;
        for (key, value) in [
            ("a", "1"),
            ("b", "1"),
            ("b", "2"),
            ("c/1", "x"),
            ("c/2", ""),
        ] {
            let answer = client
                .put(key, value, Some(PutOptions::new().with_prev_key()))
                .await?;
            let revision = answer.header().context("a header")?.revision();
            t.record(
                format!("put {key} {value}"),
                format!(
                    "revision {revision} before {:?}",
                    answer.prev_key().map(shown)
                ),
            );
        }
        expect(
            "one",
            get(t, client, "b", None).await?,
            vec!["b".to_owned()],
        )?;
        for options in [
            GetOptions::new().with_prefix(),
            GetOptions::new().with_prefix().with_limit(1),
            GetOptions::new().with_range("c/2"),
            GetOptions::new().with_from_key().with_keys_only(),
            GetOptions::new().with_from_key().with_count_only(),
            GetOptions::new().with_from_key().with_revision(3),
            GetOptions::new().with_from_key().with_serializable(),
            GetOptions::new().with_from_key().with_min_mod_revision(4),
            GetOptions::new()
                .with_from_key()
                .with_max_create_revision(3),
            GetOptions::new()
                .with_from_key()
                .with_sort(SortTarget::Mod, SortOrder::Descend),
        ] {
            get(t, client, "b", Some(options)).await?;
        }
        let all = GetOptions::new().with_all_keys();
        expect("all", get(t, client, "", Some(all)).await?.len(), 4)?;
        let options = DeleteOptions::new().with_prefix().with_prev_key();
        let answer = client.delete("c/", Some(options)).await?;
        expect("deleted", answer.deleted(), 2)?;
        t.record("deleted c/", all_shown(answer.prev_kvs()));
        refused(t, "a put without a key", client.put("", "1", None)).await?;
        let future = GetOptions::new().with_revision(99);
        refused(t, "a get of the future", client.get("a", Some(future))).await?;
        let unknown = PutOptions::new().with_lease(77);
        refused(t, "a put on no lease", client.put("a", "2", Some(unknown))).await
    })
}

#[test]
fn a_list_is_streamed() -> Result<()> {
    check(async |t| {
        let client = &mut connect(t).await?;
        for number in 0..100 {
            client
                .put(format!("k{number:03}"), vec![b'x'; 1000], None)
                .await?;
        }
        let options = GetOptions::new().with_prefix();
        let mut stream = client.kv_client().get_stream("k", Some(options)).await?;
        let (mut kvs, mut count) = (Vec::new(), 0);
        while let Some(mut part) = stream.message().await? {
            count = part.count();
            kvs.extend(part.take_kvs());
        }
        expect("count", count, 100)?;
        expect("sorted", kvs.is_sorted_by_key(|kv| kv.key().to_vec()), true)?;
        expect("pairs", kvs.len(), 100)
    })
}

fn operation(response: &TxnOpResponse) -> String {
    match response {
        TxnOpResponse::Put(put) => format!("put before {:?}", put.prev_key().map(shown)),
        TxnOpResponse::Get(get) => format!("got {}: {}", get.count(), all_shown(get.kvs())),
        TxnOpResponse::Delete(delete) => format!("deleted {}", delete.deleted()),
        TxnOpResponse::Txn(txn) => {
            let inner: Vec<_> = txn.op_responses().iter().map(operation).collect();
            format!("txn {} [{}]", txn.succeeded(), inner.join(", "))
        }
    }
}

async fn transact(t: &Session, client: &mut Client, what: &str, txn: Txn) -> Result<bool> {
    let answer = client.txn(txn).await?;
    let revision = answer.header().context("a header")?.revision();
    let operations: Vec<_> = answer.op_responses().iter().map(operation).collect();
    t.record(
        what,
        format!(
            "revision {revision} succeeded {}: {}",
            answer.succeeded(),
            operations.join(", ")
        ),
    );
    Ok(answer.succeeded())
}

#[test]
fn transactions_compare_and_branch() -> Result<()> {
    check(async |t| {
        let client = &mut connect(t).await?;
        let create = || {
            Txn::new()
                .when([Compare::create_revision("a", CompareOp::Equal, 0)])
                .and_then([TxnOp::put("a", "1", None), TxnOp::get("a", None)])
                .or_else([TxnOp::get("a", None)])
        };
        expect(
            "first",
            transact(t, client, "create", create()).await?,
            true,
        )?;
        expect(
            "again",
            transact(t, client, "again", create()).await?,
            false,
        )?;
        let update = Txn::new()
            .when([
                Compare::mod_revision("a", CompareOp::Equal, 2),
                Compare::version("a", CompareOp::Less, 2),
                Compare::value("a", CompareOp::NotEqual, "2"),
                Compare::lease("a", CompareOp::Equal, 0),
            ])
            .and_then([
                TxnOp::put("a", "2", Some(PutOptions::new().with_prev_key())),
                TxnOp::txn(
                    Txn::new()
                        .when([Compare::value("a", CompareOp::Greater, "").with_range("b")])
                        .and_then([TxnOp::put("b", "1", None)]),
                ),
                TxnOp::delete("c", Some(DeleteOptions::new().with_prev_key())),
            ]);
        expect("update", transact(t, client, "update", update).await?, true)?;
        get(t, client, "a", Some(GetOptions::new().with_from_key())).await?;
        let twice = Txn::new().and_then([TxnOp::put("a", "1", None), TxnOp::put("a", "2", None)]);
        refused(t, "a key put twice", client.txn(twice)).await
    })
}

/// The next answer of a watch.
async fn answer(stream: &mut WatchStream) -> Result<WatchResponse> {
    let answer = tokio::time::timeout(PATIENCE, stream.message()).await;
    answer.context("no answer")??.context("the stream ended")
}

/// Events until so many have come, in order.
async fn events(t: &Session, stream: &mut WatchStream, count: usize) -> Result<()> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let answer = answer(stream).await?;
        ensure!(!answer.canceled(), "canceled: {answer:?}");
        for event in answer.events() {
            let kv = event.kv().context("a key-value")?;
            let kind = match event.event_type() {
                EventType::Put => "put",
                EventType::Delete => "delete",
            };
            let before = event.prev_kv().map(shown);
            texts.push(format!(
                "{}: {kind} {} before {before:?}",
                answer.watch_id(),
                shown(kv)
            ));
        }
    }
    t.record(format!("{count} events"), texts.join("; "));
    expect("events", texts.len(), count)
}

#[test]
fn a_watch_tells_what_was_and_what_comes() -> Result<()> {
    check(async |t| {
        let client = &mut connect(t).await?;
        client.put("a", "1", None).await?;
        client.put("a", "2", None).await?;
        let options = WatchOptions::new()
            .with_start_revision(2)
            .with_prev_key()
            .with_prefix();
        let stream = &mut client.watch("a", Some(options)).await?;
        expect("created", answer(stream).await?.created(), true)?;
        events(t, stream, 2).await?;
        client.put("ab", "1", None).await?;
        client.delete("a", None).await?;
        events(t, stream, 2).await?;
        stream.watch("b", None).await?;
        let second = answer(stream).await?;
        expect("second", (second.created(), second.watch_id()), (true, 1))?;
        client.put("b", "1", None).await?;
        events(t, stream, 1).await?;
        // A server need not answer while a watch is behind.
        let progress = loop {
            stream.request_progress().await?;
            let wait = Duration::from_millis(500);
            if let Ok(answer) = tokio::time::timeout(wait, stream.message()).await {
                break answer?.context("the stream ended")?;
            }
        };
        expect("progress", progress.events().len(), 0)?;
        let header = progress.header().context("a header")?;
        expect("revision", header.revision(), 6)?;
        Ok(())
    })
}

#[test]
fn a_watch_is_canceled_by_the_client_or_by_a_compaction() -> Result<()> {
    check(async |t| {
        let client = &mut connect(t).await?;
        for value in ["1", "2", "3"] {
            client.put("a", value, None).await?;
        }
        let stream = &mut client.watch("a", None).await?;
        expect("created", answer(stream).await?.created(), true)?;
        stream.cancel(0).await?;
        let canceled = answer(stream).await?;
        expect(
            "canceled",
            (canceled.canceled(), canceled.watch_id()),
            (true, 0),
        )?;
        let options = CompactionOptions::new().with_physical();
        let compacted = client.compact(3, Some(options)).await?;
        expect(
            "revision",
            compacted.header().context("a header")?.revision(),
            4,
        )?;
        let past = WatchOptions::new().with_start_revision(2);
        let stream = &mut client.watch("a", Some(past)).await?;
        expect("created", answer(stream).await?.created(), true)?;
        let canceled = answer(stream).await?;
        expect(
            "canceled",
            (canceled.canceled(), canceled.compact_revision()),
            (true, 3),
        )?;
        let past = || Some(GetOptions::new().with_revision(2));
        refused(t, "a get of what is compacted", client.get("a", past())).await?;
        refused(t, "compacting twice", client.compact(3, None)).await?;
        refused(t, "compacting the future", client.compact(99, None)).await
    })
}

#[test]
fn a_lease_is_granted_renewed_and_revoked() -> Result<()> {
    check(async |t| {
        let client = &mut connect(t).await?;
        let granted = client
            .lease_grant(600, Some(LeaseGrantOptions::new().with_id(7)))
            .await?;
        expect("granted", (granted.id(), granted.ttl()), (7, 600))?;
        client
            .put("a", "1", Some(PutOptions::new().with_lease(7)))
            .await?;
        get(t, client, "a", None).await?;
        let (mut keeper, mut answers) = client.lease_keep_alive(7).await?;
        for _ in 0..3 {
            keeper.keep_alive().await?;
            let renewed = tokio::time::timeout(PATIENCE, answers.message()).await??;
            expect("renewed", renewed.context("an answer")?.ttl(), 600)?;
        }
        let left = client
            .lease_time_to_live(7, Some(LeaseTimeToLiveOptions::new().with_keys()))
            .await?;
        ensure!((1..=600).contains(&left.ttl()), "left: {}", left.ttl());
        expect("granted", left.granted_ttl(), 600)?;
        expect("keys", left.keys(), &[b"a".to_vec()][..])?;
        let ids: Vec<_> = client
            .leases()
            .await?
            .leases()
            .iter()
            .map(|l| l.id())
            .collect();
        expect("leases", ids, vec![7])?;
        let stream = &mut client.watch("a", None).await?;
        expect("created", answer(stream).await?.created(), true)?;
        client.lease_revoke(7).await?;
        events(t, stream, 1).await?;
        refused(t, "revoking twice", client.lease_revoke(7)).await?;
        let gone = client.lease_time_to_live(7, None).await?;
        expect("gone", gone.ttl(), -1)
    })
}

#[test]
fn maintenance_calls_are_answered() -> Result<()> {
    check(async |t| {
        let client = &mut connect(t).await?;
        client.put("a", "1", None).await?;
        let status = client.status().await?;
        expect("version", status.version(), "3.7.3")?;
        ensure!(status.leader() != 0 && status.db_size() > 0, "{status:?}");
        let hash = client.hash_kv(0).await?;
        t.record(
            "hash_kv",
            format!("{} compacted {}", hash.hash(), hash.compact_version()),
        );
        client.defragment().await?;
        expect(
            "members",
            client.member_list().await?.members().len(),
            t.size(),
        )
    })
}
