//! PBX and phone each behind a router that translates addresses: calls and audio both ways, and a router that changes its
//! ports in the middle of a call.
//!
//! ```text
//!  phone ── router ══ the internet ══ router ── appliance ── phone
//!  192.168.50.2   198.51.100.2   198.51.100.1   10.77.1.1    10.77.2.2
//! ```

use std::time::Duration;

use anyhow::{Result, ensure};
use pbx_tests::{
    phone::{Handset, Line, Media, media},
    router,
    sandbox::{Namespace, ip},
    site::{Site, on_site},
};

use super::{MOMENT, Side, connect, hang_up, sound, wait_no_calls};

/// Seconds of silence after which the routers forget a conversation.
const FORGETS: u32 = 30;

/// The phone far away.
struct Far {
    /// Its router.
    router: Namespace,
    /// Its own network.
    network: Namespace,
}

/// Puts a router before the appliance, and another one with a phone behind it beyond that.
fn far_away(site: &Site) -> Result<Far> {
    let near = &site.lab.good;
    let (router, phone) = (Namespace::new()?, Namespace::new()?);
    ip(&format!("route add default via {}", near.v4()))?;
    near.network.ip("route del default")?;
    near.network.ip(&format!("link add wan type veth peer name wan netns {}", router.path().display()))?;
    router.ip(&format!("link add lan type veth peer name eth0 netns {}", phone.path().display()))?;
    for (network, interface, address) in [
        (&near.network, "wan", "198.51.100.1/24"),
        (&router, "wan", "198.51.100.2/24"),
        (&router, "lan", "192.168.50.1/24"),
        (&phone, "eth0", "192.168.50.2/24"),
    ] {
        network.ip(&format!("addr add {address} dev {interface}"))?;
        network.ip(&format!("link set {interface} up"))?;
    }
    phone.ip("route add default via 192.168.50.1")?;
    let forwarded = format!(
        "chain in {{ type nat hook prerouting priority -100; iifname wan udp dport {{ 5060, 45000-64999 }} dnat to {}; }}",
        near.appliance_v4()
    );
    router::translate(&near.network, &forwarded, FORGETS)?;
    router::translate(&router, "", FORGETS)?;
    site.pbx.pbx("guard set network.external_address=198.51.100.1")?;
    Ok(Far { router, network: phone })
}

impl Far {
    fn handset(&self, site: &Site, number: &str) -> Result<Handset> {
        let line = Line::udp(&self.network, [192, 168, 50, 2].into(), "198.51.100.1:5060".parse()?)?;
        site.handset_on(line, number)
    }

    fn sound(&self, frequency: u32) -> Result<Media> {
        Media::open(&self.network, [192, 168, 50, 2].into(), frequency)
    }
}

/// Both play for so long; the part of it that each has heard of the other.
fn hear(one: &mut Side, two: &mut Side, time: Duration) -> Result<[f64; 2]> {
    one.media.forget();
    two.media.forget();
    media::play(&mut [(&mut one.media, one.to), (&mut two.media, two.to)], time)?;
    let packets = time.as_millis() / media::PACKET.as_millis();
    Ok([&mut one.media, &mut two.media].map(|media| media.forget().packets as f64 / packets as f64))
}

#[test]
fn behind_routers_calls_go_both_ways_and_so_does_the_audio() {
    on_site(|site, daemon| {
        let far = far_away(site)?;
        let (near_phone, far_phone) = (site.handset(&site.lab.bad, "200")?, far.handset(site, "201")?);
        let (mut one, mut two) = connect(near_phone, far_phone, sound(&site.lab.bad, 440)?, far.sound(700)?)?;
        // Each is told the address by which it reaches the appliance.
        assert_eq!((one.to.ip().to_string(), two.to.ip().to_string()), ("10.77.2.1".into(), "198.51.100.1".into()));
        converse(&mut one, &mut two)?;
        hang_up(&mut one, &mut two)?;
        wait_no_calls(site)?;

        let (mut two, mut one) = connect(two.phone, one.phone, far.sound(700)?, sound(&site.lab.bad, 440)?)?;
        converse(&mut one, &mut two)?;
        hang_up(&mut one, &mut two)?;
        wait_no_calls(site)?;
        daemon.stop()
    });
}

/// From the moment on at which the router has let the first packet out, nothing is missing.
fn converse(one: &mut Side, two: &mut Side) -> Result<()> {
    hear(one, two, MOMENT)?;
    let [first, second] = hear(one, two, Duration::from_secs(1))?;
    ensure!(first > 0.95 && second > 0.95, "{first} {second}");
    Ok(())
}

#[test]
fn a_router_that_changes_its_ports_in_a_call_silences_it_for_three_seconds_at_most() {
    on_site(|site, daemon| {
        let far = far_away(site)?;
        let (near_phone, far_phone) = (site.handset(&site.lab.bad, "200")?, far.handset(site, "201")?);
        let (mut one, mut two) = connect(near_phone, far_phone, sound(&site.lab.bad, 440)?, far.sound(700)?)?;
        converse(&mut one, &mut two)?;
        for ports in ["20000-24999", "25000-29999"] {
            router::change_ports(&far.router, ports)?;
            hear(&mut one, &mut two, Duration::from_secs(3))?;
            let [first, second] = hear(&mut one, &mut two, Duration::from_secs(1))?;
            ensure!(first > 0.95 && second > 0.95, "{ports}: {first} {second}");
        }
        // The phone's requests come from another port too. It is asked for its password, and hangs up.
        hang_up(&mut two, &mut one)?;
        wait_no_calls(site)?;
        daemon.stop()
    });
}

#[test]
fn packets_of_the_phones_own_router_from_another_port_are_not_taken_while_it_speaks() {
    on_site(|site, daemon| {
        let far = far_away(site)?;
        let (near_phone, far_phone) = (site.handset(&site.lab.bad, "200")?, far.handset(site, "201")?);
        let (mut one, mut two) = connect(near_phone, far_phone, sound(&site.lab.bad, 440)?, far.sound(700)?)?;
        converse(&mut one, &mut two)?;
        // Somebody else behind the same router.
        let mut other = far.sound(1000)?;
        other.imitate(&two.media);
        one.media.forget();
        let to = two.to;
        media::play(&mut [(&mut two.media, to), (&mut other, to)], Duration::from_secs(2))?;
        media::wait_packets(&mut [(&mut one.media, 100)])?;
        let heard = one.media.forget();
        assert_eq!(heard.packets, 100, "{:?}", heard.streams);
        ensure!(heard.has(700) && !heard.has(1000), "{:?}", heard.streams);
        hang_up(&mut one, &mut two)?;
        daemon.stop()
    });
}
