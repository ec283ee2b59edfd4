//! How many rules there may be: what the kernel tables guarantee, checked before anything is written.

use crate::address::Prefix;

/// Rules for single addresses that are guaranteed room at once, for each family.
pub const MAX_ADDRESSES: usize = 262_144;
/// Rules for ranges that are guaranteed room at once, for each family.
pub const MAX_PREFIXES: usize = 65_536;

/// Rules by family and size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Rules for one IPv4 address.
    pub ipv4_addresses: usize,
    /// Rules for an IPv4 range.
    pub ipv4_prefixes: usize,
    /// Rules for one IPv6 address.
    pub ipv6_addresses: usize,
    /// Rules for an IPv6 range.
    pub ipv6_prefixes: usize,
}

impl Capacity {
    /// What these rules use; one for each rule, also for an allow and a block of the same range.
    pub fn of<'a>(prefixes: impl IntoIterator<Item = &'a Prefix>) -> Self {
        let mut used = Self::default();
        for prefix in prefixes {
            used.add(prefix);
        }
        used
    }

    /// Counts one rule more.
    pub fn add(&mut self, prefix: &Prefix) {
        *self.of_kind(prefix) += 1;
    }

    /// Counts one rule less.
    pub fn remove(&mut self, prefix: &Prefix) {
        let count = self.of_kind(prefix);
        *count = count.saturating_sub(1);
    }

    /// Whether there is room for `more` beside these.
    pub fn check(&self, more: &Self) -> Result<(), CapacityError> {
        let Self { ipv4_addresses, ipv4_prefixes, ipv6_addresses, ipv6_prefixes } = *self;
        for (what, there, adding, limit) in [
            ("IPv4 addresses", ipv4_addresses, more.ipv4_addresses, MAX_ADDRESSES),
            ("IPv4 ranges", ipv4_prefixes, more.ipv4_prefixes, MAX_PREFIXES),
            ("IPv6 addresses", ipv6_addresses, more.ipv6_addresses, MAX_ADDRESSES),
            ("IPv6 ranges", ipv6_prefixes, more.ipv6_prefixes, MAX_PREFIXES),
        ] {
            // What is there may be over the limit of another version; that is no reason to refuse nothing.
            if adding > 0 && there.saturating_add(adding) > limit {
                return Err(CapacityError { what, there, adding, limit });
            }
        }
        Ok(())
    }

    fn of_kind(&mut self, prefix: &Prefix) -> &mut usize {
        match (prefix.is_ipv4(), prefix.is_host()) {
            (true, true) => &mut self.ipv4_addresses,
            (true, false) => &mut self.ipv4_prefixes,
            (false, true) => &mut self.ipv6_addresses,
            (false, false) => &mut self.ipv6_prefixes,
        }
    }
}

/// No room for the rules that were to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no room: there are {there} rules for {what}, {adding} were to be added, and {limit} are the most; remove some, or merge neighbours into ranges"
)]
pub struct CapacityError {
    /// Kind of rule: `IPv4 addresses`, `IPv6 ranges`.
    pub what: &'static str,
    /// Rules of this kind that are there.
    pub there: usize,
    /// Rules of this kind that were to be added.
    pub adding: usize,
    /// The most rules of this kind.
    pub limit: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_counted_by_family_and_size() {
        let prefixes =
            ["192.0.2.1", "192.0.2.2", "192.0.2.0/24", "2001:db8::1", "2001:db8::/64", "::ffff:192.0.2.3", "::/0"]
                .map(|text| text.parse().unwrap());
        let mut used = Capacity::of(&prefixes);
        assert_eq!(used, Capacity { ipv4_addresses: 3, ipv4_prefixes: 1, ipv6_addresses: 1, ipv6_prefixes: 2 });
        used.remove(&prefixes[0]);
        assert_eq!(used.ipv4_addresses, 2);
    }

    #[test]
    fn the_last_rule_that_fits_is_taken_and_the_next_refused_with_the_numbers() {
        let there = Capacity { ipv6_prefixes: MAX_PREFIXES - 2, ..Capacity::default() };
        let more = |count| Capacity { ipv6_prefixes: count, ..Capacity::default() };
        assert_eq!(there.check(&more(2)), Ok(()));
        assert_eq!(
            there.check(&more(3)).unwrap_err().to_string(),
            "no room: there are 65534 rules for IPv6 ranges, 3 were to be added, and 65536 are the most; \
             remove some, or merge neighbours into ranges"
        );
        assert!(there.check(&more(usize::MAX)).is_err());
    }

    #[test]
    fn a_full_kind_leaves_room_for_the_others() {
        let full = Capacity { ipv4_addresses: MAX_ADDRESSES + 1, ..Capacity::default() };
        assert_eq!(full.check(&Capacity { ipv4_prefixes: 1, ..Capacity::default() }), Ok(()));
        assert!(full.check(&Capacity { ipv4_addresses: 1, ..Capacity::default() }).is_err());
    }
}
