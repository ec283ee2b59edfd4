//! `pbx trace --dropped`: packets that the filter dropped, a line each, and as a capture that other tools read.

use std::{fs::File, io::Write as _, path::Path};

use pbx_core::time::Timestamp;
use serde_json::Value;

use super::{
    super::{
        Session,
        client::{query, typed},
        failure::Failure,
        render::{number, say},
    },
    clock,
};
use crate::{filter::Outcome, ops::DroppedView};

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Wanted<'a> {
    pub(in super::super) sources: &'a [String],
    pub(in super::super) reasons: &'a [String],
    /// The end comes after so many.
    pub(in super::super) count: Option<u64>,
    pub(in super::super) pcap: Option<&'a Path>,
}

pub(in super::super) async fn trace(session: &Session, wanted: Wanted<'_>) -> Result<(), Failure> {
    let sources = wanted.sources.iter().map(|source| ("ip", source.as_str()));
    let reasons = wanted.reasons.iter().map(|reason| ("reason", reason.as_str()));
    let pairs: Vec<(&str, &str)> = sources.chain(reasons).collect();
    let mut stream = session.client.stream(&format!("/api/trace/dropped{}", query(&pairs))).await?;
    let mut capture = wanted.pcap.map(Capture::create).transpose()?;
    if !session.json {
        let until = wanted.count.map_or_else(|| "Ctrl-C".to_owned(), |count| format!("{} have come", number(count)));
        eprintln!("pbx: packets that the filter drops, as far as they are sampled, times in UTC, until {until}");
    }
    let mut left = wanted.count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some((name, data)) = stream.next().await? else {
            return Err(Failure::NoDaemon("the daemon ended".to_owned()));
        };
        left -= u64::from(name == "packet");
        show(session, &name, data, capture.as_mut())?;
    }
    Ok(())
}

fn show(session: &Session, name: &str, data: Value, capture: Option<&mut Capture<'_>>) -> Result<(), Failure> {
    if name == "packet"
        && let Some(capture) = capture
    {
        capture.add(&typed(data.clone())?)?;
    }
    if session.json {
        say(data);
    } else if name == "lost" {
        say(format!("… {} samples were lost", number(data["lost"].as_u64().unwrap_or(0))));
    } else {
        say(line(&typed(data)?));
    }
    Ok(())
}

/// When, where, why, from whom to whom, how much, what.
fn line(view: &DroppedView) -> String {
    let end = |addr: Option<std::net::IpAddr>, port: Option<u16>| match (addr, port) {
        (None, _) => "?".to_owned(),
        (Some(addr), None) => addr.to_string(),
        (Some(addr), Some(port)) => std::net::SocketAddr::new(addr, port).to_string(),
    };
    let one_of = if view.one_of > 1 { format!(" (1 of {})", number(view.one_of)) } else { String::new() };
    let passed = if view.outcome == Outcome::WouldDrop { " (passed)" } else { "" };
    let text = view.text.as_ref().map(|text| format!("  {text}")).unwrap_or_default();
    format!(
        "{}  {}  {}{passed}  {} → {}  {} {} bytes{one_of}{text}",
        clock(view.time),
        view.interface.as_deref().unwrap_or("-"),
        view.reason,
        end(view.source, view.source_port),
        end(view.destination, view.destination_port),
        view.protocol.as_deref().unwrap_or("-"),
        number(u64::from(view.length)),
    )
}

/// A classic pcap file of Ethernet frames, times in microseconds. Each packet is in the file when it has been shown.
#[derive(Debug)]
struct Capture<'a> {
    file: File,
    path: &'a Path,
}

/// More than a sample ever has.
const SNAPSHOT: u32 = 1 << 16;
/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;

impl<'a> Capture<'a> {
    fn create(path: &'a Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| failed(path, &error))?;
        let mut capture = Self { file, path };
        let mut header = 0xa1b2_c3d4_u32.to_ne_bytes().to_vec();
        header.extend([2u16, 4].map(u16::to_ne_bytes).as_flattened());
        header.extend([0, 0, SNAPSHOT, ETHERNET].map(u32::to_ne_bytes).as_flattened());
        capture.write(&header)?;
        Ok(capture)
    }

    fn add(&mut self, view: &DroppedView) -> Result<(), Failure> {
        let record = record(view.time, view.length, &view.captured)
            .ok_or_else(|| Failure::Usage(format!("the daemon sent a packet that is none: {:.40}", view.captured)))?;
        self.write(&record)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| failed(self.path, &error))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Usage(format!("cannot write {}: {error}", path.display()))
}

/// A record: when, how much of the frame is here, how long it was.
fn record(at: Timestamp, length: u32, hexadecimal: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        hexadecimal.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or(0)).collect();
    let ms = u64::try_from(at.as_millis()).ok()?;
    let captured = u32::try_from(bytes.len()).ok()?;
    let header = [(ms / 1000) as u32, (ms % 1000) as u32 * 1000, captured, length.max(captured)];
    let mut record = header.map(u32::to_ne_bytes).as_flattened().to_vec();
    record.extend(bytes);
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> DroppedView {
        DroppedView {
            time: "2026-11-23T06:51:41.050Z".parse().unwrap(),
            interface: Some("eth0".into()),
            reason: "automatic-block".into(),
            outcome: Outcome::Dropped,
            protocol: Some("udp".into()),
            source: "2001:db8::7".parse().ok(),
            source_port: Some(5062),
            destination: "2001:db8::1".parse().ok(),
            destination_port: Some(5060),
            length: 1018,
            one_of: 1024,
            text: Some("OPTIONS sip:100@a SIP/2.0".into()),
            captured: "00ff10".into(),
        }
    }

    #[test]
    fn a_line_says_when_where_why_who_and_what() {
        assert_eq!(
            line(&view()),
            "06:51:41.050  eth0  automatic-block  [2001:db8::7]:5062 → [2001:db8::1]:5060  udp 1 018 bytes (1 of 1 024)  OPTIONS sip:100@a SIP/2.0"
        );
        let broken = DroppedView {
            reason: "would-malformed".into(),
            outcome: Outcome::WouldDrop,
            protocol: None,
            source: None,
            destination: None,
            interface: None,
            text: None,
            one_of: 1,
            ..view()
        };
        assert_eq!(line(&broken), "06:51:41.050  -  would-malformed (passed)  ? → ?  - 1 018 bytes");
    }

    #[test]
    fn a_record_of_a_capture_has_both_lengths_and_the_bytes() {
        let record = record(view().time, 1018, &view().captured).unwrap();
        let numbers: Vec<u32> =
            record[..16].chunks(4).map(|four| u32::from_ne_bytes(four.try_into().unwrap())).collect();
        assert_eq!(numbers[1..], [50_000, 3, 1018]);
        assert_eq!(record[16..], [0, 255, 16]);
        assert!(super::record(view().time, 9, "zz").is_none());
    }
}
