//! A connection to a server, plain or TLS. The caller bounds the time.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::{Host, Url};

use super::{WebError, host};

/// What is spoken over.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to the server of an address, to the first of its own addresses that answers.
pub(super) async fn to(address: &Url, trusted: Option<Arc<RootCertStore>>) -> Result<Stream, WebError> {
    let failed = |why: String| WebError::Connect { host: host(address), why };
    let port = address.port_or_known_default().unwrap_or(443);
    let tcp = match address.host() {
        Some(Host::Domain(name)) => TcpStream::connect((name, port)).await,
        Some(Host::Ipv4(ip)) => TcpStream::connect((ip, port)).await,
        Some(Host::Ipv6(ip)) => TcpStream::connect((ip, port)).await,
        None => return Err(WebError::Address("names no server")),
    };
    let tcp = tcp.map_err(|error| failed(error.to_string()))?;
    if address.scheme() == "http" {
        return Ok(Stream::Plain(tcp));
    }
    let name = match address.host() {
        Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()).map_err(|error| failed(error.to_string()))?,
        Some(Host::Ipv4(ip)) => ServerName::from(std::net::IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => ServerName::from(std::net::IpAddr::V6(ip)),
        None => return Err(WebError::Address("names no server")),
    };
    let roots = match trusted {
        Some(roots) => roots,
        // Read each time: a company's own authority that is installed later is trusted without a restart.
        None => tokio::task::spawn_blocking(system_roots).await.map_err(|error| failed(error.to_string()))?,
    };
    if roots.is_empty() {
        return Err(failed("the machine trusts no certificate at all: install the package ca-certificates".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    tls.map(|tls| Stream::Tls(Box::new(tls))).map_err(|error| failed(format!("TLS: {error}")))
}

fn system_roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    // A certificate among hundreds that cannot be read is one that is not trusted.
    let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}
