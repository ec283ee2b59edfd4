//! A phone that knows the RFCs by itself: writes its requests as text, reads answers line by line, and makes its own
//! digests (RFC 2617, RFC 7616).

use std::fmt::Write as _;

use md5::{Digest as _, Md5};
use pbx_core::transport::{Flow, Protocol};
use sha2::Sha256;

use crate::scene::{APPLIANCE, DOMAIN, Scene, password};

/// How a phone proves its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Md5,
    Sha256,
}

/// The hash in hexadecimal digits.
pub(crate) fn digest(scheme: Scheme, text: &str) -> String {
    let bytes: Vec<u8> = match scheme {
        Scheme::Md5 => Md5::digest(text).to_vec(),
        Scheme::Sha256 => Sha256::digest(text).to_vec(),
    };
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// An answer, line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    headers: Vec<(String, String)>,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).expect("an answer is text");
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has an end");
        assert_eq!(body, "", "{text}");
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap().strip_prefix("SIP/2.0 ").expect("an answer");
        let (status, reason) = first.split_once(' ').unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("a header line: {line}"));
            assert!(!value.contains(['\r', '\n', '\0']), "{line}");
            (name.to_lowercase(), value.to_owned())
        };
        let answer = Self {
            status: status.parse().unwrap(),
            reason: reason.to_owned(),
            headers: lines.map(header).collect(),
            text: text.clone(),
        };
        for name in ["from", "to", "call-id", "cseq", "content-length"] {
            assert_eq!(answer.all(name).len(), 1, "{name} in {text}");
        }
        assert_eq!(answer.header("content-length"), Some("0"));
        answer
    }

    /// The value of a header that stands once or not at all.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} in {}", self.text);
        all.first().copied()
    }

    /// All values of a header, a line each.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn to_tag(&self) -> Option<&str> {
        self.header("to")?.split(";tag=").nth(1)
    }

    /// The challenges in their order.
    pub(crate) fn challenges(&self) -> Vec<Challenge> {
        let name = if self.status == 401 { "www-authenticate" } else { "proxy-authenticate" };
        self.all(name).into_iter().map(Challenge::read).collect()
    }

    /// Whether it says that the password was right and the nonce was not.
    pub(crate) fn is_stale(&self) -> bool {
        self.challenges()[0].stale
    }

    /// The answer with what may differ from one request to the next made the same.
    pub(crate) fn without_nonce_and_tag(&self) -> String {
        let mut text = self.text.clone();
        for challenge in self.challenges() {
            text = text.replace(&challenge.nonce, "NONCE");
        }
        text.replace(self.to_tag().unwrap(), "TAG")
    }
}

/// A challenge as a phone reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) scheme: Scheme,
    pub(crate) realm: String,
    pub(crate) nonce: String,
    pub(crate) stale: bool,
}

impl Challenge {
    fn read(value: &str) -> Self {
        let parameters = value.strip_prefix("Digest ").expect("a digest challenge");
        let parameter = |name: &str| {
            let mut all = parameters.split(", ").filter_map(|one| one.split_once('='));
            all.find(|(known, _)| *known == name).map(|(_, value)| value.trim_matches('"').to_owned())
        };
        assert_eq!(parameter("qop").as_deref(), Some("auth"));
        Self {
            scheme: match parameter("algorithm").as_deref() {
                Some("SHA-256") => Scheme::Sha256,
                Some("MD5") => Scheme::Md5,
                other => panic!("{other:?}"),
            },
            realm: parameter("realm").unwrap(),
            nonce: parameter("nonce").unwrap(),
            stale: parameter("stale").as_deref() == Some("true"),
        }
    }
}

/// A phone. Whatever it is may be changed between two requests.
#[derive(Clone, Debug)]
pub(crate) struct Phone {
    pub(crate) number: String,
    pub(crate) password: String,
    /// The name in its credentials; usually its number.
    pub(crate) user: String,
    pub(crate) flow: Flow,
    /// Host of From, To and the request URI.
    pub(crate) domain: String,
    /// Where it says to be in Via, and what follows.
    pub(crate) via: String,
    pub(crate) via_parameters: String,
    /// The Contact header's value; empty: none.
    pub(crate) contact: String,
    pub(crate) scheme: Scheme,
    /// Uses the counts of RFC 2617; else only what RFC 2069 knew.
    pub(crate) qop: bool,
    pub(crate) call_id: String,
    pub(crate) cseq: u32,
    /// Header lines in every request, each with its end.
    pub(crate) more: String,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) nc: u32,
    /// Requests so far: no two have the same branch.
    pub(crate) branches: u32,
}

