//! What is done with a call that goes on: hold, transfer, and who answers first.

use anyhow::ensure;
use pbx_tests::{
    phone::{media, number_of},
    site::on_site,
};

use super::{
    MOMENT, Side, assert_hear_each_other, attended, connect, hang_up, offer, sound, two_in_a_call, wait_no_calls,
    wait_record,
};

#[test]
fn who_holds_is_not_heard_and_is_again_afterwards() {
    on_site(|site, daemon| {
        let (mut one, mut two) = two_in_a_call(site, ["200", "201"])?;
        assert_hear_each_other(&mut one, &mut two)?;
        let held = one.media.sdp().direction("sendonly");
        let answer = offer(&mut one, &mut two, &held)?;
        ensure!(["recvonly", "inactive"].contains(&answer.sdp()?.direction.as_str()), "{answer}");
        let listed = site.pbx.pbx("call list")?;
        ensure!(listed["items"][0]["legs"].to_string().contains("held"), "{listed:#}");
        // Who is held is not heard by who holds.
        media::play(&mut [(&mut two.media, two.to)], MOMENT)?;
        one.media.take()?;
        assert_eq!(one.media.forget().packets, 0);

        let resumed = one.media.sdp();
        assert_eq!(offer(&mut one, &mut two, &resumed)?.sdp()?.direction, "sendrecv");
        assert_hear_each_other(&mut one, &mut two)?;
        // The other side may as well.
        let held = two.media.sdp().direction("inactive");
        assert_eq!(offer(&mut two, &mut one, &held)?.sdp()?.direction, "inactive");
        let resumed = two.media.sdp();
        offer(&mut two, &mut one, &resumed)?;
        assert_hear_each_other(&mut one, &mut two)?;
        hang_up(&mut one, &mut two)?;
        wait_no_calls(site)?;
        daemon.stop()
    });
}

#[test]
fn a_blind_transfer_connects_the_other_two() {
    on_site(|site, daemon| {
        let (mut one, mut two) = two_in_a_call(site, ["200", "201"])?;
        let (mut third, media) = (site.handset(&site.lab.good, "202")?, sound(&site.lab.good, 1000)?);
        let (taken, _) = attended(&mut [&mut two], || {
            let answer = one.phone.refer(&mut one.call, "202")?;
            ensure!(answer.status() == Some(202), "{answer}");
            let mut taken = third.incoming()?;
            // Whose call it is, not who transferred it.
            assert_eq!(number_of(taken.invite.header("From")), "201");
            third.answer(&mut taken, &media.sdp())?;
            third.wait_ack(&taken)?;
            assert_eq!(one.phone.wait_referred(&one.call)?, 200);
            Ok(taken)
        })?;
        let to = taken.invite.media()?;
        let mut three = Side { phone: third, call: taken, media, to };
        assert_hear_each_other(&mut two, &mut three)?;
        hang_up(&mut three, &mut two)?;
        wait_no_calls(site)?;
        let record = wait_record(site, |record| record["disposition"] == "answered")?;
        assert_eq!((&record["caller_number"], &record["dialled"]), (&"200".into(), &"201".into()), "{record:#}");
        daemon.stop()
    });
}

#[test]
fn a_transfer_to_nobody_leaves_the_call_as_it_was() {
    on_site(|site, daemon| {
        let (mut one, mut two) = two_in_a_call(site, ["200", "201"])?;
        let mut busy = site.handset(&site.lab.good, "202")?;
        for target in ["299", "202"] {
            let answer = one.phone.refer(&mut one.call, target)?;
            let status = match answer.status() {
                Some(202) => {
                    if target == "202" {
                        let taken = busy.incoming()?;
                        busy.refuse(&taken, "486 Busy Here")?;
                    }
                    Some(one.phone.wait_referred(&one.call)?)
                }
                refused => refused,
            };
            ensure!(status.is_some_and(|status| status >= 300), "{target}: {status:?}");
            assert_hear_each_other(&mut one, &mut two)?;
        }
        hang_up(&mut one, &mut two)?;
        wait_no_calls(site)?;
        daemon.stop()
    });
}

