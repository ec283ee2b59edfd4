//! What no phone should send: each has a clear answer, and the other calls go on.

use std::time::Instant;

use anyhow::{Result, ensure};
use pbx_tests::{
    daemon::DEADLINE,
    phone::Handset,
    site::{Site, on_site},
};

use super::{MOMENT, Side, assert_hear_each_other, hang_up, sound, two_in_a_call, wait_no_calls, wait_record};

/// Runs `test` beside a call, which has to go on.
fn beside_a_call(test: impl FnOnce(&Site, &mut Side, &mut Side) -> Result<()> + Send) {
    on_site(|site, daemon| {
        let (mut one, mut two) = two_in_a_call(site, ["200", "201"])?;
        assert_hear_each_other(&mut one, &mut two)?;
        test(site, &mut one, &mut two)?;
        assert_hear_each_other(&mut one, &mut two)?;
        hang_up(&mut one, &mut two)?;
        wait_no_calls(site)?;
        assert_eq!(site.pbx.pbx("block list")?["items"].as_array().map(Vec::len), Some(0));
        daemon.stop()
    });
}

#[test]
fn offers_that_cannot_be_taken_are_answered_488() {
    beside_a_call(|site, _, _| {
        let password = site.add("203")?;
        let mut caller = Handset::new(site.tcp(&site.lab.good)?, "203", &password);
        caller.register()?;
        let media = sound(&site.lab.good, 1000)?;
        let good = media.sdp().text(1);
        let lines = "m=audio 40000 RTP/AVP 0\r\n".repeat(500);
        let events_alone = media.sdp().formats(&[101]).text(1);
        let codec_of_nobody = good.replace("RTP/AVP 0 101", "RTP/AVP 77").replace("rtpmap:0 PCMU", "rtpmap:77 NOBODY");
        let mut callee = site.handset(&site.lab.bad, "204")?;
        for (what, body, rings) in [
            ("500 media lines", good.clone() + &lines, false),
            ("no codec but events", events_alone, false),
            ("a codec that the other phone has not", codec_of_nobody, true),
        ] {
            let mut call = caller.call_with("204", "", &body)?;
            if rings {
                let taken = callee.incoming()?;
                ensure!(taken.invite.body.contains("NOBODY/8000"), "{}", taken.invite);
                callee.refuse(&taken, "488 Not Acceptable Here")?;
            }
            let refusal = caller.wait_refused(&mut call)?;
            assert_eq!(refusal.status(), Some(488), "{what}: {refusal}");
            let record = wait_record(site, |record| record["dialled"] == "204" && record["status"] == 488)?;
            assert_eq!(record["disposition"], "failed", "{record:#}");
        }
        ensure!(callee.incoming_within(MOMENT)?.is_none(), "it rang for an offer that nobody can take");
        Ok(())
    });
}

#[test]
fn an_answer_that_contradicts_its_offer_ends_that_call_only() {
    beside_a_call(|site, _, _| {
        let (mut caller, mut callee) = (site.handset(&site.lab.good, "203")?, site.handset(&site.lab.bad, "204")?);
        let media = sound(&site.lab.good, 1000)?;
        let good = media.sdp().text(1);
        let other_codec = good.replace("RTP/AVP 0 101", "RTP/AVP 9").replace("rtpmap:0 PCMU", "rtpmap:9 G722");
        for answer in [other_codec, good.clone() + "m=video 40000 RTP/AVP 96\r\n", "v=0\r\nnonsense".to_owned()] {
            let mut call = caller.call("204", &media.sdp().formats(&[0]))?;
            let taken = callee.incoming()?;
            callee.answer_with(&taken, &answer)?;
            callee.wait_ack(&taken)?;
            callee.wait_bye(&taken)?;
            let refusal = caller.wait_refused(&mut call)?;
            ensure!(refusal.status().is_some_and(|status| [488, 500, 502].contains(&status)), "{refusal}");
        }
        Ok(())
    });
}

#[test]
fn a_request_for_a_foreign_dialog_is_answered_481() {
    beside_a_call(|site, one, _| {
        let mut stranger = site.handset(&site.lab.bad, "203")?;
        // With tags that nobody has, and with those of a call of others.
        let mut call = one.call.clone();
        let status = stranger.bye(&mut call)?;
        ensure!([401, 403, 407, 481].contains(&status), "{status}");
        call.id += "-nobody";
        assert_eq!(stranger.bye(&mut call)?, 481);
        let mut call = one.call.clone();
        let refer = stranger.refer(&mut call, "203")?;
        ensure!(refer.status().is_some_and(|status| status >= 400), "{refer}");
        Ok(())
    });
}

