//! The phones of the harness without the appliance: they call each other directly, and what they claim to hear is there.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use pbx_tests::{
    lab::Lab,
    phone::{Baresip, Handset, Line, Media, Sound, media, sipp},
    sandbox::Sandbox,
};

/// Each neighbour reaches the other by the appliance's network, which forwards.
fn between_neighbours(test: impl FnOnce(&Sandbox, &Lab) -> Result<()> + Send) {
    Sandbox::run(|sandbox| {
        let lab = Lab::build(sandbox).expect("a lab");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forward");
        test(sandbox, &lab).unwrap_or_else(|error| panic!("{error:?}"));
    });
}

#[test]
fn two_baresips_hear_each_others_tone() {
    between_neighbours(|sandbox, lab| {
        let start = |neighbour: &pbx_tests::lab::Neighbour, name: &str, frequency, more: &str| {
            let listen: SocketAddr = (neighbour.v4(), 5060).into();
            let account = format!("<sip:{name}@{}>;regint=0{more}", neighbour.v4());
            let sound = Sound { frequency, listen: Some(listen) };
            Baresip::start_with(&neighbour.network, &sandbox.directory().join(name), &account, sound)
        };
        let mut first = start(&lab.good, "first", 440, "")?;
        let second = start(&lab.bad, "second", 700, ";answermode=auto")?;
        first.call(&format!("sip:second@{}", lab.bad.v4()))?;
        first.wait_tone(700, 0)?;
        second.wait_tone(440, 0)?;
        first.hang_up()?;
        second.wait("CALL_CLOSED")?;
        ensure!(!pbx_tests::phone::tone::has(&first.heard()?, 440), "it hears itself");
        Ok(())
    });
}

#[test]
fn two_handsets_call_hold_and_hang_up_with_media() {
    between_neighbours(|_, lab| {
        let (here, there): (SocketAddr, SocketAddr) = ((lab.good.v4(), 5070).into(), (lab.bad.v4(), 5070).into());
        let mut first = Handset::peer(Line::udp_from(&lab.good.network, here, there)?, "200");
        let mut second = Handset::peer(Line::udp_from(&lab.bad.network, there, here)?, "201");
        let mut one = Media::open(&lab.good.network, lab.good.v4().into(), 440)?;
        let mut two = Media::open(&lab.bad.network, lab.bad.v4().into(), 700)?;

        let mut call = first.call("201", &one.sdp())?;
        let mut taken = second.incoming()?;
        assert_eq!(taken.invite.media()?, one.local());
        second.ring(&taken)?;
        first.wait_ringing(&mut call)?;
        second.answer(&mut taken, &two.sdp())?;
        let answered = first.wait_answered(&mut call)?;
        second.wait_ack(&taken)?;
        let (to_one, to_two) = (one.local(), answered.media()?);
        media::play(&mut [(&mut one, to_two), (&mut two, to_one)], Duration::from_secs(1))?;
        assert_eq!(media::wait_packets(&mut [(&mut one, 50), (&mut two, 50)])?, 0);
        ensure!(one.taken.has(700) && two.taken.has(440), "{:?}", one.taken.sources);

        let stop = AtomicBool::new(false);
        let held = thread::scope(|scope| {
            let attended = scope.spawn(|| second.attend(&mut taken, &two.sdp(), &stop));
            let held = first.offer(&mut call, &one.sdp().direction("sendonly"));
            stop.store(true, Ordering::Relaxed);
            attended.join().expect("no panic")?;
            held
        })?;
        assert_eq!(held.sdp()?.direction, "recvonly");
        let ended = thread::scope(|scope| {
            let ended = scope.spawn(|| first.wait_bye(&call));
            assert_eq!(second.bye(&mut taken)?, 200);
            ended.join().expect("no panic")
        })?;
        assert_eq!(ended.method(), Some("BYE"));

        let mut call = first.call("201", &one.sdp())?;
        let taken = second.incoming()?;
        let refusal = thread::scope(|scope| {
            let cancelled = scope.spawn(|| second.wait_cancel(&taken));
            let refusal = first.cancel(&mut call)?;
            cancelled.join().expect("no panic")?;
            anyhow::Ok(refusal)
        })?;
        assert_eq!(refusal.status(), Some(487));
        Ok(())
    });
}

#[test]
fn sipp_calls_sipp_and_counts_what_failed() {
    between_neighbours(|sandbox, lab| {
        let server: SocketAddr = (lab.bad.v4(), 5080).into();
        let directory = sandbox.directory().join("calls");
        let run = sipp::Run {
            network: &lab.good.network,
            directory: &directory,
            source: (lab.good.v4(), 5080).into(),
            server,
            rate: 50,
            at_once: 100,
        };
        let answering = sipp::Answering::start(&lab.bad.network, &sandbox.directory().join("answers"), server)?;
        let counted = sipp::call_directly(&run, 201, 100, Duration::from_millis(300))?;
        ensure!((counted.successful, counted.failed) == (100, 0), "{counted:?} {}", run.complaints());
        drop(answering);
        Ok(())
    });
}
