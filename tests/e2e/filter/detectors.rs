//! Blocks that detectors make, in the kernel's tables: at once, over restarts, and back after a reboot.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use pbx::config::{Interfaces, Xdp};
use pbx::filter::{AutomaticBlock, BlockKey, Filter, KnownAt, KnownChange, NewBlock};
use pbx::host::{Snapshot, clock};
use pbx::store::StoredBlock;
use pbx::xdp::{Start, XdpFilter, take_over};
use pbx_core::{address::Prefix, guard::Detector, settings::Settings, time::Timestamp};
use pbx_tests::flood::{Plan, Receiver, Sender};
use pbx_tests::frames::{Frame, tcp};
use pbx_tests::lab::{Lab, Neighbour};
use pbx_tests::sandbox::Sandbox;

use super::SIP;

/// A lab without a daemon: the test takes the filter over itself.
struct Bench<'a> {
    sandbox: &'a Sandbox,
    lab: Lab,
    receiver: Receiver,
    settings: Settings,
}

fn on_bench(test: impl FnOnce(&Bench) -> Result<()> + Send) {
    Sandbox::run(|sandbox| {
        let run = || {
            let (lab, receiver) = (Lab::build(sandbox)?, Receiver::listen(SIP)?);
            let mut settings = Settings::default();
            settings.set("filter.mode", "enforce").context("the mode")?;
            test(&Bench { sandbox, lab, receiver, settings })
        };
        run().unwrap_or_else(|error| panic!("{error:?}"));
    });
}

impl Bench<'_> {
    /// A daemon's start, with these blocks in its store.
    fn start(&self, automatic: &[StoredBlock]) -> Result<XdpFilter> {
        let interfaces = Interfaces::Named(self.lab.interfaces().map(str::to_owned).to_vec());
        let config = Xdp { interfaces, pin_dir: self.sandbox.bpffs().join("pbx"), ..Xdp::default() };
        let start =
            Start { config: &config, rules: &[], settings: &self.settings, transports: &[], revision: 1, automatic };
        Ok(take_over(start, &Snapshot::read()?)?.0)
    }

    /// How many of so many datagrams at once arrive.
    fn heard(&self, neighbour: &Neighbour, source: IpAddr, stream: u32) -> Result<u64> {
        let to: IpAddr = match source {
            IpAddr::V4(_) => neighbour.appliance_v4().into(),
            IpAddr::V6(_) => neighbour.appliance_v6().into(),
        };
        Sender::udp(&neighbour.network, (source, 0).into(), (to, SIP).into(), stream, Plan::burst(10))?.finish()?;
        // What follows on the same link from somebody who passes was sent later, so it arrives later.
        let last = stream + 1000;
        let (from, to) = (self.lab.good.v4(), self.lab.good.appliance_v4());
        let good = &self.lab.good.network;
        Sender::udp(good, (from, 0).into(), (to, SIP).into(), last, Plan::burst(1))?.finish()?;
        self.receiver.wait(pbx_tests::daemon::DEADLINE, |seen| seen.of(from, last).count() == 1)?;
        Ok(self.receiver.seen().of(source, stream).count())
    }
}

fn new(source: impl Into<IpAddr>, reason: Detector) -> NewBlock {
    let now = Timestamp::from_millis(clock::wall_ms());
    NewBlock {
        prefix: Prefix::host(source.into()),
        reason,
        expires_at: now.saturating_add(Duration::from_secs(3600)),
        enforced: true,
        web_only: reason == Detector::Web,
    }
}

fn of(filter: &XdpFilter, source: impl Into<IpAddr>) -> Result<Option<AutomaticBlock>> {
    let prefix = Prefix::host(source.into());
    Ok(filter.automatic_blocks()?.into_iter().find(|block| block.prefix == prefix))
}

#[test]
fn a_detectors_block_drops_at_once_spares_known_sources_and_ends_when_it_is_removed() {
    on_bench(|bench| {
        let filter = bench.start(&[])?;
        let bad = &bench.lab.bad;
        for (stream, source) in [(1, IpAddr::from(bad.v4())), (11, bad.v6().into())] {
            assert_eq!(bench.heard(bad, source, stream)?, 10);
            filter.block(&new(source, Detector::Authentication))?;
            assert_eq!(bench.heard(bad, source, stream + 1)?, 0);
            let block = of(&filter, source)?.context("the block is listed")?;
            assert_eq!((block.reason, block.enforced, block.web_only), (Detector::Authentication, true, false));
            assert!(block.packets >= 10 && block.last_seen.is_some(), "{block:?}");
            assert_eq!(filter.explain(source)?.automatic.map(|block| block.reason), Some(Detector::Authentication));

            let known = vec![KnownAt { addr: source, port: None }];
            filter.known(&KnownChange::Are(known))?;
            assert_eq!(bench.heard(bad, source, stream + 2)?, 10);
            filter.known(&KnownChange::Are(Vec::new()))?;
            assert_eq!(bench.heard(bad, source, stream + 3)?, 0);
            assert!(filter.remove_automatic(&block.key())?);
            assert_eq!(bench.heard(bad, source, stream + 4)?, 10);
            assert!(!filter.remove_automatic(&block.key())?);
        }
        // One that only watches lets pass and counts.
        filter.block(&NewBlock { enforced: false, ..new(bad.v4(), Detector::Scanner) })?;
        assert_eq!(bench.heard(bad, bad.v4().into(), 21)?, 10);
        let block = of(&filter, bad.v4())?.context("the block is listed")?;
        assert!(!block.enforced && block.packets >= 10, "{block:?}");
        filter.leave()
    });
}