#[test]
fn an_attended_transfer_joins_two_calls_of_a_phone() {
    on_site(|site, daemon| {
        let (mut one, mut two) = two_in_a_call(site, ["200", "201"])?;
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        let held = one.media.sdp().direction("sendonly");
        offer(&mut one, &mut two, &held)?;
        // The same phone asks a third first, in a call of its own.
        let third = site.handset(bad, "202")?;
        let Side { phone, call: mut first_call, media: _, to: _ } = one;
        let (mut asking, mut three) = connect(phone, third, sound(good, 880)?, sound(bad, 1000)?)?;
        assert_hear_each_other(&mut asking, &mut three)?;

        let server = good.appliance_v4();
        let target = format!("sip:202@{server}?Replaces={}", asking.call.replaces());
        let ((), _) = attended(&mut [&mut two, &mut three], || {
            let answer = asking.phone.refer(&mut first_call, &target)?;
            ensure!(answer.status() == Some(202), "{answer}");
            assert_eq!(asking.phone.wait_referred(&first_call)?, 200);
            // The call that was replaced is ended by the appliance; the other one by it or by the phone.
            asking.phone.wait_bye(&asking.call)?;
            // Who was on hold has agreed to talk again.
            site.pbx.wait("call list", |list| {
                let legs = list["items"][0]["legs"].as_array();
                legs.is_some_and(|legs| legs.len() == 2 && legs.iter().all(|leg| leg["state"] == "talking"))
            })?;
            Ok(())
        })?;
        // Filter and relay knew of the new ports, and who speaks to them, before the phone that joins was asked to.
        media::play(&mut [(&mut two.media, two.to), (&mut three.media, three.to)], media::PACKET * 10)?;
        let missing = media::wait_packets(&mut [(&mut two.media, 10), (&mut three.media, 10)])?;
        ensure!(missing == 0, "{missing} of the first packets are missing");
        assert_hear_each_other(&mut two, &mut three)?;
        hang_up(&mut two, &mut three)?;
        wait_no_calls(site)?;
        daemon.stop()
    });
}

#[test]
fn the_first_phone_that_answers_has_the_call_and_the_others_stop_ringing() {
    on_site(|site, daemon| {
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        let (mut caller, mut here) = (site.handset(good, "200")?, site.handset(good, "201")?);
        let password = site.pbx.pbx("ext passwd 201")?;
        let password = password["generated_password"].as_str().unwrap_or_default();
        let mut there = pbx_tests::phone::Handset::new(site.udp(bad)?, "201", password);
        there.register()?;
        here.set_password(password);
        here.register()?;
        let (media, other) = (sound(good, 440)?, sound(bad, 700)?);

        let mut call = caller.call("201", &media.sdp())?;
        let (first, mut second) = (here.incoming()?, there.incoming()?);
        here.ring(&first)?;
        there.ring(&second)?;
        caller.wait_ringing(&mut call)?;
        there.answer(&mut second, &other.sdp())?;
        let to = caller.wait_answered(&mut call)?.media()?;
        there.wait_ack(&second)?;
        let cancel = here.wait_cancel(&first)?;
        ensure!(cancel.header("Reason").contains("200"), "{cancel}");
        let mut one = Side { phone: caller, call, media, to };
        let to = second.invite.media()?;
        let mut two = Side { phone: there, call: second, media: other, to };
        assert_hear_each_other(&mut one, &mut two)?;
        hang_up(&mut two, &mut one)?;
        let record = wait_record(site, |record| record["disposition"] == "answered")?;
        assert_eq!(record["ended_by"], "callee", "{record:#}");
        daemon.stop()
    });
}

#[test]
fn a_call_that_is_taken_back_or_declined_is_told_to_both_and_recorded() {
    on_site(|site, daemon| {
        let (mut caller, mut callee) = (site.handset(&site.lab.good, "200")?, site.handset(&site.lab.bad, "201")?);
        let media = sound(&site.lab.good, 440)?;
        let mut call = caller.call("201", &media.sdp())?;
        let taken = callee.incoming()?;
        callee.ring(&taken)?;
        caller.wait_ringing(&mut call)?;
        assert_eq!(caller.cancel(&mut call)?.status(), Some(487));
        callee.wait_cancel(&taken)?;
        wait_record(site, |record| record["disposition"] == "cancelled" && record["ended_by"] == "caller")?;

        let mut call = caller.call("201", &media.sdp())?;
        let taken = callee.incoming()?;
        callee.refuse(&taken, "486 Busy Here")?;
        assert_eq!(caller.wait_refused(&mut call)?.status(), Some(486));
        wait_record(site, |record| record["disposition"] == "busy" && record["status"] == 486)?;

        let mut call = caller.call("299", &media.sdp())?;
        assert_eq!(caller.wait_refused(&mut call)?.status(), Some(404));
        wait_record(site, |record| record["disposition"] == "failed" && record["dialled"] == "299")?;
        wait_no_calls(site)?;
        daemon.stop()
    });
}
