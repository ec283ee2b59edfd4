//! Nobody legitimate is locked out, whatever somebody beside them does.

use anyhow::ensure;
use pbx_tests::{
    phone::{Handset, Line, Media, media},
    site::{UDP, on_site, server},
};

use super::{events, from_elsewhere};

#[test]
fn an_office_behind_one_address_goes_on_while_one_of_its_phones_has_a_wrong_password() {
    on_site(|site, daemon| {
        from_elsewhere(site)?;
        // Both phones of the call, and the wrong one, share the address.
        let office = &site.lab.bad;
        let mut caller = site.handset(office, "201")?;
        let mut callee = site.handset(office, "202")?;
        let open = |frequency| Media::open(&office.network, office.v4().into(), frequency);
        let (mut caller_media, mut callee_media) = (open(440)?, open(700)?);
        let mut call = caller.call("202", &caller_media.sdp())?;
        let mut taken = callee.incoming()?;
        let callee_to = taken.invite.media()?;
        callee.answer(&mut taken, &callee_media.sdp())?;
        let caller_to = caller.wait_answered(&mut call)?.media()?;
        callee.wait_ack(&taken)?;

        let good = site.add("203")?;
        let mut wrong = site.udp(office)?;
        for _ in 0..120 {
            let request = wrong.request("203");
            let bytes = wrong.bytes(&request);
            wrong.send(&bytes)?;
            // Each try with a challenge of its own, as fast as it gets one.
            let _ = wrong.hear(std::time::Duration::from_millis(20))?;
        }
        let mut hammering = site.udp(office)?;
        let mut answered = 0;
        for _ in 0..30 {
            let request = hammering.request("203");
            if hammering.prove(request, "mistyped").is_ok_and(|status| status == 401) {
                answered += 1;
            }
            if answered >= 2 {
                break;
            }
        }
        let packets = 50;
        media::play(
            &mut [(&mut caller_media, caller_to), (&mut callee_media, callee_to)],
            media::PACKET * u32::try_from(packets)?,
        )?;
        let missing = media::wait_packets(&mut [(&mut caller_media, packets), (&mut callee_media, packets)])?;
        ensure!(missing == 0, "{missing} packets of the call are missing");
        // The others register, and the one whose password is put right does.
        caller.register()?;
        ensure!(site.handset(office, "204").is_ok(), "another phone of the office");
        let mut right =
            Handset::new(Line::udp(&office.network, office.v4().into(), server(office, UDP))?, "203", &good);
        right.register()?;
        let blocked = site.pbx.pbx("block list")?;
        let kinds = blocked["items"].as_array().cloned().unwrap_or_default();
        ensure!(kinds.iter().all(|block| block["kind"] == "pair"), "{blocked:#}");
        ensure!(caller.bye(&mut call)? == 200, "the call ends in order");
        daemon.stop()
    });
}

#[test]
fn twenty_new_phones_on_the_lan_before_their_extensions_exist_are_an_alarm_and_no_block() {
    on_site(|site, daemon| {
        for phone in 0..20 {
            let number = (300 + phone).to_string();
            let mut line = site.udp(&site.lab.good)?;
            ensure!(line.register(&number, "factory")? == 401, "{number}");
        }
        site.pbx.wait("events", |list| list.to_string().contains("local network"))?;
        let told = events(site, "guard")?;
        ensure!(told.iter().any(|message| message.contains("so it is not blocked")), "{told:?}");
        let blocked = site.pbx.pbx("block list")?;
        ensure!(blocked["items"].as_array().is_some_and(Vec::is_empty), "{blocked:#}");
        daemon.stop()
    });
}
