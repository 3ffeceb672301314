//! Plain HTTP/1.1 requests to a member.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The `content-type` header, or an empty text.
    pub content_type: String,
    /// The body, read to its end.
    pub body: String,
}

/// `GET <url><path>`
pub async fn get(url: &str, path: &str) -> Result<Answer> {
    request(url, path, "GET", Bytes::new()).await
}

/// `POST <url><path>` with a JSON body.
pub async fn post_json(url: &str, path: &str, body: &str) -> Result<Answer> {
    request(url, path, "POST", Bytes::copy_from_slice(body.as_bytes())).await
}

async fn request(url: &str, path: &str, method: &str, body: Bytes) -> Result<Answer> {
    let host = url.trim_start_matches("http://");
    let stream = TcpStream::connect(host).await.with_context(|| format!("connecting to {url}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("speaking HTTP")?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .header("content-type", "application/json")
        .body(Full::new(body))
        .context("building a request")?;
    let response = sender.send_request(request).await.with_context(|| format!("{method} {url}{path}"))?;
    let status = response.status().as_u16();
    let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let body = response.into_body().collect().await.context("reading the body")?.to_bytes();
    connection.abort();
    Ok(Answer { status, content_type, body: String::from_utf8_lossy(&body).into_owned() })
}
