//! The media ports that calls hold, and the flows to them, in the tables of the kernel or of the daemon: kept by
//! difference. A port is open before anybody is told of it, and a flow ends before its port closes.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
};

use pbx_core::{filter::HostTables, media::Pair};
use pbx_ebpf::abi::media::Flow;
use pbx_xdp::Maps;

use super::halves;
use crate::{
    filter::{MediaChange, MediaHeld},
    host::reserved::Uncovered,
};

/// What becomes of packets to ports that no call holds, as an event tells it.
pub(super) fn in_words(open: Option<&Uncovered>) -> String {
    match open {
        None => "packets to media ports that no call holds are dropped from now on".to_owned(),
        Some(why) => format!("packets to media ports that no call holds are not dropped: {why}"),
    }
}

/// Where ports and flows are written.
pub(super) trait Place {
    fn hold(&self, port: u16, held: bool);
    fn held(&self) -> Vec<u16>;
    fn flows(&self) -> io::Result<Vec<Flow>>;
    fn add_flow(&self, flow: Flow) -> io::Result<()>;
    fn remove_flow(&self, flow: Flow) -> io::Result<()>;
    fn mark_flows(&self, any: bool);
}

/// What the tables hold.
#[derive(Debug, Default)]
pub(super) struct Book {
    held: HashMap<Pair, [Option<IpAddr>; 2]>,
}

impl Book {
    /// Carries a change out. After an error only `Are` makes all right again.
    pub(super) fn change(&mut self, tables: &impl Place, change: &MediaChange) -> io::Result<()> {
        match change {
            MediaChange::Are(all) => self.replace(tables, all)?,
            MediaChange::Change { held, gone } => {
                for pair in gone {
                    self.forget(tables, *pair)?;
                }
                for leg in held {
                    self.hold(tables, leg)?;
                }
            }
        }
        Ok(())
    }

    /// Also takes away what an earlier daemon left.
    fn replace(&mut self, tables: &impl Place, all: &[MediaHeld]) -> io::Result<()> {
        let wanted: HashMap<Pair, [Option<IpAddr>; 2]> = all.iter().map(|leg| (leg.pair, leg.from)).collect();
        let ports: HashSet<u16> = wanted.keys().flat_map(|pair| [pair.rtp, pair.rtcp()]).collect();
        let flows: HashSet<Flow> = wanted.iter().flat_map(|(pair, from)| flows(*pair, *from)).collect();
        for flow in tables.flows()?.into_iter().filter(|flow| !flows.contains(flow)) {
            tables.remove_flow(flow)?;
        }
        tables.held().into_iter().filter(|port| !ports.contains(port)).for_each(|port| tables.hold(port, false));
        self.held.clear();
        tables.mark_flows(false);
        all.iter().try_for_each(|leg| self.hold(tables, leg))
    }

