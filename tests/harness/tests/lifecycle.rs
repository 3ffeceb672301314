//! The harness against the real etcd: what it promises its users.

use anyhow::{Result, ensure};
use metastore_harness::{Cluster, Ending, Spec, Target, get};
use metastore_proto::etcdserverpb::{PutRequest, RangeRequest};

async fn put(cluster: &Cluster, member: usize, key: &'static str) -> Result<i64> {
    let request = PutRequest {
        key: key.into(),
        value: "v".into(),
        ..Default::default()
    };
    let reply = cluster
        .clients(member)
        .await?
        .kv
        .put(request)
        .await?
        .into_inner();
    let header = reply.header.unwrap_or_default();
    ensure!(
        header.cluster_id == cluster.id(),
        "the cluster id is the computed one"
    );
    ensure!(
        header.member_id == cluster.members()[member].id(),
        "the member id is the computed one"
    );
    Ok(header.revision)
}

#[tokio::test]
async fn one_member_starts_stops_and_keeps_its_data() -> Result<()> {
    let mut cluster = Cluster::start(&Spec::new(Target::Etcd, 1)).await?;
    assert_eq!(put(&cluster, 0, "a").await?, 2);
    assert_eq!(cluster.member(0).stop().await?, Ending::Signal(15));
    cluster.member(0).start().await?;
    assert_eq!(put(&cluster, 0, "a").await?, 3);
    assert_eq!(cluster.member(0).kill()?, Ending::Signal(9));
    cluster.member(0).start().await?;
    assert_eq!(put(&cluster, 0, "a").await?, 4);
    assert_eq!(
        get(cluster.members()[0].client_url(), "/health")
            .await?
            .status,
        200
    );
    Ok(())
}

#[tokio::test]
async fn three_members_go_on_without_one() -> Result<()> {
    let mut cluster = Cluster::start(&Spec::new(Target::Etcd, 3)).await?;
    let leader = cluster.leader().await?;
    let follower = (leader + 1) % 3;
    assert_eq!(put(&cluster, follower, "a").await?, 2);
    cluster.member(follower).pause()?;
    assert_eq!(put(&cluster, leader, "a").await?, 3);
    cluster.member(follower).resume()?;
    let request = RangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    let reply = cluster
        .clients(follower)
        .await?
        .kv
        .range(request)
        .await?
        .into_inner();
    assert_eq!(reply.kvs[0].version, 2);
    Ok(())
}

#[tokio::test]
async fn tls_is_asked_for_and_given() -> Result<()> {
    let cluster = Cluster::start(&Spec::new(Target::Etcd, 1).with_client_tls()).await?;
    assert_eq!(put(&cluster, 0, "a").await?, 2);
    let authority = cluster.authority().expect("made for this cluster");
    let without =
        metastore_harness::connect_tls(cluster.members()[0].client_url(), authority, None).await?;
    let mut clients = metastore_harness::Clients::new(without);
    assert!(
        clients
            .kv
            .put(PutRequest {
                key: "a".into(),
                ..Default::default()
            })
            .await
            .is_err()
    );
    Ok(())
}

#[tokio::test]
async fn a_member_that_ends_at_once_is_an_error_with_its_log() -> Result<()> {
    let spec = Spec::new(Target::Etcd, 1).with_flags(["--no-such-flag"]);
    let error = Cluster::start(&spec)
        .await
        .err()
        .expect("it cannot start")
        .to_string();
    assert!(
        error.contains("flag provided but not defined: -no-such-flag"),
        "{error}"
    );
    assert!(error.contains("Code(2)"), "{error}");
    Ok(())
}