impl Phone {
    /// A phone of the default tenant that knows its address.
    pub(crate) fn new(number: &str, flow: Flow) -> Self {
        let remote = flow.remote;
        Self {
            number: number.to_owned(),
            password: password(number),
            user: number.to_owned(),
            flow,
            domain: DOMAIN.to_owned(),
            via: remote.to_string(),
            via_parameters: ";rport".to_owned(),
            contact: format!("<sip:{number}@{remote}>"),
            scheme: Scheme::Md5,
            qop: true,
            call_id: format!("call-{number}-{remote}"),
            cseq: 0,
            more: String::new(),
            challenge: None,
            nc: 0,
            branches: 0,
        }
    }

    /// A phone behind a router, at this address of its own.
    pub(crate) fn behind(number: &str, inner: &str, flow: Flow) -> Self {
        let contact = format!("<sip:{number}@{inner}>");
        Self { via: inner.to_owned(), contact, ..Self::new(number, flow) }
    }

    /// The credentials for a request, with the next count.
    pub(crate) fn credentials(&mut self, method: &str, uri: &str) -> Option<String> {
        let Challenge { scheme, realm, nonce, .. } = self.challenge.clone()?;
        self.nc += 1;
        let (user, nc) = (&self.user, format!("{:08x}", self.nc));
        let cnonce = "c0ffee";
        let ha1 = digest(scheme, &format!("{user}:{realm}:{}", self.password));
        let ha2 = digest(scheme, &format!("{method}:{uri}"));
        let text =
            if self.qop { format!("{ha1}:{nonce}:{nc}:{cnonce}:auth:{ha2}") } else { format!("{ha1}:{nonce}:{ha2}") };
        let response = digest(scheme, &text);
        let algorithm = if scheme == Scheme::Md5 { "MD5" } else { "SHA-256" };
        let counted = if self.qop { format!(", qop=auth, nc={nc}, cnonce=\"{cnonce}\"") } else { String::new() };
        let header = if method == "REGISTER" { "Authorization" } else { "Proxy-Authorization" };
        Some(format!(
            "{header}: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm={algorithm}{counted}\r\n"
        ))
    }

    /// The next request, with credentials if it was challenged before.
    pub(crate) fn request(&mut self, method: &str, uri: &str, to: &str, more: &str) -> String {
        self.branches += 1;
        self.cseq += 1;
        let credentials = self.credentials(method, uri).unwrap_or_default();
        let Self { number, domain, via, via_parameters, call_id, cseq, branches, .. } = &*self;
        let port = self.flow.remote.port();
        let protocol = match self.flow.protocol {
            Protocol::Udp => "UDP",
            Protocol::Tcp => "TCP",
            Protocol::Tls => "TLS",
        };
        let contact = if self.contact.is_empty() { String::new() } else { format!("Contact: {}\r\n", self.contact) };
        format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/{protocol} {via}{via_parameters};branch=z9hG4bK{number}p{port}x{branches}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{number}@{domain}>;tag=f{number}\r\n\
             To: {to}\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\n\
             {contact}{}{more}{credentials}Content-Length: 0\r\n\r\n",
            self.more
        )
    }

    /// The next REGISTER.
    pub(crate) fn registration(&mut self, more: &str) -> String {
        let uri = format!("sip:{}", self.domain);
        let to = format!("<sip:{}@{}>", self.number, self.domain);
        self.request("REGISTER", &uri, &to, more)
    }

    /// A request for somebody else.
    pub(crate) fn outside(&mut self, method: &str, target: &str) -> String {
        let uri = format!("sip:{target}@{}", self.domain);
        let to = format!("<{uri}>");
        self.request(method, &uri, &to, "")
    }

    /// Takes the challenge of its scheme out of an answer.
    pub(crate) fn take_challenge(&mut self, answer: &Answer) {
        let challenges = answer.challenges();
        let mine = challenges.iter().find(|challenge| challenge.scheme == self.scheme);
        self.challenge = Some(mine.unwrap_or(&challenges[0]).clone());
        self.nc = 0;
    }

    /// Registers: the answer to the first request that is not challenged, or to the second.
    pub(crate) fn register(&mut self, scene: &mut Scene) -> Answer {
        self.register_with(scene, "")
    }

    /// The same with more header lines.
    pub(crate) fn register_with(&mut self, scene: &mut Scene, more: &str) -> Answer {
        let first = self.registration(more);
        let answer = scene.ask(self.flow, first).expect("an answer");
        if answer.status != 401 {
            return answer;
        }
        self.take_challenge(&answer);
        let second = self.registration(more);
        scene.ask(self.flow, second).expect("an answer")
    }
}

/// A request of somebody who is nobody; the number tells it from others.
pub(crate) fn request(method: &str, uri: &str, from: &str, to: &str, number: u32) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 198.51.100.66:5060;rport;branch=z9hG4bKs{number}\r\n\
         Max-Forwards: 70\r\n\
         From: {from};tag=s{number}\r\n\
         To: {to}\r\n\
         Call-ID: stranger-{number}@{APPLIANCE}\r\n\
         CSeq: {number} {method}\r\n\
         Contact: <sip:x@198.51.100.66>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}
