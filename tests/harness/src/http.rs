//! Plain HTTP/1.1 requests to a member.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

const CONNECTION: [&str; 4] = ["date", "content-length", "transfer-encoding", "connection"];

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers by lower-case name, without those that describe the connection (`date`, `content-length`,
    /// `transfer-encoding`, `connection`).
    pub headers: BTreeMap<String, String>,
    /// The body, read to its end.
    pub body: String,
}

/// `GET <url><path>`
pub async fn get(url: &str, path: &str) -> Result<Answer> {
    request(url, path, "GET", "").await
}

/// `<method> <url><path>` with a JSON body.
pub async fn request(url: &str, path: &str, method: &str, body: &str) -> Result<Answer> {
    let host = url.trim_start_matches("http://");
    let stream = TcpStream::connect(host)
        .await
        .with_context(|| format!("connecting to {url}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .context("speaking HTTP")?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .context("building a request")?;
    let response = sender
        .send_request(request)
        .await
        .with_context(|| format!("{method} {url}{path}"))?;
    let answer = read(response).await?;
    connection.abort();
    Ok(answer)
}

/// `GET <url><path>` over HTTP/2 on a connection that agrees to it.
pub(crate) async fn over_http2<S>(stream: S, url: &str, path: &str) -> Result<Answer>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let executor = TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(stream))
            .await
            .context("speaking HTTP/2")?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .uri(format!("{url}{path}"))
        .body(Full::new(Bytes::new()))
        .context("building a request")?;
    let response = sender
        .send_request(request)
        .await
        .with_context(|| format!("GET {url}{path} over HTTP/2"))?;
    let answer = read(response).await?;
    connection.abort();
    Ok(answer)
}

async fn read(response: Response<Incoming>) -> Result<Answer> {
    let status = response.status().as_u16();
    let mut headers = BTreeMap::new();
    for (name, value) in response.headers() {
        if !CONNECTION.contains(&name.as_str()) {
            headers.insert(
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            );
        }
    }
    let body = response
        .into_body()
        .collect()
        .await
        .context("reading the body")?
        .to_bytes();
    Ok(Answer {
        status,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
