//! Phones that nobody here wrote call each other over every transport, and hear each other.

use anyhow::{Result, ensure};
use pbx_tests::{
    phone::{Baresip, tone},
    site::{Site, TCP, TLS, on_site},
};
use serde_json::Value;

use super::{sound, wait_no_calls, wait_record};

#[test]
fn baresips_call_each_other_over_udp_tcp_and_tls_and_hear_each_other() {
    on_site(|site, daemon| {
        site.offer_md5_alone()?;
        let over = [String::new(), format!(":{TCP};transport=tcp"), format!(":{TLS};transport=tls")];
        let mut phones = Vec::new();
        for (index, over) in over.iter().enumerate() {
            for (digit, neighbour, frequency) in [(0, &site.lab.good, 440), (1, &site.lab.bad, 700)] {
                let number = format!("2{index}{digit}");
                let password = site.add(&number)?;
                phones.push((number.clone(), site.sounding(neighbour, &number, &password, over, frequency)?));
            }
        }
        for (_, phone) in &phones {
            phone.wait_registered()?;
        }
        // Of each transport the first calls the second, and then one of another transport.
        for (from, to) in [(0, 1), (2, 3), (4, 5), (0, 3), (2, 5), (4, 1), (5, 0)] {
            let number = phones[to].0.clone();
            let [caller, callee] = phones.get_disjoint_mut([from, to])?;
            converse(site, &mut caller.1, &callee.1, &number, if from == 5 { [700, 440] } else { [440, 700] })
                .map_err(|error| error.context(format!("{} calls {number}", caller.0)))?;
        }
        daemon.stop()
    });
}

/// One calls, both hear each other's tone, one hangs up; and the call has a record right then.
fn converse(site: &Site, caller: &mut Baresip, callee: &Baresip, number: &str, tones: [u32; 2]) -> Result<()> {
    let (before, ended) = ((caller.heard()?.len(), callee.heard()?.len()), callee.count("CALL_CLOSED"));
    caller.call(number)?;
    caller.wait_tone(tones[1], before.0)?;
    callee.wait_tone(tones[0], before.1)?;
    ensure!(!tone::has(&caller.heard()?[before.0..], tones[0]), "it hears itself");
    caller.hang_up()?;
    callee.wait_count("CALL_CLOSED", ended + 1)?;
    let record = wait_record(site, |record| record["dialled"] == number && record["disposition"] != "open")?;
    for (key, value) in
        [("disposition", Value::from("answered")), ("ended_by", "caller".into()), ("callee_number", number.into())]
    {
        ensure!(record[key] == value, "{key} is not {value} in {record:#}");
    }
    ensure!(record["codec"].as_str().is_some_and(|codec| codec.starts_with("PCM")), "{record:#}");
    Ok(())
}

#[test]
fn a_baresip_holds_resumes_and_transfers_its_call() {
    on_site(|site, daemon| {
        site.offer_md5_alone()?;
        let (good, bad) = (&site.lab.good, &site.lab.bad);
        let (first, second) = (site.add("200")?, site.add("201")?);
        let mut caller = site.sounding(good, "200", &first, "", 440)?;
        let target = site.sounding(bad, "201", &second, "", 700)?;
        caller.wait_registered()?;
        target.wait_registered()?;
        let (mut phone, mut media) = (site.handset(bad, "202")?, sound(bad, 1000)?);

        caller.command("dial", "202")?;
        let mut taken = phone.incoming()?;
        let to = taken.invite.media()?;
        phone.answer(&mut taken, &media.sdp())?;
        phone.wait_ack(&taken)?;
        caller.wait("CALL_ESTABLISHED")?;
        let listen = |media: &mut pbx_tests::phone::Media| -> Result<pbx_tests::phone::media::Taken> {
            media.forget();
            pbx_tests::phone::media::play(&mut [(&mut *media, to)], std::time::Duration::from_secs(1))?;
            Ok(media.forget())
        };
        ensure!(listen(&mut media)?.has(440), "it does not hear the caller");
        caller.wait_tone(1000, 0)?;

        let mut side = super::Side { phone, call: taken, media, to };
        let ((), _) = super::attended(&mut [&mut side], || {
            caller.command("hold", "")?;
            caller.wait_count("CALL_REMOTE_SDP", 2)
        })?;
        let heard = listen(&mut side.media)?;
        ensure!(!heard.has(440), "it hears the caller who holds: {:?}", heard.packets);
        let ((), _) = super::attended(&mut [&mut side], || {
            caller.command("resume", "")?;
            caller.wait_count("CALL_REMOTE_SDP", 3)
        })?;
        ensure!(listen(&mut side.media)?.has(440), "it does not hear the caller who resumed");

        // The handset is connected with the other baresip, and the one that did it is out of it.
        let ((), _) = super::attended(&mut [&mut side], || {
            caller.command("transfer", "201")?;
            target.wait("CALL_ESTABLISHED")?;
            caller.wait("CALL_CLOSED")
        })?;
        ensure!(listen(&mut side.media)?.has(700), "it does not hear whom it was transferred to");
        target.wait_tone(1000, 0)?;
        assert_eq!(side.phone.bye(&mut side.call)?, 200);
        target.wait("CALL_CLOSED")?;
        wait_no_calls(site)?;
        daemon.stop()
    });
}
