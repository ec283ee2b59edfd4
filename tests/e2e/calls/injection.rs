//! RTP that is not the phone's: from elsewhere, from the phone's own address, of no length and of too much of it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pbx_tests::{
    daemon::DEADLINE,
    phone::{Media, media},
    site::on_site,
};

use super::{Side, assert_hear_each_other, hang_up, sound, two_in_a_call, wait_no_calls};

/// Lets all play for two seconds, the intruders as well, to where the first side's phone sends. Nothing of it arrives.
fn assert_not_forwarded(one: &mut Side, two: &mut Side, intruders: &mut [Media]) -> Result<()> {
    one.media.forget();
    two.media.forget();
    let (to_one, to_two) = (one.to, two.to);
    let mut streams = vec![(&mut one.media, to_one), (&mut two.media, to_two)];
    streams.extend(intruders.iter_mut().map(|intruder| (intruder, to_one)));
    media::play(&mut streams, Duration::from_secs(2))?;
    media::wait_packets(&mut [(&mut one.media, 100), (&mut two.media, 100)])?;
    let (first, second) = (one.media.forget(), two.media.forget());
    ensure!((first.packets, second.packets) == (100, 100), "{:?} {:?}", first.streams, second.streams);
    ensure!(second.has(440) && !second.has(1000), "{:?}", second.streams);
    intruders.iter_mut().try_for_each(|intruder| {
        intruder.take()?;
        ensure!(intruder.taken.packets == 0, "an intruder is sent {:?}", intruder.taken.streams);
        Ok(())
    })
}

#[test]
fn packets_of_others_are_not_forwarded_while_media_run() {
    on_site(|site, daemon| {
        let (mut one, mut two) = two_in_a_call(site, ["200", "201"])?;
        assert_hear_each_other(&mut one, &mut two)?;
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        // From another address, from the phone's own one, and each as one who sees its packets would send.
        good.add_address("10.77.1.9".parse()?)?;
        let mut intruders = [
            sound(bad, 1000)?,
            sound(good, 1000)?,
            Media::open(&good.network, "10.77.1.9".parse()?, 1000)?,
            sound(good, 1000)?,
        ];
        intruders[2].imitate(&one.media);
        intruders[3].imitate(&one.media);
        assert_not_forwarded(&mut one, &mut two, &mut intruders)?;
        // Nor from another address when the phone itself is silent.
        two.media.forget();
        let (own, other) = (one.to, &mut intruders[2]);
        media::play(&mut [(other, own)], Duration::from_secs(3))?;
        two.media.take()?;
        assert_eq!(two.media.forget().packets, 0);
        assert_hear_each_other(&mut one, &mut two)?;
        let listed = site.pbx.pbx("call list")?;
        let refused = listed["items"][0]["legs"][0]["refused"].as_u64();
        ensure!(refused.is_some_and(|refused| refused >= 400), "{listed:#}");
        hang_up(&mut one, &mut two)?;
        wait_no_calls(site)?;
        daemon.stop()
    });
}

#[test]
fn packets_that_are_no_rtp_or_too_long_are_not_forwarded_and_the_call_goes_on() {
    on_site(|site, daemon| {
        let (mut one, mut two) = two_in_a_call(site, ["200", "201"])?;
        assert_hear_each_other(&mut one, &mut two)?;
        let mut wrong_type = vec![0x80, 77];
        wrong_type.resize(172, 0);
        let long = {
            let mut packet = vec![0x80, 0];
            packet.resize(9000, 0);
            packet
        };
        let wrong = [&[][..], &[0x80], &[0; 172], &[0xff; 9000], &long, &wrong_type];
        // Few of each: the kernel keeps so many that are waiting, and this is not about its queue.
        for turn in 1..=5 {
            for bytes in wrong {
                one.media.send_bytes(one.to, bytes)?;
            }
            let refused = |list: &serde_json::Value| list["items"][0]["legs"][0]["refused"].as_u64();
            site.pbx.wait("call list", |list| refused(list) == Some(turn * wrong.len() as u64))?;
        }
        assert_hear_each_other(&mut one, &mut two)?;
        hang_up(&mut one, &mut two)?;
        wait_no_calls(site)?;
        daemon.stop()
    });
}

#[test]
fn payload_types_that_were_not_agreed_on_are_not_forwarded_and_digits_are() {
    on_site(|site, daemon| {
        let (mut one, mut two) = two_in_a_call(site, ["200", "201"])?;
        assert_hear_each_other(&mut one, &mut two)?;
        one.media.payload_type = 8;
        media::play(&mut [(&mut one.media, one.to)], Duration::from_millis(200))?;
        one.media.payload_type = 101;
        for count in 1..=4 {
            one.media.send_payload(one.to, &[5, if count > 1 { 0x8a } else { 0x0a }, 0, 160])?;
        }
        one.media.payload_type = 0;
        media::wait_packets(&mut [(&mut two.media, 4)])?;
        let heard = two.media.forget();
        assert_eq!(heard.payload_types.into_iter().collect::<Vec<_>>(), [101]);
        assert_eq!((heard.events.len(), heard.events[0]), (4, [5, 0x0a, 0, 160]));

        // A digit that the phone sends as a message is sent to the other as an event.
        let info = "Signal=7\r\nDuration=160\r\n";
        let answer = one.phone.request_of(&mut one.call, "INFO", "application/dtmf-relay", info)?;
        assert_eq!(answer.status(), Some(200), "{answer}");
        let begin = Instant::now();
        let ended = |media: &Media| media.taken.events.iter().any(|event| event[0] == 7 && event[1] & 0x80 != 0);
        while !ended(&two.media) {
            ensure!(begin.elapsed() < DEADLINE, "{:?}", two.media.taken.events);
            two.media.take()?;
        }
        // The end of an event comes three times (RFC 4733 §2.5.1.4).
        while two.media.taken.events.iter().filter(|event| event[1] & 0x80 != 0).count() < 3 {
            ensure!(begin.elapsed() < DEADLINE, "{:?}", two.media.taken.events);
            two.media.take()?;
        }
        assert_hear_each_other(&mut one, &mut two)?;
        hang_up(&mut one, &mut two)?;
        daemon.stop()
    });
}