#[test]
fn transfers_and_forwards_in_a_circle_end() {
    beside_a_call(|site, one, _| {
        // To whom it speaks with, who would call itself, and to itself, who is called and declines.
        let answer = one.phone.refer(&mut one.call, "201")?;
        assert_eq!(answer.status(), Some(202), "{answer}");
        assert_eq!(one.phone.wait_referred(&one.call)?, 486);
        let answer = one.phone.refer(&mut one.call, "200")?;
        assert_eq!(answer.status(), Some(202), "{answer}");
        let taken = one.phone.incoming()?;
        one.phone.refuse(&taken, "486 Busy Here")?;
        assert_eq!(one.phone.wait_referred(&one.call)?, 486);
        // What goes on and on is stopped.
        let refused = (0..10).find_map(|_| match one.phone.refer(&mut one.call, "299") {
            Ok(answer) if answer.status() == Some(202) => one.phone.wait_referred(&one.call).err().map(Err),
            other => Some(other),
        });
        let refused = refused.ok_or_else(|| anyhow::anyhow!("ten transfers of a call were carried out"))??;
        assert_eq!(refused.status(), Some(482), "{refused}");
        for (number, next) in [("210", "211"), ("211", "212"), ("212", "210")] {
            site.add(number)?;
            site.pbx.pbx(&format!("ext set {number} --forward-always {next}"))?;
        }
        let (mut caller, media) = (site.handset(&site.lab.good, "203")?, sound(&site.lab.good, 1000)?);
        let mut call = caller.call("210", &media.sdp())?;
        let refusal = caller.wait_refused(&mut call)?;
        ensure!(refusal.status().is_some_and(|status| status >= 400), "{refusal}");
        wait_record(site, |record| record["dialled"] == "210" && record["disposition"] != "open")?;
        Ok(())
    });
}

#[test]
fn a_port_range_that_is_used_up_is_answered_503_and_the_record_says_why() {
    on_site(|site, mut daemon| {
        let warned = "all ports of filter.media_ports are in use";
        daemon.expect(warned);
        site.pbx.pbx("guard set filter.media_ports=46000-46003")?;
        daemon.stop()?;
        let mut daemon = site.pbx.start()?;
        daemon.expect(warned);
        let (mut one, mut two) = two_in_a_call(site, ["200", "201"])?;
        let (mut caller, mut callee) = (site.handset(&site.lab.good, "203")?, site.handset(&site.lab.bad, "204")?);
        let (media, other) = (sound(&site.lab.good, 1000)?, sound(&site.lab.bad, 600)?);
        let mut call = caller.call("204", &media.sdp())?;
        assert_eq!(caller.wait_refused(&mut call)?.status(), Some(503));
        let record = wait_record(site, |record| record["dialled"] == "204" && record["status"] == 503)?;
        ensure!(record["why"].as_str().is_some_and(|why| why.contains("port")), "{record:#}");
        ensure!(callee.incoming_within(MOMENT)?.is_none(), "it rang all the same");
        assert_hear_each_other(&mut one, &mut two)?;
        hang_up(&mut one, &mut two)?;
        wait_no_calls(site)?;
        // The ports are in quarantine for a while; then they serve again.
        let begin = Instant::now();
        let (mut call, mut taken) = loop {
            let mut call = caller.call("204", &media.sdp())?;
            if let Some(taken) = callee.incoming_within(MOMENT)? {
                break (call, taken);
            }
            assert_eq!(caller.wait_refused(&mut call)?.status(), Some(503));
            ensure!(begin.elapsed() < DEADLINE, "the ports never come back");
        };
        callee.answer(&mut taken, &other.sdp())?;
        let to = (caller.wait_answered(&mut call)?.media()?, taken.invite.media()?);
        callee.wait_ack(&taken)?;
        let mut one = Side { phone: caller, call, media, to: to.0 };
        let mut two = Side { phone: callee, call: taken, media: other, to: to.1 };
        assert_hear_each_other(&mut one, &mut two)?;
        hang_up(&mut one, &mut two)?;
        daemon.stop()
    });
}
