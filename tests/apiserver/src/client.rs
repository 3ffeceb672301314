//! A client of kube-apiserver: JSON over HTTP/2 and TLS, with a bearer token.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::watching::Watching;

/// kube-apiserver itself gives a request up after 60 seconds.
const ANSWER: Duration = Duration::from_secs(75);

/// A connection to one kube-apiserver. Clones share it.
#[derive(Clone)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    address: String,
    token: String,
}

/// An answer's status and body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as it came.
    pub body: Bytes,
}

/// An answer that is no success, with what its `Status` object says.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The HTTP status.
    pub code: u16,
    /// The `Status` object (null when the body was something else).
    pub status: Value,
    /// The request and the body, for people.
    pub text: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.code)
    }
}

impl std::error::Error for Refused {}

impl Refused {
    /// `reason` of the `Status` object.
    pub fn reason(&self) -> &str {
        self.status["reason"].as_str().unwrap_or_default()
    }

    /// The refusal that an error is; fails when it is none (the connection broke, say).
    pub fn of(outcome: Result<Value>) -> Result<Self> {
        match outcome {
            Ok(value) => bail!("was not refused: {value}"),
            Err(error) => error.downcast::<Self>(),
        }
    }
}

impl Client {
    /// Connects to `address`, whose certificate `authority` (PEM) must have signed.
    pub async fn connect(address: &str, authority: &str, token: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.as_bytes()).context("the authority")?)
            .context("the authority")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS versions")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        let name = ServerName::try_from("localhost").context("a server name")?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .with_context(|| format!("TLS with {address}"))?;
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(64 << 20)
            .handshake(TokioIo::new(stream))
            .await
            .context("HTTP/2")?;
        tokio::spawn(connection);
        Ok(Self {
            sender,
            address: address.to_owned(),
            token: token.to_owned(),
        })
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Answer> {
        let exchange = async {
            let response = self.begin(method, path, content_type, body).await?;
            let status = response.status().as_u16();
            let body = response
                .into_body()
                .collect()
                .await
                .with_context(|| format!("the body of {method} {path}"))?
                .to_bytes();
            Ok(Answer { status, body })
        };
        tokio::time::timeout(ANSWER, exchange)
            .await
            .with_context(|| format!("{method} {path}: no answer within {ANSWER:?}"))?
    }

    /// `GET`, as text, with its status.
    pub async fn text(&self, path: &str) -> Result<(u16, String)> {
        let answer = self.send("GET", path, "", Vec::new()).await?;
        Ok((
            answer.status,
            String::from_utf8_lossy(&answer.body).into_owned(),
        ))
    }

    /// Reads an object or a list.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.json("GET", path, "", Vec::new()).await
    }

    /// Creates an object.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.json("POST", path, "application/json", object.to_string().into())
            .await
    }

    /// Replaces an object.
    pub async fn replace(&self, path: &str, object: &Value) -> Result<Value> {
        self.json("PUT", path, "application/json", object.to_string().into())
            .await
    }

    /// Patches an object with a patch of `kind`: `merge`, `strategic-merge`, `apply` or `json`.
    pub async fn patch(&self, path: &str, kind: &str, patch: &Value) -> Result<Value> {
        let content_type = match kind {
            "apply" => "application/apply-patch+yaml".to_owned(),
            "json" => "application/json-patch+json".to_owned(),
            other => format!("application/{other}-patch+json"),
        };
        self.json("PATCH", path, &content_type, patch.to_string().into())
            .await
    }

    /// Deletes an object (or a collection).
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.json("DELETE", path, "", Vec::new()).await
    }

    /// Opens a watch; `path` carries `watch=true` and the rest of the query. A refusal is an error.
    pub async fn watch(&self, path: &str) -> Result<Watching> {
        let response = tokio::time::timeout(ANSWER, self.begin("GET", path, "", Vec::new()))
            .await
            .with_context(|| format!("GET {path}: no answer within {ANSWER:?}"))??;
        if response.status().is_success() {
            return Ok(Watching::new(response.into_body()));
        }
        let code = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Err(refused("GET", path, &Answer { status: code, body }).into())
    }

    async fn json(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Value> {
        let answer = self.send(method, path, content_type, body).await?;
        if !(200..300).contains(&answer.status) {
            return Err(refused(method, path, &answer).into());
        }
        serde_json::from_slice(&answer.body)
            .with_context(|| format!("{method} {path}: the answer is no JSON"))
    }

    async fn begin(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.address))
            .header("authorization", format!("Bearer {}", self.token))
            .header("accept", "application/json");
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .context("a request")?;
        self.sender
            .clone()
            .send_request(request)
            .await
            .with_context(|| format!("{method} {path}"))
    }
}

fn refused(method: &str, path: &str, answer: &Answer) -> Refused {
    let status = serde_json::from_slice(&answer.body).unwrap_or_default();
    let body: String = String::from_utf8_lossy(&answer.body)
        .chars()
        .take(2000)
        .collect();
    Refused {
        code: answer.status,
        status,
        text: format!("{method} {path}: {body}"),
    }
}
