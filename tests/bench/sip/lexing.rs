//! An INVITE as a phone sends it, lexed by us and by rsip, in interleaved rounds of one thread. Without a parameter in
//! quotes, which rsip does not read.

use std::hint::black_box;

use anyhow::{Context as _, Result, ensure};
use pbx_core::wire::sip::{Message, Origin};
use rsip::{SipMessage, headers::ToTypedHeader as _, message::HeadersExt as _};

use super::{
    Effort,
    timed::{Cost, timed},
};
use crate::report::{Compared, Report, Spread};

/// Messages of a round.
const TIMES: u32 = 20_000;

const INVITE: &str = "INVITE sip:200@pbx.example.com;user=phone SIP/2.0
Via: SIP/2.0/UDP 192.168.1.23:5060;branch=z9hG4bK1886733404;rport
From: \"Alice Arendt\" <sip:100@pbx.example.com>;tag=3471226031
To: <sip:200@pbx.example.com;user=phone>
Call-ID: 0_2184036293@192.168.1.23
CSeq: 2 INVITE
Contact: <sip:100@192.168.1.23:5060>;expires=300
Session-Expires: 1800;refresher=uac
Min-SE: 90
Accept: application/sdp
Privacy: none
Authorization: Digest username=\"100\", realm=\"pbx.example.com\", nonce=\"9f3b2a77c1d04e5f8a6b\", uri=\"sip:200@pbx.example.com;user=phone\", response=\"d2c1a8f6b9f0a2e7c4d3b2a190807060\", algorithm=MD5, cnonce=\"0a4f113b\", qop=auth, nc=00000001
Content-Type: application/sdp
Allow: INVITE, INFO, PRACK, ACK, BYE, CANCEL, OPTIONS, NOTIFY, REGISTER, SUBSCRIBE, REFER, PUBLISH, UPDATE, MESSAGE
Max-Forwards: 70
User-Agent: Yealink SIP-T46U 108.86.0.45
Supported: replaces
Allow-Events: talk,hold,conference,refer,check-sync
Content-Length: 246

v=0
o=- 20021 20021 IN IP4 192.168.1.23
s=SDP data
c=IN IP4 192.168.1.23
t=0 0
m=audio 11796 RTP/AVP 9 0 8 101
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=sendrecv
";

/// Measures it.
pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let invite = INVITE.replace('\n', "\r\n").into_bytes();
    let size = invite.len();
    ensure!(ours_typed(&invite), "we have to read the whole message");
    theirs_typed(&invite).context("rsip has to read the whole message")?;
    compare(
        &format!("an INVITE of {size} bytes, lexed"),
        1000.0,
        effort,
        || _ = black_box(ours(black_box(&invite))),
        || _ = black_box(SipMessage::try_from(black_box(&*invite))),
        report,
    )?;
    compare(
        &format!("an INVITE of {size} bytes, with Via, From, To, CSeq and Contact read"),
        2000.0,
        effort,
        || _ = black_box(ours_typed(black_box(&invite))),
        || _ = black_box(theirs_typed(black_box(&invite))),
        report,
    )
}

fn compare(
    case: &str,
    target: f64,
    effort: Effort,
    mut ours: impl FnMut(),
    mut theirs: impl FnMut(),
    report: &mut Report,
) -> Result<()> {
    let rounds = effort.rounds;
    let (mut costs, mut peers) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    // The first round warms up.
    for round in 0..=rounds {
        let cost = [timed(TIMES, &mut ours)?, timed(TIMES / 10, &mut theirs)?];
        if round > 0 {
            costs.push(cost[0]);
            peers.push(cost[1]);
        }
    }
    let nanoseconds = |costs: &[Cost]| costs.iter().map(|cost| cost.nanoseconds).collect::<Vec<_>>();
    let (ours, theirs) = (nanoseconds(&costs), nanoseconds(&peers));
    report.spread(case, Spread::of(ours.iter().copied()), "ns", Some(target));
    let most = |costs: &[Cost]| costs.iter().map(|cost| cost.allocations).fold(0.0, f64::max);
    report.figure(format!("{case}: allocations"), most(&costs), "allocations", Some(0.0));
    report.figure(format!("{case}: allocations of rsip"), most(&peers), "allocations", None);
    report.compared.push(Compared::of(case, &ours, "rsip", &theirs));
    Ok(())
}

fn ours(bytes: &[u8]) -> Option<Message<&[u8]>> {
    Message::parse(bytes, Origin::Datagram).ok()
}

/// Whether everything was there.
fn ours_typed(bytes: &[u8]) -> bool {
    let Some(message) = ours(bytes) else { return false };
    message.via().is_ok_and(|via| via.branch().is_some())
        && message.from().is_ok_and(|from| from.tag().is_some() && from.uri().is_ok())
        && message.to().is_ok_and(|to| to.tag().is_none() && to.uri().is_ok())
        && message.cseq().is_ok()
        && message.contacts().all(|contact| contact.is_ok())
}

fn theirs_typed(bytes: &[u8]) -> Result<()> {
    let message = SipMessage::try_from(bytes)?;
    black_box(message.via_header()?.typed()?.branch().context("a branch")?);
    black_box(message.from_header()?.typed()?.tag().context("a tag")?);
    black_box(message.to_header()?.typed()?.uri);
    black_box(message.cseq_header()?.typed()?);
    black_box(message.contact_header()?.typed()?);
    Ok(())
}
