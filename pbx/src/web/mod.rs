//! Requests to web servers: lists to read, messages to hand over. Under the operations, beside the store.
//!
//! Everything is bounded: time to connect, time in all, bytes, redirects. Nothing that is compressed is taken, so that
//! a bound in bytes is one. TLS is verified against the certificates that the machine trusts, or the file that
//! `SSL_CERT_FILE` names. One connection a request; no cookies, no proxy.

mod connect;

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body as _, Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use tokio::time::timeout;
use url::Url;

/// What a request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the name to a connection, TLS included.
    pub connect: Duration,
    /// From the beginning to the last byte, redirects included.
    pub whole: Duration,
    /// Bytes of an answer.
    pub bytes: usize,
    /// Redirects that are followed.
    pub redirects: u8,
}

/// Why there is no answer that helps.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The text is no address of ours.
    #[error("{0}")]
    Address(&'static str),
    /// The name means nothing, or nobody answers there.
    #[error("cannot connect to {host}: {why}")]
    Connect {
        /// Name and port.
        host: String,
        /// What the system or TLS says.
        why: String,
    },
    /// It took too long.
    #[error("{host} did not {what} within {} s", after.as_secs_f32())]
    Slow {
        /// Name and port.
        host: String,
        /// What it should have done.
        what: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// No HTTP, or the connection broke.
    #[error("{host} broke off: {why}")]
    Broken {
        /// Name and port.
        host: String,
        /// What hyper says.
        why: String,
    },
    /// It answered something else than success.
    #[error("{host} answered {status}")]
    Status {
        /// Name and port.
        host: String,
        /// What.
        status: StatusCode,
    },
    /// More bytes than are read.
    #[error("{host} sends more than {most} bytes")]
    Large {
        /// Name and port.
        host: String,
        /// What is read.
        most: usize,
    },
    /// Compressed although it was asked not to.
    #[error("{host} sends it compressed ({encoding}), which is not taken")]
    Encoded {
        /// Name and port.
        host: String,
        /// How.
        encoding: String,
    },
    /// A redirect that is not followed.
    #[error("{host} redirects {why}")]
    Redirect {
        /// Name and port.
        host: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What makes requests. Clones share what they trust.
#[derive(Clone, Debug, Default)]
pub struct Web {
    trusted: Option<Arc<RootCertStore>>,
}

impl Web {
    /// Trusts what the machine trusts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts these certificates only.
    pub fn trusting(roots: RootCertStore) -> Self {
        Self { trusted: Some(Arc::new(roots)) }
    }

    /// Reads what is at an address.
    pub async fn get(&self, address: &Url, limits: Limits) -> Result<Vec<u8>, WebError> {
        let reading = async {
            let mut address = address.clone();
            for _ in 0..=limits.redirects {
                let response = self.send(Method::GET, &address, HeaderMap::new(), Bytes::new(), limits).await?;
                match redirection(&address, &response)? {
                    Some(next) => address = next,
                    None => return body(&host(&address), response, limits.bytes).await,
                }
            }
            Err(WebError::Redirect { host: host(&address), why: format!("more than {} times", limits.redirects) })
        };
        timeout(limits.whole, reading).await.unwrap_or_else(|_| Err(slow(address, "send all of it", limits.whole)))
    }

    /// Hands a message over; an answer other than success is an error. Redirects are not followed.
    pub async fn post(
        &self,
        address: &Url,
        headers: HeaderMap,
        message: Vec<u8>,
        limits: Limits,
    ) -> Result<StatusCode, WebError> {
        let sending = async {
            let response = self.send(Method::POST, address, headers, message.into(), limits).await?;
            let status = response.status();
            if status.is_success() { Ok(status) } else { Err(WebError::Status { host: host(address), status }) }
        };
        timeout(limits.whole, sending).await.unwrap_or_else(|_| Err(slow(address, "answer", limits.whole)))
    }

    async fn send(
        &self,
        method: Method,
        address: &Url,
        headers: HeaderMap,
        content: Bytes,
        limits: Limits,
    ) -> Result<Response<Incoming>, WebError> {
        let host = host(address);
        let broken = |error: hyper::Error| WebError::Broken { host: host.clone(), why: in_full(&error) };
        let stream = timeout(limits.connect, connect::to(address, self.trusted.clone()))
            .await
            .unwrap_or_else(|_| Err(slow(address, "let us connect", limits.connect)))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the response, and with this future: whoever drops the sender and the body closes it.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(&address[url::Position::BeforePath..url::Position::AfterQuery])
            .header(header::HOST, &address[url::Position::BeforeHost..url::Position::AfterPort])
            .header(header::USER_AGENT, concat!("pbx/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::CONNECTION, "close")
            .body(Full::new(content))
            .map_err(|_| WebError::Address("the address cannot be asked for"))?;
        request.headers_mut().extend(headers);
        sender.send_request(request).await.map_err(broken)
    }
}

/// Reads an address as an administrator writes it. No user and password: they would be shown wherever it is shown.
pub fn address(text: &str) -> Result<Url, WebError> {
    let url = Url::parse(text).map_err(|_| WebError::Address("is no address: write https://example.com/list.txt"))?;
    let fault = match url.scheme() {
        "http" | "https" if url.host().is_none() => Some("names no server"),
        "http" | "https" if !url.username().is_empty() || url.password().is_some() => {
            Some("holds a user or password, which everybody would see who sees the address")
        }
        "http" | "https" => None,
        _ => Some("is neither http nor https"),
    };
    fault.map_or(Ok(url), |fault| Err(WebError::Address(fault)))
}

/// Where a redirect leads; nothing for an answer that is none.
fn redirection(from: &Url, response: &Response<Incoming>) -> Result<Option<Url>, WebError> {
    let host = host(from);
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(None);
    }
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Err(WebError::Status { host, status });
    }
    let target = response.headers().get(header::LOCATION).and_then(|target| target.to_str().ok());
    let next = target.and_then(|target| from.join(target).ok());
    let Some(next) = next.filter(|next| address(next.as_str()).is_ok()) else {
        return Err(WebError::Redirect { host, why: "to something that is no address".to_owned() });
    };
    if from.scheme() == "https" && next.scheme() != "https" {
        return Err(WebError::Redirect { host, why: format!("from https to {next}, which nothing protects") });
    }
    Ok(Some(next))
}

async fn body(host: &str, response: Response<Incoming>, most: usize) -> Result<Vec<u8>, WebError> {
    let large = || WebError::Large { host: host.to_owned(), most };
    if let Some(encoding) = response.headers().get(header::CONTENT_ENCODING).filter(|value| *value != "identity") {
        let encoding = String::from_utf8_lossy(encoding.as_bytes()).chars().take(20).collect();
        return Err(WebError::Encoded { host: host.to_owned(), encoding });
    }
    let mut body = response.into_body();
    if body.size_hint().lower() > most as u64 {
        return Err(large());
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| WebError::Broken { host: host.to_owned(), why: in_full(&error) })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Err(large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Name and port, as errors name it.
fn host(address: &Url) -> String {
    let name = address.host_str().unwrap_or_default();
    address.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
}

fn slow(address: &Url, what: &'static str, after: Duration) -> WebError {
    WebError::Slow { host: host(address), what, after }
}

/// An error with what led to it.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

#[cfg(test)]
pub(crate) mod tests;
