//! Our side of offer and answer (RFC 3264) toward one phone: what we wrote last, and whether its answer fits. After
//! the description is read, before the relay is told. Nothing of the phone at the other end of the call is written but
//! its formats.

use std::net::IpAddr;

use super::Pair;
use crate::wire::sdp::{Audio, Codec, Description, Direction, Format, Line, MAX_LINES, taken_for_rtcp};

/// Where one phone reaches us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Us {
    /// The own address, as this phone reaches it.
    pub ip: IpAddr,
    /// The ports at it.
    pub pair: Pair,
}

/// What can be used of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The audio line, its formats reduced to those that were offered.
    pub audio: Audio,
}

/// How an answer contradicts its offer (RFC 3264 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Contradiction {
    /// There was no offer.
    #[error("an answer came, and nothing was offered")]
    NoOffer,
    /// It has not as many media lines.
    #[error("{offered} media lines were offered, {answered} are in the answer")]
    Lines {
        /// Media lines of the offer.
        offered: usize,
        /// Media lines of the answer.
        answered: usize,
    },
    /// The audio line has port 0.
    #[error("the answer refuses audio")]
    Refused,
    /// The audio line is none that can be used: another protocol, a host's name, no format that is known.
    #[error("the audio line of the answer is none that can be used")]
    Unusable,
    /// It has no codec that was offered.
    #[error("no codec of the answer was offered")]
    Formats,
}

/// Our descriptions to one phone.
#[derive(Clone, Debug)]
pub struct Session {
    id: u64,
    /// Of the last description; 0 before the first.
    version: u64,
    /// The last description, behind the version in `o=`.
    rest: Vec<u8>,
    /// Its media lines.
    lines: Vec<Line>,
    /// Which of them is the audio line.
    audio: Option<usize>,
    formats: Vec<Format>,
    mux: bool,
    /// Which payload type meant which codec, ever since: none may come to mean another one (RFC 3264 §8.3.2).
    bound: Vec<(u8, Codec)>,
}

/// Ids and versions fit 62 bits (RFC 3264 §5).
const LARGEST_ID: u64 = (1 << 62) - 1;

impl Session {
    /// A session with this number, of which 62 bits are used. Guessing it must be of no use; it is best a random one.
    pub fn new(id: u64) -> Self {
        Self {
            id: id & LARGEST_ID,
            version: 0,
            rest: Vec::new(),
            lines: Vec::new(),
            audio: None,
            formats: Vec::new(),
            mux: false,
            bound: Vec::new(),
        }
    }

    /// Appends an offer: the audio line where it was before, other lines with port 0. `formats` keep their numbers
    /// unless one meant something else to this phone before ([`Self::formats`] has those that were written). `mux`:
    /// whether RTP and RTCP may share a port. `ptime`: the milliseconds of sound that are wanted in a packet.
    pub fn offer(
        &mut self,
        out: &mut Vec<u8>,
        us: Us,
        formats: &[Format],
        direction: Direction,
        mux: bool,
        ptime: Option<u16>,
    ) {
        self.mux = mux;
        self.formats = self.numbered(formats);
        let audio = self.audio.unwrap_or_else(|| self.new_audio());
        self.audio = Some(audio);
        self.lines[audio].formats = numbers(&self.formats);
        self.write(out, us, direction, ptime);
    }

    /// Appends the answer to `offer`: as many lines in the same order, all but audio with port 0; audio as well if
    /// nothing of it can be used or there are no `formats`. RTP and RTCP share a port if the offer says so.
    pub fn answer(&mut self, out: &mut Vec<u8>, offer: &Description, us: Us, formats: &[Format], direction: Direction) {
        self.lines.clone_from(&offer.lines);
        let audio = offer.audio.as_ref().filter(|_| !formats.is_empty());
        self.audio = audio.map(|audio| audio.line).filter(|line| *line < self.lines.len());
        self.mux = audio.is_some_and(|audio| audio.mux);
        self.formats.clear();
        if let Some(line) = self.audio {
            self.formats.extend_from_slice(formats);
            self.lines[line].formats = numbers(formats);
            // Also what was offered and is not taken now: the phone's numbers are then used for it later on.
            offer.audio.iter().flat_map(|audio| &audio.formats).chain(formats).for_each(|format| self.bind(format));
        }
        self.write(out, us, direction, None);
    }

    /// Appends the last description once more, same version: for a retransmission, or to refresh the session. `false`:
    /// there was none.
    pub fn repeat(&self, out: &mut Vec<u8>) -> bool {
        if self.version == 0 {
            return false;
        }
        out.extend_from_slice(format!("v=0\r\no=- {} {}", self.id, self.version).as_bytes());
        out.extend_from_slice(&self.rest);
        true
    }

