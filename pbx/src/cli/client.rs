//! HTTP/1 over the unix socket. One connection a request; every wait has an end but the one for live events.

use std::{path::PathBuf, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{net::UnixStream, time::timeout};

use super::failure::Failure;
use crate::{api::ErrorBody, ops::OpError};

const CONNECT: Duration = Duration::from_secs(5);
/// An import of half a million lines on a slow disk is the longest that there is.
const ANSWER: Duration = Duration::from_secs(300);
/// Bytes of an answer.
const LARGEST: usize = 256 * 1024 * 1024;

/// The way to the daemon.
pub(super) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Reads.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        decode(&self.request(Method::GET, path, "application/json", Bytes::new()).await?)
    }

    /// Reads text.
    pub(super) async fn text(&self, path: &str) -> Result<String, Failure> {
        let bytes = self.request(Method::GET, path, "text/plain", Bytes::new()).await?;
        String::from_utf8(bytes.into()).map_err(|error| Failure::Failed(format!("the answer is no text: {error}")))
    }

    /// Changes.
    pub(super) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::Failed(error.to_string()))?;
        decode(&self.request(Method::POST, path, "application/json", body.into()).await?)
    }

    /// Changes, with a body that is not JSON.
    pub(super) async fn post_bytes(&self, path: &str, body: Vec<u8>) -> Result<Value, Failure> {
        decode(&self.request(Method::POST, path, "application/octet-stream", body.into()).await?)
    }

    /// Reads something long, piece by piece, as it comes.
    pub(super) async fn download(&self, path: &str, into: &mut impl std::io::Write) -> Result<(), Failure> {
        self.open(path).await?.write_to(into).await
    }

    /// Opens something long; the caller has it written somewhere.
    pub(super) async fn open(&self, path: &str) -> Result<Long, Failure> {
        let response = timeout(ANSWER, self.send(Method::GET, path, "application/octet-stream", Bytes::new())).await;
        let response = response.map_err(|_| silent())??;
        if !response.status().is_success() {
            return Err(refusal(response.status(), &body(response).await?));
        }
        Ok(Long { body: response.into_body() })
    }

    /// Opens a stream of live events; the caller reads it.
    pub(super) async fn stream(&self, path: &str) -> Result<EventStream, Failure> {
        let response = self.send(Method::GET, path, "text/event-stream", Bytes::new()).await?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response.status(), &body(response).await?));
        }
        Ok(EventStream { body: response.into_body(), buffer: Vec::new() })
    }

    async fn request(&self, method: Method, path: &str, kind: &str, content: Bytes) -> Result<Bytes, Failure> {
        let answer = async {
            let response = self.send(method, path, kind, content).await?;
            let status = response.status();
            let bytes = body(response).await?;
            if status.is_success() { Ok(bytes) } else { Err(refusal(status, &bytes)) }
        };
        timeout(ANSWER, answer).await.unwrap_or_else(|_| Err(silent()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        content: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = timeout(CONNECT, UnixStream::connect(&self.socket))
            .await
            .map_err(|_| {
                Failure::NoDaemon(format!("{} does not answer: look at `systemctl status pbx`", self.socket.display()))
            })?
            .map_err(|error| Failure::connecting(&self.socket, &error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // It ends with the response.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "pbx")
            .header(header::CONTENT_TYPE, kind)
            .body(Full::new(content))
            .map_err(|error| Failure::Usage(error.to_string()))?;
        sender.send_request(request).await.map_err(broken)
    }
}

/// An answer that is too long for the memory.
pub(super) struct Long {
    body: Incoming,
}

impl Long {
    /// Writes it to its end. A reader that went away (`| head`) is no error.
    pub(super) async fn write_to(&mut self, into: &mut impl std::io::Write) -> Result<(), Failure> {
        while let Some(frame) = timeout(ANSWER, self.body.frame()).await.map_err(|_| silent())? {
            let frame = frame.map_err(|error| {
                Failure::Failed(format!("the answer broke off ({error}); what is written of it is not whole"))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            match into.write_all(&data) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => {
                    return Err(Failure::Failed(format!("cannot write it ({error}); what is there is not whole")));
                }
            }
        }
        let _ = into.flush();
        Ok(())
    }
}

/// Live events.
pub(super) struct EventStream {
    body: Incoming,
    buffer: Vec<u8>,
}

impl EventStream {
    /// The next event's name and data; `None` when the daemon ends.
    pub(super) async fn next(&mut self) -> Result<Option<(String, Value)>, Failure> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = event(&String::from_utf8_lossy(&block)) {
                    return Ok(Some(event));
                }
            }
            if self.buffer.len() > LARGEST {
                return Err(Failure::Failed("an event does not end".to_owned()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.map_err(broken)?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// What an answer means.
pub(super) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| {
        Failure::Failed(format!("the daemon's answer is not understood ({error}): is it of the same version?"))
    })
}

/// `?key=value&…`, with what needs it in percent signs.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (index, (key, value)) in pairs.iter().enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        text.push_str(key);
        text.push('=');
        text.push_str(&encoded(value));
    }
    text
}

/// A part of a path or query.
pub(super) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn event(block: &str) -> Option<(String, Value)> {
    let field = |name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim_start().to_owned()))
    };
    let data = field("data")?;
    Some((field("event").unwrap_or_default(), serde_json::from_str(&data).ok()?))
}

async fn body(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let collected = Limited::new(response.into_body(), LARGEST).collect().await;
    collected.map(|body| body.to_bytes()).map_err(|error| Failure::Failed(format!("the answer broke off: {error}")))
}

fn decode(bytes: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::Failed(format!("the answer is no JSON: {error}")))
}

fn refusal(status: StatusCode, bytes: &[u8]) -> Failure {
    let errors = serde_json::from_slice::<ErrorBody>(bytes)
        .map(|body| body.errors)
        .unwrap_or_else(|_| vec![OpError::internal(format!("the daemon answers {status}"))]);
    Failure::Answer { status, errors }
}

fn silent() -> Failure {
    Failure::Failed(format!("no answer within {} s", ANSWER.as_secs()))
}

fn broken(error: hyper::Error) -> Failure {
    Failure::Failed(format!("the connection to the daemon broke off ({error}); what was asked for may have been done"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_plain_is_encoded() {
        assert_eq!(query(&[("ip", "2001:db8::1"), ("a", "b c&d")]), "?ip=2001%3Adb8%3A%3A1&a=b%20c%26d");
        assert_eq!(query(&[]), "");
    }

    #[test]
    fn an_event_has_a_name_and_data_and_a_comment_has_none() {
        let (name, data) = event("id: 1\nevent: block\ndata: {\"id\":1}\n\n").unwrap();
        assert_eq!((name.as_str(), data["id"].as_i64()), ("block", Some(1)));
        assert!(event(": keep-alive\n\n").is_none());
    }
}