    fn hold(&mut self, tables: &impl Place, leg: &MediaHeld) -> io::Result<()> {
        let MediaHeld { pair, from } = *leg;
        [pair.rtp, pair.rtcp()].into_iter().for_each(|port| tables.hold(port, true));
        let before = self.held.insert(pair, from).unwrap_or_default();
        for (was, is) in flows_or_none(pair, before).into_iter().zip(flows_or_none(pair, from)) {
            if was == is {
                continue;
            }
            if let Some(flow) = is {
                tables.add_flow(flow)?;
                tables.mark_flows(true);
            }
            if let Some(flow) = was {
                tables.remove_flow(flow)?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, tables: &impl Place, pair: Pair) -> io::Result<()> {
        let Some(from) = self.held.remove(&pair) else { return Ok(()) };
        for flow in flows(pair, from) {
            tables.remove_flow(flow)?;
        }
        [pair.rtp, pair.rtcp()].into_iter().for_each(|port| tables.hold(port, false));
        if self.held.is_empty() {
            tables.mark_flows(false);
        }
        Ok(())
    }
}

fn flows_or_none(pair: Pair, from: [Option<IpAddr>; 2]) -> [Option<Flow>; 2] {
    let flow = |addr: Option<IpAddr>, port: u16| {
        let (hi, lo) = halves(addr?);
        Some(Flow { hi, lo, port: u64::from(port) })
    };
    [flow(from[0], pair.rtp), flow(from[1], pair.rtcp())]
}

fn flows(pair: Pair, from: [Option<IpAddr>; 2]) -> impl Iterator<Item = Flow> {
    flows_or_none(pair, from).into_iter().flatten()
}

impl Place for Maps {
    fn hold(&self, port: u16, held: bool) {
        Self::hold(self, port, held);
    }
    fn held(&self) -> Vec<u16> {
        Self::held(self)
    }
    fn flows(&self) -> io::Result<Vec<Flow>> {
        Self::flows(self)
    }
    fn add_flow(&self, flow: Flow) -> io::Result<()> {
        Self::add_flow(self, flow)
    }
    fn remove_flow(&self, flow: Flow) -> io::Result<()> {
        Self::remove_flow(self, flow)
    }
    fn mark_flows(&self, any: bool) {
        Self::mark_flows(self, any);
    }
}

impl Place for HostTables {
    fn hold(&self, port: u16, held: bool) {
        if held { Self::hold(self, port) } else { self.release(port) }
    }
    fn held(&self) -> Vec<u16> {
        Self::held(self)
    }
    fn flows(&self) -> io::Result<Vec<Flow>> {
        Ok(Self::flows(self))
    }
    fn add_flow(&self, flow: Flow) -> io::Result<()> {
        Self::add_flow(self, flow);
        Ok(())
    }
    fn remove_flow(&self, flow: Flow) -> io::Result<()> {
        Self::remove_flow(self, &flow);
        Ok(())
    }
    // The tables look themselves.
    fn mark_flows(&self, _: bool) {}
}

#[cfg(test)]
mod tests {
    use pbx_ebpf::hash::Seed;

    use super::*;

    fn leg(rtp: u16, from: [Option<&str>; 2]) -> MediaHeld {
        MediaHeld { pair: Pair { rtp }, from: from.map(|addr| addr.map(|addr| addr.parse().unwrap())) }
    }

    fn flow(addr: &str, port: u64) -> Flow {
        let (hi, lo) = halves(addr.parse().unwrap());
        Flow { hi, lo, port }
    }

    fn there(tables: &HostTables) -> (Vec<u16>, HashSet<Flow>) {
        (tables.held(), tables.flows().into_iter().collect())
    }

    #[test]
    fn ports_and_flows_come_change_and_go_with_their_legs() {
        let tables = HostTables::new(Seed(1, 2));
        let mut book = Book::default();
        let mut change = |held: &[MediaHeld], gone: &[u16]| {
            let gone = gone.iter().map(|rtp| Pair { rtp: *rtp }).collect();
            book.change(&tables, &MediaChange::Change { held: held.to_vec(), gone }).unwrap();
            there(&tables)
        };
        assert_eq!(change(&[leg(45_000, [None, None])], &[]), (vec![45_000, 45_001], HashSet::new()));
        let both = [flow("192.0.2.1", 45_000), flow("192.0.2.1", 45_001)].into();
        let one = leg(45_000, [Some("192.0.2.1"), Some("192.0.2.1")]);
        assert_eq!(change(&[one], &[]), (vec![45_000, 45_001], both));
        let moved = [flow("2001:db8::7", 45_000), flow("192.0.2.1", 45_001)].into();
        let two = leg(45_000, [Some("2001:db8::7"), Some("192.0.2.1")]);
        assert_eq!(change(&[two], &[]), (vec![45_000, 45_001], moved));
        let (ports, flows) = change(&[leg(45_126, [Some("192.0.2.3"), None])], &[45_000, 45_500]);
        assert_eq!((ports, flows), (vec![45_126, 45_127], [flow("192.0.2.3", 45_126)].into()));
        assert_eq!(change(&[], &[45_126]), (vec![], HashSet::new()));
    }

    #[test]
    fn what_an_earlier_daemon_left_goes_when_all_are_told() {
        let tables = HostTables::new(Seed(1, 2));
        HostTables::hold(&tables, 50_000);
        HostTables::add_flow(&tables, flow("192.0.2.9", 50_000));
        let mut book = Book::default();
        book.change(&tables, &MediaChange::Are(vec![leg(45_000, [Some("192.0.2.1"), None])])).unwrap();
        assert_eq!(there(&tables), (vec![45_000, 45_001], [flow("192.0.2.1", 45_000)].into()));
        book.change(&tables, &MediaChange::Are(vec![])).unwrap();
        assert_eq!(there(&tables), (vec![], HashSet::new()));
    }
}