#[test]
fn detectors_blocks_outlive_the_daemon_and_come_back_after_a_reboot() {
    on_bench(|bench| {
        let bad = &bench.lab.bad;
        let before = {
            let filter = bench.start(&[])?;
            filter.block(&new(bad.v4(), Detector::Enumeration))?;
            filter.block(&new(bad.v6(), Detector::Web))?;
            [of(&filter, bad.v4())?, of(&filter, bad.v6())?].map(|block| block.expect("it is listed"))
        };
        assert_eq!(bench.heard(bad, bad.v4().into(), 1)?, 0, "nobody serves, the kernel goes on");
        let same = |filter: &XdpFilter| -> Result<()> {
            for block in &before {
                let there = of(filter, block.prefix.addr())?.context("the block is there again")?;
                assert_eq!((there.reason, there.web_only), (block.reason, block.web_only));
                let moved = there.expires_at.as_millis().abs_diff(block.expires_at.as_millis());
                assert!(moved < 1000, "{there:?} instead of {block:?}");
            }
            assert_eq!(bench.heard(bad, bad.v4().into(), 2)?, 0);
            Ok(())
        };
        let filter = bench.start(&[])?;
        same(&filter)?;
        filter.leave()?;
        drop(filter);
        // A reboot leaves no pins; the store has what was followed.
        std::fs::remove_dir_all(bench.sandbox.bpffs().join("pbx"))?;
        let stored = before.each_ref().map(StoredBlock::from);
        let filter = bench.start(&stored)?;
        same(&filter)?;
        filter.leave()
    });
}

#[test]
fn a_block_of_the_web_stands_beside_a_block_of_everything_and_survives_it() {
    on_bench(|bench| {
        let filter = bench.start(&[])?;
        let source = "198.51.100.77";
        let to = |port: u16| Frame::tcp(format!("{source}:9").as_str(), format!("192.0.2.1:{port}").as_str(), tcp::SYN);
        let frames = [(0, to(8887).build()), (0, to(5061).build()), (0, to(22).build())];
        let reasons = || -> Result<Vec<String>> {
            Ok(filter.test_frames(&frames)?.into_iter().map(|verdict| verdict.reason).collect())
        };
        let addr: IpAddr = source.parse()?;
        assert_eq!(reasons()?, ["counted", "counted", "passed"]);
        filter.block(&new(addr, Detector::Web))?;
        assert_eq!(reasons()?, ["automatic-block", "counted", "passed"]);
        assert!(of(&filter, addr)?.is_some_and(|block| block.web_only));
        filter.block(&new(addr, Detector::Accounts))?;
        assert_eq!(reasons()?, ["automatic-block", "automatic-block", "passed"]);
        assert!(of(&filter, addr)?.is_some_and(|block| !block.web_only && block.reason == Detector::Accounts));
        let whole = BlockKey::whole(Prefix::host(addr));
        let listed: Vec<BlockKey> = filter.automatic_blocks()?.iter().map(AutomaticBlock::key).collect();
        let web = BlockKey { web_only: true, ..whole };
        assert_eq!(listed, [whole, web]);
        // One goes, the other stays, in the kernel and for the store.
        assert!(filter.remove_automatic(&whole)? && !filter.remove_automatic(&whole)?);
        assert_eq!(reasons()?, ["automatic-block", "counted", "passed"]);
        filter.block(&new(addr, Detector::Accounts))?;
        assert!(filter.remove_automatic(&web)?);
        assert_eq!(reasons()?, ["automatic-block", "automatic-block", "passed"]);
        assert!(filter.remove_automatic(&whole)?);
        assert_eq!(reasons()?, ["counted", "counted", "passed"], "both are gone");
        let network: Prefix = "198.51.100.0/24".parse()?;
        let error = filter.block(&NewBlock { prefix: network, ..new(addr, Detector::Web) }).expect_err("a network");
        assert!(error.to_string().contains("198.51.100.0/24"), "{error}");
        filter.leave()
    });
}
