//! A daemon that is killed in a call, and the next one.

use anyhow::ensure;
use pbx_tests::site::on_site;

use super::{assert_hear_each_other, connect, hang_up, records, sound, two_in_a_call, wait_no_calls, wait_record};

#[test]
fn after_a_kill_records_stand_open_ones_are_interrupted_and_phones_are_told_that_there_is_no_call() {
    on_site(|site, daemon| {
        let (mut one, mut two) = two_in_a_call(site, ["200", "201"])?;
        hang_up(&mut one, &mut two)?;
        let ended = wait_record(site, |record| record["disposition"] == "answered")?;
        let (mut one, mut two) =
            connect(one.phone, two.phone, sound(&site.lab.good, 440)?, sound(&site.lab.bad, 700)?)?;
        assert_hear_each_other(&mut one, &mut two)?;
        // Written when it was routed and when it was answered; what is not written yet may be lost.
        wait_record(site, |record| record["disposition"] == "open" && !record["answered_at"].is_null())?;
        daemon.kill()?;

        let daemon = site.pbx.start()?;
        let records = records(site)?;
        assert_eq!(records.len(), 2, "{records:#?}");
        assert_eq!(records[0]["disposition"], "interrupted", "{records:#?}");
        ensure!(!records[0]["ended_at"].is_null(), "{records:#?}");
        assert_eq!(records[1], ended);
        assert_eq!(one.phone.bye(&mut one.call)?, 481);
        assert_eq!(two.phone.bye(&mut two.call)?, 481);
        assert_eq!(site.pbx.pbx("block list")?["items"].as_array().map(Vec::len), Some(0));
        // Phones by UDP are still registered, and call again.
        let (mut one, mut two) =
            connect(one.phone, two.phone, sound(&site.lab.good, 440)?, sound(&site.lab.bad, 700)?)?;
        assert_hear_each_other(&mut one, &mut two)?;
        hang_up(&mut one, &mut two)?;
        wait_no_calls(site)?;
        daemon.stop()
    });
}