    /// What of an answer to our last offer can be used.
    ///
    /// # Errors
    ///
    /// [`Contradiction`]: how it contradicts the offer.
    pub fn check(&self, answer: &Description) -> Result<Accepted, Contradiction> {
        let offered = self.audio.filter(|_| self.version > 0).ok_or(Contradiction::NoOffer)?;
        if answer.lines.len() != self.lines.len() {
            return Err(Contradiction::Lines { offered: self.lines.len(), answered: answer.lines.len() });
        }
        if answer.lines[offered].port == 0 {
            return Err(Contradiction::Refused);
        }
        let audio = answer.audio.as_ref().filter(|audio| audio.line == offered).ok_or(Contradiction::Unusable)?;
        let mut audio = audio.clone();
        audio.formats.retain(|format| self.formats.iter().any(|offered| offered.codec.is_same(&format.codec)));
        if !audio.formats.iter().any(|format| format.codec.is_speech()) {
            return Err(Contradiction::Formats);
        }
        // Whoever shares a port without having been offered that has to take RTCP where everybody does.
        if audio.mux && !self.mux {
            audio.mux = false;
            audio.rtcp.set_port(audio.rtp.port().saturating_add(1));
        }
        Ok(Accepted { audio })
    }

    /// The formats of our last description: what the phone may send us.
    pub fn formats(&self) -> &[Format] {
        &self.formats
    }

    /// The place of a new audio line. Where there was one that could not be used, for it has port 0 (RFC 3264 §8.1),
    /// else behind the others; if they are as many as there may be, in place of the last one.
    fn new_audio(&mut self) -> usize {
        let line = Line { media: "audio".into(), port: 0, proto: "RTP/AVP".into(), formats: Box::default() };
        let unused = self.lines.iter().position(|line| line.media.eq_ignore_ascii_case("audio"));
        let place = unused.unwrap_or(self.lines.len()).min(MAX_LINES - 1);
        match self.lines.get_mut(place) {
            Some(unused) => *unused = line,
            None => self.lines.push(line),
        }
        place
    }

    /// `formats` with numbers that mean nothing else to this phone, the dynamic ones of RFC 3551 §3 if need be; what the numbers do not suffice for is left out.
    fn numbered(&mut self, formats: &[Format]) -> Vec<Format> {
        let mut used = Vec::new();
        let mut numbered = Vec::new();
        for format in formats {
            let is_taken = |number: &u8| used.contains(number) || self.mux && taken_for_rtcp(*number);
            let meant = |number: &u8| self.bound.iter().find(|(bound, _)| bound == number).map(|(_, codec)| codec);
            let fits =
                |number: &u8| !is_taken(number) && meant(number).is_none_or(|codec| codec.is_same(&format.codec));
            let same = self.bound.iter().filter(|(_, codec)| codec.is_same(&format.codec)).map(|(number, _)| *number);
            let own = std::iter::once(format.payload_type).filter(|number| *number < 128);
            let spare = (96..128).chain(35..64).filter(|number| meant(number).is_none());
            if let Some(payload_type) = same.chain(own).chain(spare).find(fits) {
                used.push(payload_type);
                numbered.push(Format { payload_type, ..format.clone() });
            }
        }
        numbered.iter().for_each(|format| self.bind(format));
        numbered
    }

    fn bind(&mut self, format: &Format) {
        if !self.bound.iter().any(|(number, _)| *number == format.payload_type) {
            self.bound.push((format.payload_type, format.codec.clone()));
        }
    }

    /// Appends the description of what is noted; a version of its own if it is another one than before.
    fn write(&mut self, out: &mut Vec<u8>, us: Us, direction: Direction, ptime: Option<u16>) {
        let rest = self.text(us, direction, ptime).into_bytes();
        if self.version == 0 || rest != self.rest {
            self.version += 1;
            self.rest = rest;
        }
        self.repeat(out);
    }

    /// The description behind the version in `o=`.
    fn text(&self, us: Us, direction: Direction, ptime: Option<u16>) -> String {
        let ip = us.ip.to_canonical();
        let kind = if ip.is_ipv4() { "IP4" } else { "IP6" };
        let mut text = format!(" IN {kind} {ip}\r\ns=-\r\nc=IN {kind} {ip}\r\nt=0 0\r\n");
        for (index, Line { media, proto, formats, .. }) in self.lines.iter().enumerate() {
            let is_audio = self.audio == Some(index) && !self.formats.is_empty();
            let port = if is_audio { us.pair.rtp } else { 0 };
            text += &format!("m={media} {port} {proto} {formats}\r\n");
            if is_audio {
                self.attributes(&mut text, direction, ptime);
            }
        }
        text
    }

    fn attributes(&self, text: &mut String, direction: Direction, ptime: Option<u16>) {
        for Format { payload_type, codec, fmtp } in &self.formats {
            *text += &format!("a=rtpmap:{payload_type} {codec}\r\n");
            if let Some(fmtp) = fmtp {
                *text += &format!("a=fmtp:{payload_type} {fmtp}\r\n");
            }
        }
        if let Some(ptime) = ptime {
            *text += &format!("a=ptime:{ptime}\r\n");
        }
        if self.mux {
            *text += "a=rtcp-mux\r\n";
        }
        *text += &format!("a={}\r\n", direction.text());
    }
}

/// The numbers as `m=` lists them. A line without any breaks the grammar: 0 stands for none, on port 0.
fn numbers(formats: &[Format]) -> Box<str> {
    let numbers: Vec<String> = formats.iter().map(|format| format.payload_type.to_string()).collect();
    if numbers.is_empty() { "0".into() } else { numbers.join(" ").into_boxed_str() }
}

#[cfg(test)]
mod tests;
