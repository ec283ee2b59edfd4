//! Manual rules: effective when the command returns, over automatic blocks, longest prefix first, and never in
//! the way of neighbour discovery.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use pbx_tests::daemon::{DEADLINE, find};
use pbx_tests::flood::Plan;
use pbx_tests::sandbox::ip;

use super::{SIP, on_site};

#[test]
fn a_manual_block_holds_when_the_command_returns_until_it_is_removed() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        for source in [IpAddr::from(bad.v4()), bad.v6().into()] {
            let stream = site.send(bad, source, 1, Plan::steady(400, DEADLINE))?;
            site.wait_heard(&stream, source)?;
            site.pbx.pbx(&format!("block add {source} --reason test"))?;
            site.assert_silent(&stream, source, 200)?;
            site.pbx.pbx(&format!("block remove {source}"))?;
            site.wait_heard(&stream, source)?;
            stream.stop()?;
        }
        daemon.stop()
    });
}

#[test]
fn a_manual_allow_wins_over_an_automatic_block() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.burst(bad, bad.v4(), 1, 1500)?;
        site.pbx.wait_blocked(bad.v4())?;
        site.pbx.pbx(&format!("allow add {}", bad.v4()))?;
        site.burst(bad, bad.v4(), 2, 5000)?;
        site.receiver.wait(DEADLINE, |seen| seen.of(bad.v4(), 2).count() == 5000)?;
        daemon.stop()
    });
}

#[test]
fn a_removed_automatic_block_starts_counting_anew() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        site.burst(bad, bad.v4(), 1, 1500)?;
        site.pbx.wait_blocked(bad.v4())?;
        site.pbx.pbx(&format!("block remove {}", bad.v4()))?;
        // Exactly as many as a source that was never seen may send.
        site.burst(bad, bad.v4(), 2, 500)?;
        site.receiver.wait(DEADLINE, |seen| seen.of(bad.v4(), 2).count() == 500)?;
        daemon.stop()
    });
}

#[test]
fn a_removed_manual_block_leaves_no_count_behind() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        for source in [IpAddr::from(bad.v4()), bad.v6().into()] {
            site.burst(bad, source, 1, 500)?;
            site.pbx.pbx(&format!("block add {source}"))?;
            site.pbx.pbx(&format!("block remove {source}"))?;
            site.burst(bad, source, 2, 500)?;
            site.receiver.wait(DEADLINE, |seen| seen.of(source, 2).count() == 500)?;
        }
        daemon.stop()
    });
}

#[test]
fn a_manual_block_for_two_seconds_ends_after_them() {
    /// What an expiry is rounded up to in the kernel (2^28 ns), and what a busy machine may take to look.
    const LATE: Duration = Duration::from_millis(269 + 500);
    const LASTS: Duration = Duration::from_secs(2);
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        for (stream, source) in [(1, IpAddr::from(bad.v4())), (2, bad.v6().into())] {
            let packets = site.send(bad, source, stream, Plan::steady(400, DEADLINE))?;
            site.wait_heard(&packets, source)?;
            let asked = Instant::now();
            site.pbx.pbx(&format!("block add {source} --for 2s"))?;
            let answered = Instant::now();
            let from = packets.sent() + 64;
            site.receiver.wait(DEADLINE, |seen| seen.of(source, stream).last() >= Some(from))?;
            let (least, most) = (answered.elapsed(), asked.elapsed());
            assert!(most >= LASTS, "{source} was heard {most:?} after the request");
            assert!(least <= LASTS + LATE, "{source} was heard only {least:?} after the answer");
            packets.stop()?;
            site.pbx.wait("block list", |list| find(list, &source.to_string()).is_none())?;
        }
        daemon.stop()
    });
}

#[test]
fn the_longest_prefix_decides_either_way() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        let beside = Ipv4Addr::new(10, 77, 2, 3);
        bad.add_address(beside.into())?;
        site.pbx.pbx("block add 10.77.2.2/31")?;
        site.pbx.pbx(&format!("allow add {beside}"))?;
        let blocked = site.send(bad, bad.v4(), 1, Plan::steady(400, DEADLINE))?;
        let allowed = site.send(bad, beside, 2, Plan::steady(400, DEADLINE))?;
        site.assert_silent(&blocked, bad.v4(), 200)?;
        site.wait_heard(&allowed, beside)?;

        site.pbx.pbx("block remove 10.77.2.2/31")?;
        site.pbx.pbx(&format!("allow remove {beside}"))?;
        site.pbx.pbx("allow add 10.77.2.2/31")?;
        site.pbx.pbx(&format!("block add {beside}"))?;
        site.assert_silent(&allowed, beside, 200)?;
        site.wait_heard(&blocked, bad.v4())?;
        daemon.stop()
    });
}

#[test]
fn a_blocked_host_on_the_link_does_not_end_neighbour_discovery() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        let beside = (Ipv4Addr::new(10, 77, 2, 3), Ipv6Addr::from(u128::from(bad.v6()) + 1));
        bad.add_address(beside.0.into())?;
        bad.add_address(beside.1.into())?;
        site.pbx.pbx(&format!("block add {}", bad.v4()))?;
        site.pbx.pbx(&format!("block add {}", bad.v6()))?;
        ip(&format!("neigh flush dev {}", bad.interface))?;
        let silent = site.send(bad, bad.v6(), 1, Plan::steady(400, DEADLINE))?;
        // What the appliance sends needs the neighbour's hardware address first; the blocked host's own is found too.
        for address in [IpAddr::from(beside.0), beside.1.into(), bad.v4().into(), bad.v6().into()] {
            let there = bad.network.enter(|| Ok(UdpSocket::bind(SocketAddr::new(address, SIP))?))?;
            there.set_read_timeout(Some(DEADLINE))?;
            let here = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            here.send_to(b"found", SocketAddr::new(address, SIP))?;
            assert_eq!(there.recv(&mut [0; 16])?, 5, "{address}");
        }
        site.assert_silent(&silent, bad.v6(), 100)?;
        daemon.stop()
    });
}
