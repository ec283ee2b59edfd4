//! SIP messages and SDP as the phones of the harness read and write them. Knows nothing of the code under test: what it
//! takes for granted (one header a line, no folding) the appliance has to keep to.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result};

/// A request or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `INVITE sip:… SIP/2.0` or `SIP/2.0 200 OK`.
    pub start: String,
    /// Names and values, in their order.
    pub headers: Vec<(String, String)>,
    /// What follows them.
    pub body: String,
}

impl Message {
    /// Reads a whole message.
    pub fn parse(text: &str) -> Result<Self> {
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no end of the headers in {text:?}"))?;
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').with_context(|| format!("a header without a colon: {line:?}"))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        });
        Ok(Self { start, headers: headers.collect::<Result<_>>()?, body: body.to_owned() })
    }

    /// The status of an answer.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method of a request.
    pub fn method(&self) -> Option<&str> {
        if self.start.starts_with("SIP/2.0 ") { None } else { self.start.split(' ').next() }
    }

    /// The first value of this header; empty: there is none.
    pub fn header(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// All values of this header.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The number of the CSeq.
    pub fn sequence(&self) -> u32 {
        self.header("CSeq").split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
    }

    /// The method of the CSeq.
    pub fn of_method(&self) -> &str {
        self.header("CSeq").split(' ').nth(1).unwrap_or_default()
    }

    /// The URI of the Contact.
    pub fn contact(&self) -> Option<&str> {
        uri(self.header("Contact"))
    }

    /// Where the sender of this message wants RTP.
    pub fn media(&self) -> Result<SocketAddr> {
        Sdp::parse(&self.body).map(|sdp| sdp.rtp).with_context(|| format!("of {self}"))
    }

    /// The description in its body.
    pub fn sdp(&self) -> Result<Sdp> {
        Sdp::parse(&self.body).with_context(|| format!("of {self}"))
    }
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.start)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {value}")?;
        }
        write!(f, "\n{}", self.body)
    }
}

/// The URI between `<` and `>`, or before the first parameter.
pub(super) fn uri(value: &str) -> Option<&str> {
    match value.split_once('<') {
        Some((_, rest)) => Some(rest.split_once('>')?.0),
        None => value.split(';').next().filter(|uri| !uri.is_empty()),
    }
}

/// One audio stream, described (RFC 4566).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sdp {
    /// Where RTP goes to.
    pub rtp: SocketAddr,
    /// Payload types, in their order of preference.
    pub formats: Vec<u8>,
    /// `sendrecv`, `sendonly`, `recvonly`, `inactive`.
    pub direction: String,
}

impl Sdp {
    /// An offer or answer of PCMU and telephone events.
    pub fn new(rtp: SocketAddr) -> Self {
        Self { rtp, formats: vec![0, 101], direction: "sendrecv".to_owned() }
    }

    /// The same in another direction.
    #[must_use]
    pub fn direction(&self, direction: &str) -> Self {
        Self { direction: direction.to_owned(), ..self.clone() }
    }

    /// The same with other payload types.
    #[must_use]
    pub fn formats(&self, formats: &[u8]) -> Self {
        Self { formats: formats.to_vec(), ..self.clone() }
    }

    /// The direction that an answer to this offer has.
    pub fn mirrored(&self) -> &'static str {
        match self.direction.as_str() {
            "sendonly" => "recvonly",
            "recvonly" => "sendonly",
            "inactive" => "inactive",
            _ => "sendrecv",
        }
    }

    /// Reads the first audio stream.
    pub fn parse(text: &str) -> Result<Self> {
        let mut address: Option<IpAddr> = None;
        let mut stream: Option<(u16, Vec<u8>)> = None;
        let mut direction = "sendrecv";
        for line in text.lines() {
            if let Some(connection) = line.strip_prefix("c=IN ") {
                address = connection.split(' ').nth(1).and_then(|address| address.parse().ok()).or(address);
            } else if let Some(media) = line.strip_prefix("m=audio ") {
                let mut words = media.split(' ');
                let port = words.next().and_then(|port| port.parse().ok()).context("a port")?;
                stream = Some((port, words.skip(1).filter_map(|format| format.parse().ok()).collect()));
            } else if let Some(one @ ("sendrecv" | "sendonly" | "recvonly" | "inactive")) = line.strip_prefix("a=") {
                direction = one;
            }
        }
        let (address, (port, formats)) =
            address.zip(stream).with_context(|| format!("no audio or no address in {text:?}"))?;
        Ok(Self { rtp: (address, port).into(), formats, direction: direction.to_owned() })
    }

    /// As it is sent; the version tells this description from earlier ones of the session.
    pub fn text(&self, version: u32) -> String {
        let Self { rtp, formats, direction } = self;
        let family = if rtp.is_ipv4() { "IP4" } else { "IP6" };
        let (address, port) = (rtp.ip(), rtp.port());
        let list = formats.iter().fold(String::new(), |list, format| list + " " + &format.to_string());
        let mut text = format!(
            "v=0\r\no=- 4711 {version} IN {family} {address}\r\ns=-\r\nc=IN {family} {address}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP{list}\r\n"
        );
        for format in formats {
            let name = match format {
                0 => "PCMU/8000",
                8 => "PCMA/8000",
                101 => "telephone-event/8000",
                _ => continue,
            };
            let _ = write!(text, "a=rtpmap:{format} {name}\r\n");
        }
        text + &format!("a=ptime:20\r\na={direction}\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_with_all_its_headers() {
        let text = "INVITE sip:201@10.0.0.1 SIP/2.0\r\nVia: a\r\nVia: b\r\nCSeq: 7 INVITE\r\n\
                    Contact: \"x\" <sip:200@10.0.0.2:5070;transport=tcp>;q=1\r\n\r\nbody";
        let message = Message::parse(text).expect("a message");
        assert_eq!((message.method(), message.status()), (Some("INVITE"), None));
        assert_eq!(message.all("via").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((message.sequence(), message.of_method()), (7, "INVITE"));
        assert_eq!(message.contact(), Some("sip:200@10.0.0.2:5070;transport=tcp"));
        assert_eq!(message.body, "body");
        assert_eq!(Message::parse("SIP/2.0 486 Busy Here\r\n\r\n").expect("an answer").status(), Some(486));
    }

    #[test]
    fn a_description_is_read_as_it_was_written() {
        let sdp = Sdp::new("10.77.1.2:40000".parse().expect("an address")).direction("sendonly");
        assert_eq!(Sdp::parse(&sdp.text(2)).expect("a description"), sdp);
        assert!(Sdp::parse("v=0\r\n").is_err());
    }
}
