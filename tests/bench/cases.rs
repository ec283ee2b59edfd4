//! The pairs: which packets, which programs, which target.

use std::path::Path;

use anyhow::Result;
use pbx_xdp::Options;

use crate::{
    pairs::{Effort, Pair, Said, Side, measure},
    population::{Blocked, OTHERS, Sources, frame_from, scattered},
    programs::{Driver, Filter, Program, XdpFilter},
    report::Report,
    run::{self, DROP, Outcome, PASS},
};

/// The SIP port, protected by default.
const SIP: u16 = 5060;
/// A port that nothing protects.
const ELSEWHERE: u16 = 443;
/// Turns a network of 25 to 30 bits into its neighbour in the same /24.
const NEXT_DOOR: u32 = 0x80;

const XDP_FILTER: &str = "xdp-filter";
const TRIE: &str = "LPM trie";

/// Measures them all. `pins` is a folder in a bpffs.
pub(crate) fn measure_all(pins: &Path, effort: Effort, only: Option<&str>, report: &mut Report) -> Result<()> {
    let [addresses, networks, mixed] = [Blocked::Addresses, Blocked::Networks, Blocked::Mixed].map(Against::load);
    let (addresses, networks, mixed) = (addresses?, networks?, mixed?);
    let xdp_filter = XdpFilter::load(&pins.join("xdp-filter"))?.program;
    let lru = Driver::load(0)?.program("lru4")?;
    let nothing = Driver::load(0)?.program("drop_all")?;
    let without_hits = Filter::load(Some(Blocked::Addresses), Options { count_hits: false, ..Options::default() })?;
    let without_reasons =
        Filter::load(Some(Blocked::Addresses), Options { count_reasons: false, ..Options::default() })?;
    let without_samples = Filter::load(Some(Blocked::Addresses), Options::default())?;
    without_samples.sample(0);
    let without_samples = without_samples.without_levels();
    let (without_hits, without_reasons) = (without_hits.without_levels(), without_reasons.without_levels());

    let mut pairs = Vec::new();
    addresses.blocked_addresses(&xdp_filter, &mut pairs);
    networks.prefixes("/24", "/64", &mut pairs);
    mixed.prefixes("of mixed lengths", "of mixed lengths", &mut pairs);
    mixed.next_door(&mut pairs);
    addresses.others(&xdp_filter, &mut pairs);
    addresses.spoofed(&lru, &mut pairs);
    for (what, without) in [
        ("last hit and packets of each address", &without_hits),
        ("packets and bytes by reason and interface", &without_reasons),
        ("samples of 1 in 1,024 dropped packets", &without_samples),
    ] {
        addresses.price(what, without, &mut pairs);
    }
    addresses.floor(&nothing, &mut pairs);
    pairs.retain(|pair| only.is_none_or(|text| pair.case.contains(text)));
    let filters = [&addresses.filter, &networks.filter, &mixed.filter, &without_hits, &without_reasons];
    measure(&pairs, effort, || filters.iter().for_each(|filter| filter.drain()), report)
}

/// The filter, and the plain designs with the same entries.
struct Against {
    filter: Filter,
    driver: Driver,
    tries: [Program; 2],
}

/// Single frames or a driver's.
#[derive(Clone, Copy)]
enum Frames {
    One(u32),
    Many(Sources),
}

impl Against {
    fn load(blocked: Blocked) -> Result<Self> {
        let mut driver = Driver::load(0)?;
        let tries = [driver.program("trie4")?, driver.program("trie6")?];
        if blocked != Blocked::Addresses {
            driver.fill(blocked)?;
        }
        Ok(Against { filter: Filter::load(Some(blocked), Options::default())?.without_levels(), driver, tries })
    }

