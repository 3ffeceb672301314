//! A caller beside members that are not there: each is a function from a question to its answer.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::{StreamExt, stream};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metastore_proto::peerpb::{
    AppendRequest, AppendResponse, LeaseRenewRequest, LeaseRenewResponse, LogEntry, ProposeRequest,
    Refusal, refusal::Reason,
};
use prost::Message;
use tokio::io::split;
use tokio::runtime::Handle;

use super::frame::Frame;
use super::inbox::Inbox;
use super::outbox::Outbox;
use super::*;
use crate::peer_tally::PeerTally;
use crate::peers::{Connect, Doorkeeper, PeerStream};

type Answer = Arc<dyn Fn(Frame) -> Said + Send + Sync>;

enum Said {
    This(Kind, Vec<u8>),
    Nothing,
    /// The connection is closed.
    Bye,
}

const KEEPER: Doorkeeper = Doorkeeper {
    cluster_id: 1,
    member_id: 3,
};

const SILENCE: Duration = Duration::from_secs(5);

struct Member {
    caller: Caller,
    tally: Arc<PeerTally>,
    connections: Arc<AtomicUsize>,
}

/// Member 2 of cluster `cluster_id` calls member 3 of cluster 1.
fn member_of(
    cluster_id: u64,
    silence: Duration,
    answer: impl Fn(Frame) -> Said + Send + Sync + 'static,
) -> Member {
    let (answer, connections): (Answer, _) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    let counted = connections.clone();
    let connect: Connect = Arc::new(move |_| {
        let (here, there) = tokio::io::duplex(32 << 10);
        counted.fetch_add(1, SeqCst);
        tokio::spawn(port(there, answer.clone()));
        Box::pin(async { Ok(Box::new(here) as Box<dyn PeerStream>) })
    });
    let tally = Arc::new(PeerTally::default());
    Member {
        caller: caller(connect, cluster_id, silence, tally.clone()),
        tally,
        connections,
    }
}

fn caller(connect: Connect, cluster_id: u64, silence: Duration, tally: Arc<PeerTally>) -> Caller {
    let dial = Dial {
        connect,
        urls: Arc::new(ArcSwap::from_pointee(vec!["http://there".to_owned()])),
        cluster_id,
        from: 2,
        to: 3,
        silence,
    };
    Caller::new(dial, tally, Handle::current())
}

fn member(answer: impl Fn(Frame) -> Said + Send + Sync + 'static) -> Member {
    member_of(1, SILENCE, answer)
}

