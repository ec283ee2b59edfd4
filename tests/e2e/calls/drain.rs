//! A daemon that is asked to stop lets calls go on for a while, and takes no new ones.

use std::time::Duration;

use pbx_tests::{phone::media, site::on_site};

use super::{assert_hear_each_other, hang_up, records, sound, two_in_a_call};

#[test]
fn a_stop_waits_for_calls_and_refuses_new_ones() {
    on_site(|site, daemon| {
        let (mut one, mut two) = two_in_a_call(site, ["200", "201"])?;
        let (mut third, media) = (site.handset(&site.lab.good, "202")?, sound(&site.lab.good, 1000)?);
        assert_hear_each_other(&mut one, &mut two)?;
        daemon.ask_to_stop()?;
        daemon.wait_log("calls")?;
        assert_hear_each_other(&mut one, &mut two)?;
        let mut call = third.call("201", &media.sdp())?;
        assert_eq!(third.wait_refused(&mut call)?.status(), Some(503));
        assert_hear_each_other(&mut one, &mut two)?;
        hang_up(&mut one, &mut two)?;
        daemon.wait_stop()?;
        let daemon = site.pbx.start()?;
        let records = records(site)?;
        assert_eq!(records.last().map(|record| &record["disposition"]), Some(&"answered".into()), "{records:#?}");
        daemon.stop()
    });
}

#[test]
fn a_stop_ends_calls_that_take_too_long() {
    on_site(|site, daemon| {
        site.pbx.pbx("guard set calls.drain_timeout=2s")?;
        let (mut one, mut two) = two_in_a_call(site, ["200", "201"])?;
        daemon.ask_to_stop()?;
        media::play(&mut [(&mut one.media, one.to)], Duration::from_secs(1))?;
        one.phone.wait_bye(&one.call)?;
        two.phone.wait_bye(&two.call)?;
        daemon.wait_stop()?;
        let daemon = site.pbx.start()?;
        let records = records(site)?;
        assert_eq!(
            (&records[0]["disposition"], &records[0]["ended_by"]),
            (&"answered".into(), &"system".into()),
            "{records:#?}"
        );
        daemon.stop()
    });
}
