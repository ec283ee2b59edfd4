//! From bytes to a description. The first pass finds the media lines and what holds for all of them, the second one
//! reads the lines of one audio line after the other until one can be used.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use super::{
    Audio, Codec, Description, Direction, Fault, Format, Line, MAX_FMTP, MAX_FORMATS, MAX_LINES, taken_for_rtcp,
    visible,
};

/// What may stand for the whole session, and for one media line instead.
#[derive(Clone, Copy, Default)]
struct Level {
    /// The address of the first `c=`; inside: none that can be used.
    connection: Option<Option<IpAddr>>,
    direction: Option<Direction>,
    ptime: Option<u16>,
}

impl Level {
    fn attribute(&mut self, name: &[u8], value: &[u8]) {
        match (name, Direction::of(name)) {
            (_, Some(direction)) => _ = self.direction.get_or_insert(direction),
            (b"ptime", _) => self.ptime = self.ptime.or(number(value.trim_ascii()).filter(|ptime| *ptime > 0)),
            _ => (),
        }
    }

    /// What holds for a media line in this session.
    fn or(self, session: Self) -> Self {
        Self {
            connection: self.connection.or(session.connection),
            direction: self.direction.or(session.direction),
            ptime: self.ptime.or(session.ptime),
        }
    }
}

pub(super) fn description(body: &[u8]) -> Result<Description, Fault> {
    let mut session = Level::default();
    let mut origin = None;
    let mut media: Vec<(Line, &[u8])> = Vec::new();
    let mut has_version = false;
    for (count, (line, after)) in Lines(body).enumerate() {
        let number = count + 1;
        let line = line.trim_ascii_end();
        if line.is_empty() {
            continue;
        }
        let (letter, value) = match line {
            [letter, b'=', value @ ..] if letter.is_ascii_alphabetic() => (*letter, value),
            _ if has_version => return Err(Fault::Shape(number)),
            _ => return Err(Fault::Version),
        };
        if !has_version {
            if (letter, value) != (b'v', b"0") {
                return Err(Fault::Version);
            }
            has_version = true;
            continue;
        }
        match (letter, media.is_empty()) {
            (b'm', _) if media.len() == MAX_LINES => return Err(Fault::TooManyMedia),
            (b'm', _) => media.push((media_line(value).ok_or(Fault::Media(number))?, after)),
            (b'c', in_session) => {
                let address = connection(value).ok_or(Fault::Connection(number))?;
                if in_session {
                    session.connection.get_or_insert(address);
                }
            }
            (b'o', true) if origin.is_none() => origin = Some(ids(value).ok_or(Fault::Origin)?),
            (b'a', true) => {
                let (name, value) = attribute(value);
                session.attribute(name, value);
            }
            _ => (),
        }
    }
    if !has_version {
        return Err(Fault::Version);
    }
    let origin = origin.ok_or(Fault::Origin)?;
    let audio = media.iter().enumerate().find_map(|(index, (line, after))| audio(index, line, Lines(after), session));
    Ok(Description { lines: media.into_iter().map(|(line, _)| line).collect(), audio, origin })
}

/// The lines without their ends, each with what follows it.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (line, after) = match memchr::memchr(b'\n', self.0) {
            Some(end) => (&self.0[..end], &self.0[end + 1..]),
            None => (self.0, &[][..]),
        };
        self.0 = after;
        Some((line, after))
    }
}

/// Session id and version of `o=`. Counted from its end: a user's name with a space in it breaks the grammar, and is
/// seen.
fn ids(value: &[u8]) -> Option<(u64, u64)> {
    let words: Vec<&[u8]> = words(value).collect();
    let [.., _, id, version, _, _, _] = words[..] else { return None };
    let saturating = |digits: &[u8]| {
        let is_number = digits.iter().all(u8::is_ascii_digit);
        is_number.then(|| number(digits).unwrap_or(u64::MAX))
    };
    Some((saturating(id)?, saturating(version)?))
}

/// The address of `c=`: `Some(None)` when it is well-formed and no use.
fn connection(value: &[u8]) -> Option<Option<IpAddr>> {
    let mut words = words(value);
    let (network, kind, address) = (words.next()?, words.next()?, words.next()?);
    Some(literal(network, kind, address))
}

/// An address that is one host's, or the unspecified one. Names are not resolved; IPv4-mapped addresses are IPv4.
fn literal(network: &[u8], kind: &[u8], address: &[u8]) -> Option<IpAddr> {
    let is_ip = kind.eq_ignore_ascii_case(b"IP4") || kind.eq_ignore_ascii_case(b"IP6");
    if !network.eq_ignore_ascii_case(b"IN") || !is_ip {
        return None;
    }
    let address: IpAddr = std::str::from_utf8(address).ok()?.parse().ok()?;
    let address = address.to_canonical();
    (!address.is_multicast() && address != IpAddr::V4(Ipv4Addr::BROADCAST)).then_some(address)
}

/// What stands behind `m=`.
fn media_line(value: &[u8]) -> Option<Line> {
    let mut words = words(value);
    let media = visible(words.next()?)?;
    let port = words.next()?;
    // A number of ports may follow behind a slash; only the first one is of use here.
    let port = number(port.split(|byte| *byte == b'/').next()?)?;
    let proto = visible(words.next()?)?;
    let mut formats = String::new();
    for word in words.take(MAX_FORMATS) {
        let space = if formats.is_empty() { "" } else { " " };
        formats.push_str(space);
        formats.push_str(visible(word)?);
    }
    (!formats.is_empty()).then(|| Line {
        media: media.into(),
        port,
        proto: proto.into(),
        formats: formats.into_boxed_str(),
    })
}

