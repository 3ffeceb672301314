//! Which services and methods there are, and grpc.health.v1; TLS.

use anyhow::{Result, ensure};
use metastore_conformance::build::{all, get, put};
use metastore_conformance::{Setup, check, check_with, expect};
use metastore_proto::etcdserverpb::MemberListRequest;
use tonic::Code;

#[test]
fn every_unary_method_is_served() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        for method in [
            "etcdserverpb.KV/Range",
            "etcdserverpb.KV/Put",
            "etcdserverpb.KV/DeleteRange",
            "etcdserverpb.KV/Txn",
            "etcdserverpb.KV/Compact",
            "etcdserverpb.Lease/LeaseGrant",
            "etcdserverpb.Lease/LeaseRevoke",
            "etcdserverpb.Lease/LeaseTimeToLive",
            "etcdserverpb.Lease/LeaseLeases",
            "etcdserverpb.Maintenance/Alarm",
            "etcdserverpb.Maintenance/Status",
            "etcdserverpb.Maintenance/Defragment",
            "etcdserverpb.Maintenance/Hash",
            "etcdserverpb.Maintenance/HashKV",
            "etcdserverpb.Cluster/MemberList",
        ] {
            let answer = t.send_raw(method, b"").await;
            ensure!(
                answer
                    .err()
                    .is_none_or(|status| status.code() != Code::Unimplemented),
                "{method} is not implemented"
            );
        }
        Ok(())
    })
}

#[test]
fn the_health_service_says_serving() -> Result<()> {
    check(async |t| {
        let serving = t.send_exact("grpc.health.v1.Health/Check", b"").await?;
        expect("status", serving.as_ref(), b"\x08\x01")?;
        // service "x"
        let unknown = t
            .send_exact("grpc.health.v1.Health/Check", b"\x0a\x01x")
            .await;
        expect(
            "code",
            unknown.err().map(|status| status.code()),
            Some(Code::NotFound),
        )?;
        let kv = b"\x0a\x0fetcdserverpb.KV";
        let _ = t.send_exact("grpc.health.v1.Health/Check", kv).await;
        t.first_of_stream("grpc.health.v1.Health/Watch", b"")
            .await?;
        // An unknown service is watched all the same.
        t.first_of_stream("grpc.health.v1.Health/Watch", b"\x0a\x01x")
            .await?;
        Ok(())
    })
}

#[test]
fn members_are_listed() -> Result<()> {
    check(async |t| {
        for linearizable in [false, true] {
            let answer = t.member_list(MemberListRequest { linearizable }).await;
            let members = answer?.members;
            ensure!(
                members.is_sorted_by_key(|member| member.id),
                "not sorted by id: {members:?}"
            );
            expect("members", members.len(), t.size())?;
            ensure!(
                members.iter().all(|member| member.client_urls.len() == 1),
                "{members:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn clients_are_served_over_tls_with_certificates() -> Result<()> {
    let setup = Setup {
        client_tls: true,
        ..Setup::single()
    };
    check_with(&setup, async |t| {
        t.put(put("a", "1")).await?;
        t.range(all()).await?;
        let mut watching = t.watch();
        watching
            .created(metastore_conformance::build::watch("a"))
            .await?;
        t.put(put("a", "2")).await?;
        watching.events(1).await?;
        expect("version", t.range(get("a")).await?.kvs[0].version, 2)?;
        let cluster = t.cluster().await;
        let authority = cluster.authority().expect("made for this cluster");
        let url = cluster.members()[0].client_url().to_owned();
        let refused = match metastore_harness::connect_tls(&url, authority, None).await {
            Err(_) => true,
            Ok(channel) => metastore_harness::Clients::new(channel)
                .kv
                .range(get("a"))
                .await
                .is_err(),
        };
        expect("a client without a certificate is refused", refused, true)?;
        let plain = metastore_harness::connect(&url.replace("https", "http")).await;
        let refused = match plain {
            Err(_) => true,
            Ok(channel) => metastore_harness::Clients::new(channel)
                .kv
                .range(get("a"))
                .await
                .is_err(),
        };
        expect("a client without TLS is refused", refused, true)
    })
}
