//! Random rules and addresses from a small world, in which everything nests, ties and meets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pbx_core::{address::Prefix, filter::Until, rule::Action};
use pbx_ebpf::abi::tick;

use crate::dice::Dice;

/// A source.
pub(crate) fn address(dice: &mut Dice) -> IpAddr {
    if dice.one_in(2) {
        let [b, c, d] =
            [dice.pick(&[0, 1, 128]), dice.pick(&[0, 1, 2, 127, 255]), dice.pick(&[0, 1, 2, 16, 127, 128, 255])];
        return Ipv4Addr::new(dice.pick(&[10, 11, 203]), b, c, d).into();
    }
    let high = dice.pick(&[0x2001, 0x2001, 0x2001, 0x2003, 0xfe80, 0xfd00]);
    let [a, b, c] = [dice.pick(&[0xdb8, 0xdb9]), dice.pick(&[0, 1, 0x8000]), dice.pick(&[0, 1, 0xff00])];
    let low = dice.pick(&[0, 1, 2, 0x7f, 0xffff]);
    Ipv6Addr::new(high, a, b, c, dice.pick(&[0, 0x8000]), 0, 0, low).into()
}

/// A prefix over such a source.
pub(crate) fn prefix(dice: &mut Dice) -> Prefix {
    let addr = address(dice);
    let len = if addr.is_ipv4() {
        let common = [32, 32, 32, 32, 31, 30, 28, 26, 25, 24, 24, 24, 23, 20, 17, 16, 16, 12];
        if dice.one_in(300) { dice.pick(&[0, 1, 8]) } else { dice.pick(&common) }
    } else {
        dice.pick(&[128, 128, 128, 127, 112, 96, 65, 64, 64, 64, 63, 56, 49, 48, 47, 33, 32, 31, 24, 16, 8, 3, 1, 0])
    };
    Prefix::new(addr, len).expect("a length of the family")
}

/// Either action.
pub(crate) fn action(dice: &mut Dice) -> Action {
    dice.pick(&[Action::Allow, Action::Block])
}

/// When a rule ends: never, or within some ticks.
pub(crate) fn until(dice: &mut Dice, now: u64) -> Until {
    match dice.below(20) {
        0..=9 => Until::Forever,
        10 => Until::Tick(tick(now) as u32 + (1 << 28)),
        _ => Until::Tick(tick(now) as u32 + 1 + dice.below(6) as u32),
    }
}
