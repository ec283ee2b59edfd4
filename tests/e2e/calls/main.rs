//! Calls end to end: the real daemon, phones that nobody here wrote and phones of our own, with media.

mod abuse;
mod baresips;
mod crowds;
mod drain;
mod fragments;
mod injection;
mod lookups;
mod peers;
mod routers;
mod survival;
mod transfers;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use pbx_tests::{
    lab::Neighbour,
    phone::{Call, Handset, Media, Message, Sdp, media},
    site::Site,
};
use serde_json::Value;

/// One handset in a call, with its media.
struct Side {
    phone: Handset,
    call: Call,
    media: Media,
    /// Where its media go to.
    to: SocketAddr,
}

/// Calls from one phone to another and answers there; what each needs.
fn connect(mut caller: Handset, mut callee: Handset, caller_media: Media, callee_media: Media) -> Result<(Side, Side)> {
    let mut call = caller.call(callee.number(), &caller_media.sdp())?;
    let mut taken = callee.incoming()?;
    let callee_to = taken.invite.media()?;
    callee.ring(&taken)?;
    caller.wait_ringing(&mut call)?;
    callee.answer(&mut taken, &callee_media.sdp())?;
    let caller_to = caller.wait_answered(&mut call)?.media()?;
    callee.wait_ack(&taken)?;
    Ok((
        Side { phone: caller, call, media: caller_media, to: caller_to },
        Side { phone: callee, call: taken, media: callee_media, to: callee_to },
    ))
}

/// Two handsets beside the appliance, one on each link, in a call; the caller plays 440 Hz, the other one 700.
fn two_in_a_call(site: &Site, numbers: [&str; 2]) -> Result<(Side, Side)> {
    let (good, bad) = (&site.lab.good, &site.lab.bad);
    let (caller, callee) = (site.handset(good, numbers[0])?, site.handset(bad, numbers[1])?);
    connect(caller, callee, sound(good, 440)?, sound(bad, 700)?)
}

fn sound(neighbour: &Neighbour, frequency: u32) -> Result<Media> {
    Media::open(&neighbour.network, neighbour.v4().into(), frequency)
}

/// Lets both play for a second; an error if a packet is missing or a tone is not heard.
fn assert_hear_each_other(one: &mut Side, two: &mut Side) -> Result<()> {
    let packets = 50;
    one.media.forget();
    two.media.forget();
    media::play(&mut [(&mut one.media, one.to), (&mut two.media, two.to)], media::PACKET * u32::try_from(packets)?)?;
    let missing = media::wait_packets(&mut [(&mut one.media, packets), (&mut two.media, packets)])?;
    let came = [&one.media, &two.media].map(|media| media.taken.packets);
    ensure!(missing == 0, "{missing} packets are missing, {came:?} came");
    let (first, second) = (one.media.forget(), two.media.forget());
    ensure!(first.has(two.media.frequency), "the first hears {:?} {}", first.streams, first.longest);
    ensure!(second.has(one.media.frequency), "the second hears {:?} {}", second.streams, second.longest);
    ensure!((first.packets, second.packets) == (packets, packets), "{} {}", first.packets, second.packets);
    Ok(())
}

/// Ends the call from the first side.
fn hang_up(one: &mut Side, two: &mut Side) -> Result<()> {
    let status = one.phone.bye(&mut one.call)?;
    ensure!(status == 200, "BYE is answered {status}");
    two.phone.wait_bye(&two.call)?;
    Ok(())
}

/// Does something while these answer what they are asked within their calls; what each was asked.
fn attended<T>(sides: &mut [&mut Side], act: impl FnOnce() -> Result<T>) -> Result<(T, Vec<Vec<Message>>)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let attending: Vec<_> = sides
            .iter_mut()
            .map(|side| {
                let stop = &stop;
                scope.spawn(move || {
                    let asked = side.phone.attend(&mut side.call, &side.media.sdp(), stop)?;
                    if let Some(sdp) = asked.iter().rev().find_map(|request| request.sdp().ok()) {
                        side.to = sdp.rtp;
                    }
                    anyhow::Ok(asked)
                })
            })
            .collect();
        // Also when it panics.
        let done = {
            let _stop = Stop(&stop);
            act()
        };
        let asked = attending.into_iter().map(|one| one.join().map_err(|_| anyhow::anyhow!("a phone panicked"))?);
        let asked = asked.collect::<Result<_>>()?;
        Ok((done?, asked))
    })
}

/// Tells when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Offers another description in the call, while the other side answers what it is asked; the answer.
fn offer(one: &mut Side, other: &mut Side, sdp: &Sdp) -> Result<Message> {
    let (answer, _) = attended(&mut [other], || one.phone.offer(&mut one.call, sdp))?;
    Ok(answer)
}

/// The records, the newest first.
fn records(site: &Site) -> Result<Vec<Value>> {
    let list = site.pbx.pbx("cdr list --sort -started_at")?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// Waits until the newest record is so; that.
fn wait_record(site: &Site, mut enough: impl FnMut(&Value) -> bool) -> Result<Value> {
    let list = site.pbx.wait("cdr list --sort -started_at", |list| enough(&list["items"][0]))?;
    Ok(list["items"][0].clone())
}

/// Waits until no call goes on.
fn wait_no_calls(site: &Site) -> Result<()> {
    site.pbx.wait("call list", |list| list["items"].as_array().is_some_and(Vec::is_empty)).map(|_| ())
}

/// A moment in which nothing is expected to come.
const MOMENT: Duration = Duration::from_millis(500);