/// Name and value of `a=`; an attribute without a colon has an empty value.
fn attribute(value: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', value) {
        Some(colon) => (&value[..colon], &value[colon + 1..]),
        None => (value, &[]),
    }
}

/// What the attributes of one media line say.
struct Attributes<'a> {
    level: Level,
    rtcp: Option<(u16, Option<IpAddr>)>,
    mux: bool,
    /// What stands behind the number of `a=rtpmap` and `a=fmtp`, by payload type.
    maps: [&'a [u8]; 128],
    parameters: [Option<&'a [u8]>; 128],
}

impl<'a> Attributes<'a> {
    /// Reads up to the next media line. Of what stands twice, the first counts.
    fn read(lines: Lines<'a>) -> Self {
        let mut found =
            Self { level: Level::default(), rtcp: None, mux: false, maps: [&[]; 128], parameters: [None; 128] };
        for (line, _) in lines {
            match line.trim_ascii_end() {
                [b'm', b'=', ..] => break,
                [b'c', b'=', value @ ..] => {
                    found.level.connection = found.level.connection.or(connection(value));
                }
                [b'a', b'=', value @ ..] => found.attribute(attribute(value)),
                _ => (),
            }
        }
        found
    }

    fn attribute(&mut self, (name, value): (&'a [u8], &'a [u8])) {
        match name {
            b"rtcp-mux" => self.mux = true,
            b"rtcp" => self.rtcp = self.rtcp.or(rtcp(value)),
            b"rtpmap" => {
                if let Some((payload_type, map)) = numbered(value)
                    && self.maps[payload_type].is_empty()
                {
                    self.maps[payload_type] = map;
                }
            }
            b"fmtp" => {
                if let Some((payload_type, parameters)) = numbered(value) {
                    self.parameters[payload_type].get_or_insert(parameters);
                }
            }
            _ => self.level.attribute(name, value),
        }
    }

    /// The format with this number, if it is known and can be used.
    fn format(&self, payload_type: u8) -> Option<Format> {
        if self.mux && taken_for_rtcp(payload_type) {
            return None;
        }
        let index = usize::from(payload_type);
        let codec = Codec::parse(self.maps.get(index)?).or_else(|| Codec::fixed(payload_type))?;
        let fmtp = match self.parameters[index] {
            Some(text) if text.len() > MAX_FMTP || !text.iter().all(|byte| matches!(byte, b' '..=b'~')) => return None,
            Some(text) => std::str::from_utf8(text).ok().filter(|text| !text.is_empty()).map(Into::into),
            None => None,
        };
        Some(Format { payload_type, codec, fmtp })
    }
}

/// A payload type, and what stands behind it.
fn numbered(value: &[u8]) -> Option<(usize, &[u8])> {
    let value = value.trim_ascii_start();
    let (digits, rest) = value.split_at(value.iter().position(|byte| is_space(*byte))?);
    let payload_type = number(digits).filter(|number| *number < 128)?;
    Some((payload_type, rest.trim_ascii()))
}

/// Port and address of `a=rtcp` (RFC 3605 §2.1).
fn rtcp(value: &[u8]) -> Option<(u16, Option<IpAddr>)> {
    let mut words = words(value);
    let port = number(words.next()?).filter(|port| *port > 0)?;
    let address = match (words.next(), words.next(), words.next()) {
        (Some(network), Some(kind), Some(address)) => literal(network, kind, address),
        _ => None,
    };
    Some((port, address))
}

/// The audio line at `index`, if it is one that can be used.
fn audio(index: usize, line: &Line, lines: Lines<'_>, session: Level) -> Option<Audio> {
    let is_rtp = line.proto.eq_ignore_ascii_case("RTP/AVP") || line.proto.eq_ignore_ascii_case("RTP/AVPF");
    if !line.media.eq_ignore_ascii_case("audio") || line.port == 0 || !is_rtp {
        return None;
    }
    let attributes = Attributes::read(lines);
    let level = attributes.level.or(session);
    let ip = level.connection??;
    let mut formats: Vec<Format> = Vec::new();
    let mut seen = 0_u128;
    for payload_type in line.formats.split(' ').filter_map(|word| number::<u8>(word.as_bytes())) {
        let bit = 1_u128.checked_shl(payload_type.into()).unwrap_or(0);
        if seen & bit == 0
            && let Some(format) = attributes.format(payload_type)
        {
            formats.push(format);
        }
        seen |= bit;
    }
    if formats.is_empty() {
        return None;
    }
    let rtp = SocketAddr::new(ip, line.port);
    let rtcp = match attributes.rtcp {
        _ if attributes.mux => rtp,
        Some((port, address)) => SocketAddr::new(address.unwrap_or(ip), port),
        // There is no port above the last one: whoever wants RTP there gets RTCP there as well.
        None => SocketAddr::new(ip, line.port.saturating_add(1)),
    };
    let wanted = level.direction.unwrap_or_default();
    let direction = match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) | IpAddr::V6(Ipv6Addr::UNSPECIFIED) => wanted.and(Direction::SendOnly),
        _ => wanted,
    };
    Some(Audio { line: index, rtp, rtcp, mux: attributes.mux, direction, formats, ptime: level.ptime })
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The words between spaces.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| is_space(*byte)).filter(|word| !word.is_empty())
}

/// Digits and nothing else, of a number that fits.
fn number<T: FromStr>(text: &[u8]) -> Option<T> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
