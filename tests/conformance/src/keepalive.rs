//! A stream of lease keepalives that records.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use metastore_proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::{Status, Streaming};

use crate::session::{PATIENCE, Session, decode, error_text};
use crate::wire::method_messages;

const METHOD: &str = "etcdserverpb.Lease/LeaseKeepAlive";

/// One stream of keepalives.
pub struct KeepAlive {
    session: Session,
    requests: mpsc::Sender<Bytes>,
    opening: Option<JoinHandle<Result<Streaming<Bytes>, Status>>>,
    answers: Option<Streaming<Bytes>>,
}

impl Session {
    /// Opens a stream of keepalives.
    pub fn keep_alive(&self) -> KeepAlive {
        let (requests, receiver) = mpsc::channel(64);
        let opening = Some(self.open_stream(METHOD, receiver));
        KeepAlive {
            session: self.clone(),
            requests,
            opening,
            answers: None,
        }
    }
}

impl KeepAlive {
    /// Renews a lease and reads the answer; a TTL of 0 means that there is no such lease.
    pub async fn renew(&mut self, id: i64) -> Result<LeaseKeepAliveResponse> {
        let request = Bytes::from(LeaseKeepAliveRequest { id }.encode_to_vec());
        self.requests
            .send(request.clone())
            .await
            .context("the stream is gone")?;
        let answer = match tokio::time::timeout(PATIENCE, self.read()).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::cancelled("no answer")),
        };
        self.session.count(METHOD, &request, answer.as_ref().err());
        let reply = match &answer {
            Ok(body) => format!(
                "ok {}",
                self.session.names.render(&method_messages(METHOD).1, body)
            ),
            Err(status) => error_text(status),
        };
        self.session
            .record(self.session.request_text(METHOD, &request), reply);
        match answer {
            Ok(body) => Ok(decode(&body)?),
            Err(status) => bail!("no keepalive: {}", error_text(&status)),
        }
    }

    /// Waits for the server to end the stream and records how.
    pub async fn ended(&mut self) -> Result<Status> {
        match tokio::time::timeout(PATIENCE, self.read()).await {
            Ok(Err(status)) => {
                self.session
                    .record("keepalive stream ended", error_text(&status));
                Ok(status)
            }
            Ok(Ok(_)) => bail!("wanted the end of the stream, got an answer"),
            Err(_) => bail!("the server did not end the stream"),
        }
    }

    async fn read(&mut self) -> Result<Bytes, Status> {
        if let Some(opening) = self.opening.take() {
            let opened = opening
                .await
                .unwrap_or_else(|error| Err(Status::internal(error.to_string())));
            self.answers = Some(opened?);
        }
        let answers = self
            .answers
            .as_mut()
            .ok_or_else(|| Status::internal("the stream never opened"))?;
        match answers.message().await? {
            Some(answer) => Ok(self.session.tampered_answer(METHOD, answer)),
            None => Err(Status::ok("end of stream")),
        }
    }
}