async fn port(stream: tokio::io::DuplexStream, answer: Answer) {
    let service = service_fn(move |request| {
        let (response, visitor) = Visitor::admit(&KEEPER, request);
        if let Some(visitor) = visitor {
            let answer = answer.clone();
            tokio::spawn(async move {
                assert_eq!(visitor.from, 2);
                answer_all(visitor.enter().await.expect("upgraded"), answer).await;
            });
        }
        async { Ok::<_, std::convert::Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // How it ends is the caller's to judge.
    let _ = connection.await;
}

async fn answer_all(stream: Box<dyn PeerStream>, answer: Answer) {
    let (reading, writing) = split(stream);
    let (mut inbox, outbox) = (Inbox::new(reading, Bytes::new()), Outbox::new(writing));
    poll_fn(|context| {
        loop {
            let drained = outbox.poll_drain(context);
            match inbox.poll_frame(context) {
                Poll::Ready(Ok(Some(frame))) => {
                    let number = frame.number;
                    match answer(frame) {
                        Said::This(kind, body) => {
                            outbox.put_encoded(kind, number, &body).expect("open");
                        }
                        Said::Nothing => {}
                        Said::Bye => return Poll::Ready(()),
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if drained.is_ready() => {
                    std::task::ready!(outbox.poll_drain(context)).expect("open");
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

/// Renews by giving the id back as the TTL.
fn renews(frame: Frame) -> Said {
    let question = LeaseRenewRequest::decode(frame.body).expect("a question");
    let answer = LeaseRenewResponse {
        leader: true,
        ttl: question.id,
        ..LeaseRenewResponse::default()
    };
    Said::This(Kind::Answer, answer.encode_to_vec())
}

async fn renew(caller: &Caller, id: i64) -> Result<i64, CallError> {
    let question = LeaseRenewRequest { id };
    let answer: LeaseRenewResponse = caller.call(Kind::LeaseRenew, &question).await?;
    Ok(answer.ttl)
}

#[tokio::test]
async fn each_question_gets_its_own_answer_over_one_connection() {
    let member = member(renews);
    let asked = (0..500).map(|id| renew(&member.caller, id));
    for (id, answer) in futures::future::join_all(asked)
        .await
        .into_iter()
        .enumerate()
    {
        assert_eq!(answer.expect("answered"), id as i64);
    }
    assert_eq!(member.connections.load(SeqCst), 1);
    let counted = member.tally.read(3);
    assert!(counted.active && counted.sent_bytes > 500 * 13 && counted.received_bytes > 500 * 13);
}

#[tokio::test]
async fn a_question_that_was_given_up_takes_no_other_answer_with_it() {
    let held = Arc::new(AtomicUsize::new(0));
    let first = held.clone();
    let member = member(move |frame| match first.fetch_add(1, SeqCst) {
        0 => Said::Nothing,
        _ => renews(frame),
    });
    let patience = Duration::from_millis(20);
    let lost = tokio::time::timeout(patience, renew(&member.caller, 1)).await;
    assert!(lost.is_err());
    assert_eq!(renew(&member.caller, 2).await.expect("answered"), 2);
}

#[tokio::test]
async fn a_connection_that_breaks_is_told_and_made_anew() {
    let asked = Arc::new(AtomicUsize::new(0));
    let first = asked.clone();
    let member = member(move |frame| match first.fetch_add(1, SeqCst) {
        0 => Said::Bye,
        _ => renews(frame),
    });
    assert!(matches!(
        renew(&member.caller, 1).await,
        Err(CallError::Lost)
    ));
    assert_eq!(renew(&member.caller, 2).await.expect("answered"), 2);
    assert_eq!(member.connections.load(SeqCst), 2);
    assert_eq!(member.tally.read(3).receive_failures, 1);
}

#[tokio::test]
async fn a_member_of_another_cluster_is_not_let_in_and_told_why() {
    let member = member_of(7, SILENCE, renews);
    let refused = renew(&member.caller, 1).await.expect_err("refused");
    assert!(matches!(refused, CallError::NotSent(_)), "{refused}");
    assert!(
        refused
            .to_string()
            .contains("cluster ID mismatch: 7 is not 1"),
        "{refused}"
    );
    assert_eq!(member.tally.read(3).send_failures, 1);
    let why = member.caller.refusal().await.expect("refused again");
    assert!(why.contains("cluster ID mismatch: 7 is not 1"), "{why}");
}

#[tokio::test]
async fn a_member_that_lets_us_in_or_is_not_there_refuses_nothing() {
    assert_eq!(member(renews).caller.refusal().await, None);
    let nobody: Connect = Arc::new(|_| {
        let refused = std::io::ErrorKind::ConnectionRefused;
        Box::pin(async move { Err(refused.into()) })
    });
    let caller = caller(nobody, 1, SILENCE, Arc::default());
    assert_eq!(caller.refusal().await, None);
}

#[tokio::test]
async fn what_is_larger_than_any_buffer_arrives_both_ways() {
    let member = member(|frame| Said::This(Kind::Answer, frame.body.to_vec()));
    let entry = Bytes::from((0..9_000_000).map(|byte| byte as u8).collect::<Vec<_>>());
    let question = ProposeRequest { entry };
    let asked = (0..3).map(|_| {
        member
            .caller
            .call::<ProposeRequest>(Kind::Propose, &question)
    });
    for answer in futures::future::join_all(asked).await {
        assert!(
            answer.expect("answered") == question,
            "it has changed on its way"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_does_not_even_answer_a_ping_is_given_up_after_raft_read_timeout() {
    for silence in [5, 20].map(Duration::from_secs) {
        let pings = Arc::new(AtomicUsize::new(0));
        let counted = pings.clone();
        let member = member_of(1, silence, move |frame| {
            if frame.kind == Kind::Ping {
                counted.fetch_add(1, SeqCst);
            }
            Said::Nothing
        });
        let since = tokio::time::Instant::now();
        let lost = renew(&member.caller, 1).await;
        assert!(matches!(lost, Err(CallError::Lost)));
        let took = since.elapsed();
        assert!(
            took >= silence / 5 * 4 && took <= silence / 5 * 6,
            "--raft-read-timeout={silence:?}: given up after {took:?}"
        );
        assert_eq!(pings.load(SeqCst), 1);
    }
}

/// Question number `index` of a session, so large that some of them fill any buffer.
fn request(index: u64) -> AppendRequest {
    let entry = LogEntry {
        id: Some(metastore_proto::peerpb::LogId { term: 1, index }),
        data: Bytes::from(vec![0; 1000]),
    };
    AppendRequest {
        entries: vec![entry],
        ..AppendRequest::default()
    }
}

fn matched(frame: &Frame) -> AppendResponse {
    use metastore_proto::peerpb::{AppendMatched, append_response::Result};
    let question = AppendRequest::decode(frame.body.clone()).expect("a question");
    let id = question.entries[0].id;
    AppendResponse {
        result: Some(Result::Matched(AppendMatched { id })),
    }
}

fn index(response: &AppendResponse) -> u64 {
    use metastore_proto::peerpb::append_response::Result;
    match &response.result {
        Some(Result::Matched(matched)) => matched.id.map_or(0, |id| id.index),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_session_keeps_its_order_and_ends_with_its_last_answer() {
    let member = member(|frame| Said::This(Kind::Answer, matched(&frame).encode_to_vec()));
    for _ in 0..3 {
        let session = member.caller.session(stream::iter((0..1000).map(request)));
        let answers: Vec<_> = session.await.expect("begun").collect().await;
        let indexes: Vec<_> = answers.iter().flatten().map(index).collect();
        assert!(indexes.into_iter().eq(0..1000));
    }
    assert_eq!(member.connections.load(SeqCst), 1);
}

#[tokio::test]
async fn a_refusal_ends_a_session_and_the_next_one_goes_on_over_the_same_connection() {
    let member = member(|frame| match index(&matched(&frame)) {
        5 => {
            let refusal = Refusal {
                reason: Reason::NoRoom as i32,
                text: "full".to_owned(),
            };
            Said::This(Kind::Refusal, refusal.encode_to_vec())
        }
        _ => Said::This(Kind::Answer, matched(&frame).encode_to_vec()),
    });
    let session = member
        .caller
        .session(stream::iter((0..20).map(request)))
        .await;
    let answers: Vec<_> = session.expect("begun").collect().await;
    assert_eq!(answers.len(), 6);
    let Some(Err(CallError::Refused(refusal))) = answers.last() else {
        panic!("{:?}", answers.last());
    };
    assert_eq!(
        (refusal.reason(), refusal.text.as_str()),
        (Reason::NoRoom, "full")
    );
    // Answers that the first session did not wait for must not be taken for the second's.
    let session = member
        .caller
        .session(stream::iter((30..33).map(request)))
        .await;
    let answers: Vec<_> = session.expect("begun").collect().await;
    let indexes: Vec<_> = answers.iter().flatten().map(index).collect();
    assert_eq!(indexes, [30, 31, 32]);
    assert_eq!(member.connections.load(SeqCst), 1);
}
