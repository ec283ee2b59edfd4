//! Messages that are longer than a packet: UDP peers stay on UDP.

use anyhow::ensure;
use pbx_tests::site::on_site;

use super::{Side, assert_hear_each_other, hang_up, sound, wait_no_calls};

/// Bytes of an INVITE that does not fit into an Ethernet frame.
const LONG: usize = 1900;

#[test]
fn an_invite_of_1900_bytes_comes_and_goes_by_udp() {
    on_site(|site, daemon| {
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        let (mut caller, mut callee) = (site.handset(good, "200")?, site.handset(bad, "201")?);
        let (media, other) = (sound(good, 440)?, sound(bad, 700)?);
        // The description is what the other phone is told too: with codecs whose parameters are long.
        let mut body = media.sdp().formats(&[0, 96, 97, 98, 101]).text(1);
        for format in 96..=98 {
            let parameters = format!("x-long={}", format!("{format}").repeat(200));
            body += &format!("a=rtpmap:{format} opus/48000/2\r\na=fmtp:{format} {parameters}\r\n");
        }
        let more = format!("X-Long: {}\r\n", "long ".repeat(200));
        let mut call = caller.call_with("201", &more, &body)?;
        let sent = call.invite.to_string().len();
        ensure!(sent > LONG, "only {sent} bytes");
        let mut taken = callee.incoming()?;
        let came = taken.invite.to_string().len();
        ensure!(came > LONG, "only {came} bytes:\n{}", taken.invite);
        ensure!(taken.invite.header("Via").starts_with("SIP/2.0/UDP "), "{}", taken.invite);
        let to = taken.invite.media()?;
        callee.answer(&mut taken, &other.sdp())?;
        let to_one = caller.wait_answered(&mut call)?.media()?;
        callee.wait_ack(&taken)?;
        let mut one = Side { phone: caller, call, media, to: to_one };
        let mut two = Side { phone: callee, call: taken, media: other, to };
        assert_hear_each_other(&mut one, &mut two)?;
        hang_up(&mut one, &mut two)?;
        wait_no_calls(site)?;
        daemon.stop()
    });
}
