//! The harness itself, without the daemon: what it claims about namespaces, frames and counts holds.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use pbx_tests::flood::{Injector, Plan, Receiver, Sender, payload};
use pbx_tests::frames::{Frame, protocol};
use pbx_tests::lab::Lab;
use pbx_tests::sandbox::Sandbox;

const DEADLINE: Duration = Duration::from_secs(10);

fn interfaces() -> String {
    let output = Command::new("ip").args(["-brief", "link"]).output().expect("ip runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_sandbox_has_its_own_network_and_bpffs_and_leaves_nothing() {
    let directory: PathBuf = Sandbox::run(|sandbox| {
        // The neighbours' ends, and with them ours, go when the lab is dropped.
        let _lab = Lab::build(sandbox).expect("a lab");
        let seen = interfaces();
        assert!(seen.contains("lan-good") && !seen.contains("eth0@if0"), "{seen}");
        assert!(fs::exists("/sys/class/net/lan-bad").expect("sysfs"));
        assert_eq!(statfs(&sandbox.bpffs()).expect("statfs").filesystem_type(), BPF_FS_MAGIC);
        Sandbox::run(|_| assert!(!interfaces().contains("lan-good")));
        sandbox.directory().to_owned()
    });
    assert!(!interfaces().contains("lan-"));
    assert!(!directory.exists());
}

#[test]
fn both_neighbours_reach_the_appliance_over_both_families() {
    Sandbox::run(|sandbox| {
        let lab = Lab::build(sandbox).expect("a lab");
        let receiver = Receiver::listen(5060).expect("a receiver");
        for neighbour in [&lab.good, &lab.bad] {
            let ways: [(IpAddr, IpAddr); 2] = [
                (neighbour.v4().into(), neighbour.appliance_v4().into()),
                (neighbour.v6().into(), neighbour.appliance_v6().into()),
            ];
            for (source, destination) in ways {
                let sender = Sender::udp(
                    &neighbour.network,
                    SocketAddr::new(source, 0),
                    SocketAddr::new(destination, 5060),
                    7,
                    Plan::burst(5000),
                )
                .expect("a sender");
                assert_eq!(sender.finish().expect("sent"), 5000);
                let seen = receiver.wait(DEADLINE, |seen| seen.of(source, 7).count() == 5000).expect("all arrive");
                assert_eq!((seen.of(source, 7).last(), seen.of(source, 7).repeated()), (Some(4999), 0));
            }
        }
    });
}

#[test]
fn a_plan_is_bounded_by_count_and_by_time_and_by_stop() {
    Sandbox::run(|sandbox| {
        let lab = Lab::build(sandbox).expect("a lab");
        let receiver = Receiver::listen(5060).expect("a receiver");
        let start = |stream, plan| {
            let (source, destination) = ((lab.good.v4(), 0).into(), (lab.good.appliance_v4(), 5060).into());
            Sender::udp(&lab.good.network, source, destination, stream, plan).expect("a sender")
        };
        let counted = start(1, Plan { rate: Some(1000), count: 100, time: DEADLINE }).finish().expect("sent");
        assert_eq!(counted, 100);
        let timed = start(2, Plan::steady(100, Duration::from_millis(300))).finish().expect("sent");
        assert!((1..=31).contains(&timed), "{timed}");
        let endless = start(3, Plan { rate: None, count: u64::MAX, time: DEADLINE });
        receiver.wait(DEADLINE, |seen| seen.of(lab.good.v4(), 3).count() >= 10).expect("it sends");
        let stopped = endless.stop().expect("sent");
        receiver
            .wait(DEADLINE, |seen| seen.of(lab.good.v4(), 3).last() == Some(stopped - 1))
            .expect("the last one arrives");
    });
}

/// The kernel checks lengths and checksums: what it delivers was right.
#[test]
fn frames_made_by_hand_are_delivered_by_the_kernel() {
    Sandbox::run(|sandbox| {
        let lab = Lab::build(sandbox).expect("a lab");
        let bad = &lab.bad;
        let receiver = Receiver::listen(5060).expect("a receiver");
        let injector = Injector::open(&bad.network).expect("an injector");
        let v4 = |stream| Frame::udp((bad.v4(), 5060), (bad.appliance_v4(), 5060)).payload(&payload(stream, 0));
        let v6 = |stream| Frame::udp((bad.v6(), 5060), (bad.appliance_v6(), 5060)).payload(&payload(stream, 0));
        let whole = [
            v4(1),
            v4(2).options(&[1, 1, 1]),
            v6(3),
            v6(4)
                .extension(protocol::DESTINATION_OPTIONS, &[1, 4, 0, 0, 0, 0])
                .extension(protocol::DESTINATION_OPTIONS, &[1, 4, 0, 0, 0, 0]),
            v4(5).payload(&[&payload(5, 0)[..], b"odd"].concat()),
        ];
        for frame in whole {
            injector.send(&frame.link(bad.mac(), bad.appliance_mac()).build()).expect("sent");
        }
        receiver.wait(DEADLINE, |seen| seen.from(bad.v4()) == 3 && seen.from(bad.v6()) == 2).expect("whole datagrams");

        // The appliance has no VLAN interface; the tap shows what reaches the stack.
        let tap = Receiver::tap(bad.interface).expect("a tap");
        for tags in 1..=3 {
            let tagged = (0..tags).fold(v4(20 + tags), |frame, tag| frame.vlan(5 + tag as u16));
            injector.send(&tagged.link(bad.mac(), bad.appliance_mac()).build()).expect("sent");
            tap.wait(DEADLINE, |seen| seen.of(bad.v4(), 20 + tags).count() == 1).expect("a tagged frame");
        }

        for stream in [8, 9] {
            for frame in fragments(stream == 9, &lab, stream) {
                injector.send(&frame.link(bad.mac(), bad.appliance_mac()).build()).expect("sent");
            }
        }
        receiver
            .wait(DEADLINE, |seen| seen.of(bad.v4(), 8).count() == 1 && seen.of(bad.v6(), 9).count() == 1)
            .expect("both reassembled");
    });
}

/// One datagram in two fragments of 16 bytes and the rest.
fn fragments(v6: bool, lab: &Lab, stream: u32) -> [Frame; 2] {
    let (source, destination): (IpAddr, IpAddr) = match v6 {
        true => (lab.bad.v6().into(), lab.bad.appliance_v6().into()),
        false => (lab.bad.v4().into(), lab.bad.appliance_v4().into()),
    };
    let whole = Frame::udp((source, 5060), (destination, 5060)).payload(&payload(stream, 0)).build();
    let datagram = &whole[if v6 { 54 } else { 34 }..];
    let (first, rest) = datagram.split_at(16);
    [
        Frame::ip(source, destination, protocol::UDP, first).fragment(0, true),
        Frame::ip(source, destination, protocol::UDP, rest).fragment(2, false),
    ]
}

#[test]
fn sources_can_be_spoofed_within_the_lab() {
    Sandbox::run(|sandbox| {
        let lab = Lab::build(sandbox).expect("a lab");
        let receiver = Receiver::listen(5060).expect("a receiver");
        let (from, to, destination) = (lab.bad.mac(), lab.bad.appliance_mac(), lab.bad.appliance_v4());
        let sender = Sender::frames(&lab.bad.network, 1, Plan::burst(2000), move |number| {
            let source = Ipv4Addr::new(198, 51, 100, (number % 200) as u8);
            Frame::udp((source, 5060), (destination, 5060)).payload(&payload(1, number)).link(from, to).build()
        })
        .expect("a sender");
        assert_eq!(sender.finish().expect("sent"), 2000);
        let seen = receiver
            .wait(DEADLINE, |seen| seen.sources() == 200 && seen.from(Ipv4Addr::new(198, 51, 100, 199)) == 10)
            .expect("all arrive");
        assert_eq!(seen.from(Ipv4Addr::new(198, 51, 100, 0)), 10);
    });
}

#[test]
fn a_link_can_vanish_and_return() {
    Sandbox::run(|sandbox| {
        let lab = Lab::build(sandbox).expect("a lab");
        let receiver = Receiver::listen(5060).expect("a receiver");
        lab.bad.disconnect().expect("taken away");
        assert!(!interfaces().contains("lan-bad"));
        lab.bad.connect().expect("made again");
        let (source, destination) = ((lab.bad.v4(), 0).into(), (lab.bad.appliance_v4(), 5060).into());
        Sender::udp(&lab.bad.network, source, destination, 1, Plan::burst(10))
            .expect("a sender")
            .finish()
            .expect("sent");
        receiver.wait(DEADLINE, |seen| seen.from(lab.bad.v4()) == 10).expect("they arrive");
    });
}
