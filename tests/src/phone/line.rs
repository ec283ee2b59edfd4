//! One phone of our own over UDP, TCP or TLS: holds its socket, registers in order when it is asked to, and sends any
//! bytes. For what real phones never send, and for what has to be seen byte by byte.

use std::{
    fmt,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::{
    socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt::SendTimeout},
    time::{TimeVal, TimeValLike as _},
};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{self, CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::digest;
use crate::sandbox::Namespace;

/// The longest that an answer may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// A request by UDP that has no answer is sent again after so long (RFC 3261 §17.1.2.2).
const T1: Duration = Duration::from_millis(500);

/// A phone with its socket, which is closed when it is dropped.
pub struct Line {
    way: Way,
    local: SocketAddr,
    server: SocketAddr,
    /// What came on a stream and is no whole message yet.
    unread: Vec<u8>,
    calls: u32,
    patience: Duration,
    sent: u64,
}

enum Way {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// What comes next on a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An answer, or another message.
    Message(String),
    /// The end of the stream, in order or by a reset.
    End,
}

/// A request of a line; every part can be wrong.
#[derive(Clone, Debug)]
pub struct Request {
    /// `REGISTER`
    pub method: String,
    /// `sip:10.77.1.1`
    pub uri: String,
    /// `SIP/2.0`
    pub version: String,
    /// Who it is from and to.
    pub number: String,
    /// Tells this request from others of the line.
    pub call_id: String,
    /// With the method.
    pub cseq: String,
    /// Whole lines beside the mandatory ones.
    pub more: String,
    /// What `Content-Length` says; none: no such line.
    pub length: Option<String>,
    /// What is sent after the headers.
    pub body: Vec<u8>,
}

impl Heard {
    /// The status of an answer.
    pub fn status(&self) -> Option<u16> {
        let Self::Message(text) = self else { return None };
        text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// A header of it.
    pub fn header(&self, name: &str) -> Option<&str> {
        let Self::Message(text) = self else { return None };
        digest::header(text, name)
    }
}

impl Line {
    /// A line by UDP from this address of the namespace.
    pub fn udp(network: &Namespace, source: IpAddr, server: SocketAddr) -> Result<Self> {
        Self::udp_from(network, (source, 0).into(), server)
    }

    /// A line by UDP from this address and port of the namespace.
    pub fn udp_from(network: &Namespace, source: SocketAddr, server: SocketAddr) -> Result<Self> {
        let socket = network.enter(|| {
            let socket = UdpSocket::bind(source).with_context(|| format!("bind {source}"))?;
            socket.connect(server)?;
            Ok(socket)
        })?;
        let local = socket.local_addr()?;
        Ok(Self { way: Way::Udp(socket), local, server, unread: Vec::new(), calls: 0, patience: DEADLINE, sent: 0 })
    }

    /// A line by TCP.
    pub fn tcp(network: &Namespace, server: SocketAddr) -> Result<Self> {
        let stream = network.enter(|| connect(None, server))?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        Ok(Self { way: Way::Tcp(stream), local, server, unread: Vec::new(), calls: 0, patience: DEADLINE, sent: 0 })
    }

    /// A line by TLS, from this address of the namespace if one is named. It takes any certificate; when it is there,
    /// the handshake is done.
    pub fn tls(network: &Namespace, source: Option<IpAddr>, server: SocketAddr) -> Result<Self> {
        let mut stream = network.enter(|| connect(source, server))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let local = stream.local_addr()?;
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        let mut connection = ClientConnection::new(Arc::new(config), ServerName::from(server.ip()))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).context("the TLS handshake")?;
        }
        let way = Way::Tls(Box::new(StreamOwned::new(connection, stream)));
        Ok(Self { way, local, server, unread: Vec::new(), calls: 0, patience: DEADLINE, sent: 0 })
    }

    /// The certificate that the server showed, of a line by TLS.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        let Way::Tls(stream) = &self.way else { return None };
        Some(stream.conn.peer_certificates()?.first()?.as_ref().to_vec())
    }

    /// A REGISTER of this number, in order, without credentials.
    pub fn request(&mut self, number: &str) -> Request {
        self.calls += 1;
        Request {
            method: "REGISTER".to_owned(),
            uri: format!("sip:{}", self.host()),
            version: "SIP/2.0".to_owned(),
            number: number.to_owned(),
            call_id: format!("{}-{}", self.calls, self.local),
            cseq: "1 REGISTER".to_owned(),
            more: format!("Contact: <sip:{number}@{}{}>\r\n", self.local, self.parameter()),
            length: Some("0".to_owned()),
            body: Vec::new(),
        }
    }

    /// Registers this number; the final status.
    pub fn register(&mut self, number: &str, password: &str) -> Result<u16> {
        let request = self.request(number);
        self.prove(request, password)
    }

    /// Sends a REGISTER and answers the challenge; the final status.
    pub fn prove(&mut self, mut request: Request, password: &str) -> Result<u16> {
        let challenge = self.ask(&request)?;
        let (Some(401), Heard::Message(text)) = (challenge.status(), &challenge) else {
            return challenge.status().with_context(|| format!("no challenge but {challenge:?}"));
        };
        let domain = self.host();
        request.cseq = "2 REGISTER".to_owned();
        request.more += &digest::authorization(&request.number, password, &domain, text)?;
        let last = self.ask(&request)?;
        last.status().with_context(|| format!("no answer but {last:?}"))
    }

    /// Sends a request and waits for its answer, or the end of the stream.
    pub fn ask(&mut self, request: &Request) -> Result<Heard> {
        let bytes = self.bytes(request);
        let begin = Instant::now();
        self.send(&bytes)?;
        loop {
            let patience = if matches!(self.way, Way::Udp(_)) { T1 } else { self.patience };
            match self.hear(patience)? {
                Some(heard) if is_answer(&heard, request) => return Ok(heard),
                Some(Heard::End) => return Ok(Heard::End),
                Some(_) => {}
                None if begin.elapsed() > self.patience => bail!("no answer to\n{}", String::from_utf8_lossy(&bytes)),
                None => self.send(&bytes)?,
            }
        }
    }

    /// A request as it is sent.
    pub fn bytes(&self, request: &Request) -> Vec<u8> {
        let Request { method, uri, version, number, call_id, cseq, more, length, body } = request;
        let (protocol, local, host) = (self.protocol(), self.local, self.host());
        let length = length.as_ref().map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
        let mut bytes = format!(
            "{method} {uri} {version}\r\n\
             Via: SIP/2.0/{protocol} {local};branch=z9hG4bK-{call_id}-{};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{number}@{host}>;tag=line\r\n\
             To: <sip:{number}@{host}>\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: {cseq}\r\n\
             User-Agent: line\r\n\
             {more}{length}\r\n",
            cseq.split(' ').next().unwrap_or_default()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    /// Waits so long for an answer from now on.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Messages that it sent so far, those too that were sent again.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Answers a request with 200.
    pub fn accept(&mut self, request: &Heard) -> Result<()> {
        let header = |name: &str| request.header(name).with_context(|| format!("no {name} in {request:?}"));
        let (via, from, to) = (header("Via")?, header("From")?, header("To")?);
        let (call_id, cseq) = (header("Call-ID")?, header("CSeq")?);
        let answer = format!(
            "SIP/2.0 200 OK\r\nVia: {via}\r\nFrom: {from}\r\nTo: {to};tag=line\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq}\r\nContent-Length: 0\r\n\r\n"
        );
        self.send(answer.as_bytes())
    }

    /// Sends bytes: a datagram, or a piece of the stream. A stream that the server has closed takes them too: what it
    /// said before is still to be heard.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.sent += 1;
        let sent = match &mut self.way {
            Way::Udp(socket) => socket.send(bytes).map(|_| ()),
            Way::Tcp(stream) => stream.write_all(bytes),
            Way::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
        match sent {
            Err(error) if !is_end(error.kind()) => Err(error).context("send"),
            _ => Ok(()),
        }
    }

    /// The next message, or the end; none within the time.
    pub fn hear(&mut self, time: Duration) -> Result<Option<Heard>> {
        let begin = Instant::now();
        let mut buffer = vec![0; 65_536];
        loop {
            if let Some(message) = self.whole() {
                return Ok(Some(Heard::Message(message)));
            }
            let left = time.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            let read = match &mut self.way {
                Way::Udp(socket) => socket.set_read_timeout(Some(left)).and_then(|()| socket.recv(&mut buffer)),
                Way::Tcp(stream) => stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut buffer)),
                Way::Tls(stream) => stream.sock.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut buffer)),
            };
            match (read, &self.way) {
                // Keep-alives are no messages.
                (Ok(length), Way::Udp(_)) if buffer[..length].iter().all(|byte| b"\r\n".contains(byte)) => {}
                (Ok(length), Way::Udp(_)) => {
                    return Ok(Some(Heard::Message(String::from_utf8_lossy(&buffer[..length]).into_owned())));
                }
                (Ok(0), _) => return Ok(Some(Heard::End)),
                (Ok(length), _) => self.unread.extend_from_slice(&buffer[..length]),
                (Err(error), _) if is_no_news(error.kind()) => {}
                (Err(error), Way::Udp(_)) if error.kind() == ErrorKind::ConnectionRefused => {}
                (Err(error), _) if is_end(error.kind()) => return Ok(Some(Heard::End)),
                (Err(error), _) => return Err(error).context("receive"),
            }
        }
    }

    /// Waits for the end of the stream; what came before it.
    pub fn wait_end(&mut self, time: Duration) -> Result<Vec<Heard>> {
        let begin = Instant::now();
        let mut before = Vec::new();
        loop {
            match self.hear(time.saturating_sub(begin.elapsed()))? {
                Some(Heard::End) => return Ok(before),
                Some(message) => before.push(message),
                None => bail!("the stream does not end within {time:?}; before that: {before:?}"),
            }
        }
    }

    /// The appliance's address as a URI has it.
    fn host(&self) -> String {
        match self.server.ip() {
            IpAddr::V4(addr) => addr.to_string(),
            IpAddr::V6(addr) => format!("[{addr}]"),
        }
    }

    /// Its own address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The appliance's address, or that of another phone.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    pub(super) fn protocol(&self) -> &'static str {
        match self.way {
            Way::Udp(_) => "UDP",
            Way::Tcp(_) => "TCP",
            Way::Tls(_) => "TLS",
        }
    }

    /// What a URI has that leads to it.
    pub(super) fn parameter(&self) -> &'static str {
        match self.way {
            Way::Udp(_) => "",
            Way::Tcp(_) => ";transport=tcp",
            Way::Tls(_) => ";transport=tls",
        }
    }

    /// Takes a whole message out of what came on a stream.
    fn whole(&mut self) -> Option<String> {
        let start = self.unread.iter().take_while(|byte| b"\r\n".contains(byte)).count();
        self.unread.drain(..start);
        let head = self.unread.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&self.unread[..head]).into_owned();
        let body = digest::header(&text, "Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if self.unread.len() < head + body {
            return None;
        }
        Some(String::from_utf8_lossy(&self.unread.drain(..head + body).collect::<Vec<u8>>()).into_owned())
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({} {} to {})", self.protocol(), self.local, self.server)
    }
}

/// Connects in the namespace of the calling thread.
fn connect(source: Option<IpAddr>, server: SocketAddr) -> Result<TcpStream> {
    let Some(source) = source else { return Ok(TcpStream::connect_timeout(&server, DEADLINE)?) };
    let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0)))?;
    // As long as writing may take, so may connecting (socket(7)).
    socket::setsockopt(&socket, SendTimeout, &TimeVal::seconds(DEADLINE.as_secs() as i64))?;
    socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(server)).with_context(|| format!("connect {server}"))?;
    Ok(socket.into())
}

fn is_answer(heard: &Heard, request: &Request) -> bool {
    heard.header("Call-ID") == Some(request.call_id.as_str())
        && heard.header("CSeq") == Some(request.cseq.as_str())
        && heard.status().is_some_and(|status| status >= 200)
}

/// Whether nothing came in time, or a signal did.
fn is_no_news(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn is_end(kind: ErrorKind) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// Takes any certificate, and checks that the server holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