    /// A program on frames.
    fn side<'a>(
        &'a self,
        program: &'a Program,
        frames: Frames,
        ipv6: bool,
        port: u16,
        verdict: Option<u32>,
    ) -> Side<'a> {
        match frames {
            Frames::One(bits) => {
                let frame = frame_from(bits, ipv6, port);
                Side::new(verdict, move |repeat| run::timed(program.fd(), &frame, repeat))
            }
            Frames::Many(sources) => {
                let frame = sources.frame(ipv6, port);
                Side::new(verdict, move |repeat| self.driver.drive(program, ipv6, &frame, repeat))
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn pair<'a>(
        &'a self,
        case: impl Into<String>,
        (peer, program): (&'static str, &'a Program),
        frames: Frames,
        ipv6: bool,
        port: u16,
        verdict: Option<u32>,
        said: Said,
    ) -> Pair<'a> {
        Pair {
            case: case.into(),
            peer,
            ours: self.side(&self.filter.program, frames, ipv6, port, verdict),
            theirs: self.side(program, frames, ipv6, port, verdict),
            said,
        }
    }

    fn blocked_addresses<'a>(&'a self, xdp_filter: &'a Program, pairs: &mut Vec<Pair<'a>>) {
        let (peer, all, one) = ((XDP_FILTER, xdp_filter), Frames::Many(Sources::BLOCKED), Frames::One(scattered(7)));
        let mut add = |case: &str, frames, ipv6, target| {
            let case = format!("100,000 blocked addresses, {case}");
            pairs.push(self.pair(case, peer, frames, ipv6, SIP, Some(DROP), Said::Ratio(target)));
        };
        add("IPv4, random sources", all, false, Some(0.55));
        add("IPv4, one source", one, false, Some(0.6));
        add("IPv6, random sources", all, true, Some(0.35));
        add("IPv6, one source", one, true, None);
    }

    fn prefixes<'a>(&'a self, kind4: &str, kind6: &str, pairs: &mut Vec<Pair<'a>>) {
        let [trie4, trie6] = &self.tries;
        let (hit, miss) = (Frames::Many(Sources::BLOCKED), Frames::Many(Sources::CROWD));
        let mut add = |case: &str, trie, frames, ipv6, port, verdict, target| {
            let case = format!("100,000 blocked prefixes {case}");
            pairs.push(self.pair(case, (TRIE, trie), frames, ipv6, port, verdict, Said::Ratio(Some(target))));
        };
        add(&format!("{kind4}, IPv4, hit"), trie4, hit, false, SIP, Some(DROP), 0.25);
        // A few of the others lie in a short prefix; for both programs alike.
        add(&format!("{kind4}, IPv4, miss"), trie4, miss, false, ELSEWHERE, None, 0.5);
        add(&format!("{kind6}, IPv6, hit"), trie6, hit, true, SIP, Some(DROP), 0.25);
        add(&format!("{kind6}, IPv6, miss"), trie6, miss, true, ELSEWHERE, None, 1.0);
    }

    /// The worst miss: from the other half of a /24 that has a listed network of 25 to 30 bits.
    fn next_door<'a>(&'a self, pairs: &mut Vec<Pair<'a>>) {
        let sources = Sources { flip: NEXT_DOOR, ..Sources::BLOCKED };
        let peer = (TRIE, &self.tries[0]);
        let case = "100,000 blocked prefixes of mixed lengths, IPv4, next door";
        pairs.push(self.pair(case, peer, Frames::Many(sources), false, ELSEWHERE, None, Said::Ratio(None)));
    }

    fn others<'a>(&'a self, xdp_filter: &'a Program, pairs: &mut Vec<Pair<'a>>) {
        let peer = (XDP_FILTER, xdp_filter);
        let (crowd, one) = (Frames::Many(Sources::CROWD), Frames::One(scattered(OTHERS)));
        let mut add = |case: &str, frames, ipv6, port, target| {
            pairs.push(self.pair(case, peer, frames, ipv6, port, Some(PASS), Said::Ratio(target)));
        };
        add("unrelated packet, IPv4, random sources", crowd, false, ELSEWHERE, Some(0.6));
        add("unrelated packet, IPv4, one source", one, false, ELSEWHERE, Some(0.8));
        add("unrelated packet, IPv6, random sources", crowd, true, ELSEWHERE, None);
        add("SIP packet with rate accounting, IPv4, random sources", crowd, false, SIP, Some(1.2));
        add("SIP packet with rate accounting, IPv4, one source", one, false, SIP, Some(1.2));
        add("SIP packet with rate accounting, IPv6, random sources", crowd, true, SIP, None);
    }

    fn spoofed<'a>(&'a self, lru: &'a Program, pairs: &mut Vec<Pair<'a>>) {
        let (peer, spoofed) = (("LRU hash", lru), Frames::Many(Sources::SPOOFED));
        let case = "rate accounting under 16,777,216 spoofed sources";
        pairs.push(self.pair(case, peer, spoofed, false, SIP, Some(PASS), Said::Ratio(Some(0.15))));
    }

    /// What a run costs without any program to speak of, and with the driver.
    fn floor<'a>(&'a self, nothing: &'a Program, pairs: &mut Vec<Pair<'a>>) {
        let one = || self.side(nothing, Frames::One(scattered(7)), false, SIP, Some(DROP));
        let driven = || self.side(nothing, Frames::Many(Sources::BLOCKED), false, SIP, Some(DROP));
        let mut add = |case: &str, ours| {
            let none = Side::new(None, |_| Ok(Outcome { verdict: DROP, nanoseconds: 0.0 }));
            pairs.push(Pair { case: case.into(), peer: "nothing", ours, theirs: none, said: Said::Difference });
        };
        add("in every figure above: the test run itself", one());
        add("in every figure above of many sources: the test run and the driver", driven());
    }

    /// What a counter costs: the same tables with and without it.
    fn price<'a>(&'a self, what: &str, without: &'a Filter, pairs: &mut Vec<Pair<'a>>) {
        let peer = ("the filter without it", &without.program);
        for (frames, sources) in
            [(Frames::Many(Sources::BLOCKED), "random sources"), (Frames::One(scattered(7)), "one source")]
        {
            let case = format!("price of {what}, {sources}");
            pairs.push(self.pair(case, peer, frames, false, SIP, Some(DROP), Said::Difference));
        }
    }
}
