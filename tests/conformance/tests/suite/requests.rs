//! Requests that are too large, malformed, or for nobody.

use anyhow::Result;
use metastore_conformance::build::{IntoOp, all, get, put, txn};
use metastore_conformance::{Setup, check, check_with, expect, fails};
use tonic::Code;

const TOO_LARGE: &str = "etcdserver: request is too large";

#[test]
fn a_write_above_the_limit_is_refused() -> Result<()> {
    check(async |t| {
        let limit = 1024 * 1024 * 3 / 2;
        for over in [100, 1, 0] {
            let _ = t.put(put("a", vec![b'x'; limit - over])).await;
        }
        fails(
            t.put(put("b", vec![b'x'; limit])).await,
            Code::InvalidArgument,
            TOO_LARGE,
        )?;
        fails(
            t.put(put(vec![b'k'; limit], "v")).await,
            Code::InvalidArgument,
            TOO_LARGE,
        )?;
        let ops = ["b", "c"].map(|key| put(key, vec![b'x'; limit / 2]).op());
        fails(
            t.txn(txn([], ops, [])).await,
            Code::InvalidArgument,
            TOO_LARGE,
        )?;
        expect("only one put passed", t.range(get("b")).await?.count, 0)
    })
}

#[test]
fn a_message_far_above_the_limit_is_refused_by_grpc() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let _ = t.put(put("a", vec![b'x'; 3 << 20])).await;
        let _ = t
            .txn(txn([], [put("a", vec![b'x'; 3 << 20]).op()], []))
            .await;
        expect("the member lives on", t.range(all()).await?.count, 0)
    })
}

#[test]
fn the_limit_follows_its_flag() -> Result<()> {
    check_with(
        &Setup::single().flags(&["--max-request-bytes=1000"]),
        async |t| {
            fails(
                t.put(put("a", vec![b'x'; 1000])).await,
                Code::InvalidArgument,
                TOO_LARGE,
            )?;
            t.put(put("a", vec![b'x'; 900])).await?;
            let ops = || ["b", "c"].map(|key| put(key, vec![b'x'; 500]).op());
            fails(
                t.txn(txn([], ops(), [])).await,
                Code::InvalidArgument,
                TOO_LARGE,
            )?;
            // A branch that is not taken counts as well.
            fails(
                t.txn(txn([], [], ops())).await,
                Code::InvalidArgument,
                TOO_LARGE,
            )
        },
    )
}

#[test]
fn a_larger_limit_is_served() -> Result<()> {
    check_with(
        &Setup::single().flags(&["--max-request-bytes=9000000"]),
        async |t| {
            t.put(put("a", vec![b'x'; 8 << 20])).await?;
            let page = t.range(get("a")).await?;
            expect("bytes", page.kvs[0].value.len(), 8 << 20)
        },
    )
}

#[test]
fn an_answer_may_be_far_larger_than_a_request() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        for number in 0..20 {
            t.put(put(format!("k{number:02}"), vec![b'a' + number; 1 << 20]))
                .await?;
        }
        let page = t.range(all()).await?;
        expect("count", page.count, 20)
    })
}

#[test]
fn methods_and_services_that_do_not_exist_are_unimplemented() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        for method in [
            "etcdserverpb.KV/Nothing",
            "etcdserverpb.Nothing/Range",
            "nothing/nothing",
            "etcdserverpb.KV/range",
        ] {
            let answer = t.send_raw(method, b"").await;
            expect(
                "code",
                answer.err().map(|status| status.code()),
                Some(Code::Unimplemented),
            )?;
        }
        Ok(())
    })
}

#[test]
fn bytes_that_are_no_message_are_refused() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        for body in [
            &b"\xff"[..],
            b"\x0a\xff\xff\xff\xff\x0f",
            b"\x0a\x05ab",
            b"\x0b",
            b"\x12\x01",
        ] {
            for method in [
                "etcdserverpb.KV/Range",
                "etcdserverpb.KV/Put",
                "etcdserverpb.KV/Txn",
                "etcdserverpb.Lease/LeaseGrant",
            ] {
                let answer = t.send_code(method, body).await;
                expect("refused", answer.is_err(), true)?;
            }
        }
        expect(
            "nothing was written",
            t.range(all()).await?.header.unwrap_or_default().revision,
            1,
        )
    })
}

#[test]
fn unknown_fields_of_a_request_are_passed_over() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        // key "a", and field 200 with a text
        t.send_raw("etcdserverpb.KV/Put", b"\x0a\x01a\xc2\x0c\x03new")
            .await?;
        expect("put", t.range(get("a")).await?.count, 1)
    })
}

#[test]
fn a_field_given_twice_counts_as_its_last() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        t.send_raw(
            "etcdserverpb.KV/Put",
            b"\x0a\x01a\x0a\x01b\x12\x01x\x12\x01y",
        )
        .await?;
        expect(
            "value",
            t.range(get("b")).await?.kvs[0].value.as_ref(),
            b"y",
        )
    })
}
