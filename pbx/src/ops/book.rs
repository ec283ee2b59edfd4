//! The manual rules in memory, as the store holds them. Read by every list and explanation, written only
//! after a commit. Decides who wins among them; knows no clock and no kernel table.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use pbx_core::{
    address::Prefix,
    rule::{Action, Capacity, Rule},
    time::Timestamp,
};

/// All rules, by range and by id.
#[derive(Debug, Default)]
pub struct Book {
    allow: BTreeMap<Prefix, Rule>,
    block: BTreeMap<Prefix, Rule>,
    ids: HashMap<i64, (Prefix, Action)>,
    /// Rules that end, the next one first.
    ends: BTreeSet<(Timestamp, i64)>,
    used: Capacity,
    next_id: i64,
}

impl Book {
    /// The book of these rules; `next_id` has never been used.
    pub fn new(rules: Vec<Rule>, next_id: i64) -> Self {
        let mut book = Self { next_id, ..Self::default() };
        rules.into_iter().for_each(|rule| book.insert(rule));
        book
    }

    /// The rule for exactly this range.
    pub fn of(&self, prefix: &Prefix, action: Action) -> Option<&Rule> {
        self.side(action).get(prefix)
    }

    /// The rule of that id.
    pub fn by_id(&self, id: i64) -> Option<&Rule> {
        let (prefix, action) = self.ids.get(&id)?;
        self.of(prefix, *action)
    }

    /// Every rule, allow before block, by range.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.allow.values().chain(self.block.values())
    }

    /// The rules of one action, by range.
    pub fn with(&self, action: Action) -> impl Iterator<Item = &Rule> {
        self.side(action).values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many there are of each kind.
    pub const fn used(&self) -> Capacity {
        self.used
    }

    /// The id for the next new rule; the caller counts on from it.
    pub const fn next_id(&self) -> i64 {
        self.next_id
    }

    /// Live rules whose range covers `prefix`, the longest first, allow before block: the first one wins.
    pub fn covering(&self, prefix: &Prefix, now: Timestamp) -> Vec<&Rule> {
        let mut found = Vec::new();
        for len in (0..=prefix.len()).rev() {
            let Ok(range) = Prefix::new(prefix.addr(), len) else { continue };
            // An IPv6 range shorter than /96 never is an IPv4 one, so the length stays as it was asked for.
            if range.len() != len {
                continue;
            }
            for action in [Action::Allow, Action::Block] {
                found.extend(self.of(&range, action).filter(|rule| rule.is_live(now)));
            }
        }
        found
    }

    /// The live rule that decides about an address.
    pub fn decides(&self, addr: IpAddr, now: Timestamp) -> Option<&Rule> {
        self.covering(&Prefix::host(addr), now).into_iter().next()
    }

    /// Rules of one action inside `prefix`, itself included.
    pub fn inside(&self, prefix: &Prefix, action: Action) -> impl Iterator<Item = &Rule> {
        let last = Prefix::host(prefix.last());
        self.side(action).range(*prefix..=last).map(|(_, rule)| rule).filter(move |rule| prefix.covers(&rule.prefix))
    }

    /// Rules whose time is over.
    pub fn expired(&self, now: Timestamp) -> Vec<Rule> {
        // A rule ends at its end, not after it.
        let over = self.ends.range(..=(now, i64::MAX));
        over.filter_map(|(_, id)| self.by_id(*id)).cloned().collect()
    }

    /// Follows a committed change.
    pub fn change(&mut self, removed: &[Rule], added: &[Rule]) {
        for rule in removed {
            let side = match rule.action {
                Action::Allow => &mut self.allow,
                Action::Block => &mut self.block,
            };
            if let Some(old) = side.remove(&rule.prefix) {
                self.ids.remove(&rule.id);
                if let Some(end) = old.expires_at {
                    self.ends.remove(&(end, old.id));
                }
                self.used.remove(&rule.prefix);
            }
        }
        added.iter().cloned().for_each(|rule| self.insert(rule));
    }

    fn insert(&mut self, rule: Rule) {
        self.next_id = self.next_id.max(rule.id + 1);
        self.used.add(&rule.prefix);
        self.ids.insert(rule.id, (rule.prefix, rule.action));
        self.ends.extend(rule.expires_at.map(|end| (end, rule.id)));
        match rule.action {
            Action::Allow => self.allow.insert(rule.prefix, rule),
            Action::Block => self.block.insert(rule.prefix, rule),
        };
    }

    fn side(&self, action: Action) -> &BTreeMap<Prefix, Rule> {
        match action {
            Action::Allow => &self.allow,
            Action::Block => &self.block,
        }
    }
}

#[cfg(test)]
mod tests {
    use pbx_core::rule::{Origin, Zone};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn rule(id: i64, prefix: &str, action: Action) -> Rule {
        Rule {
            id,
            prefix: prefix.parse().unwrap(),
            action,
            zone: Zone::Any,
            origin: Origin::Manual,
            description: String::new(),
            created_at: NOW,
            created_by: "root".into(),
            expires_at: None,
        }
    }

    #[test]
    fn the_longest_live_rule_decides_and_on_a_tie_allow() {
        let mut short_lived = rule(4, "192.0.2.7", Action::Block);
        short_lived.expires_at = Some(NOW);
        let book = Book::new(
            vec![
                rule(1, "192.0.0.0/16", Action::Block),
                rule(2, "192.0.2.0/24", Action::Block),
                rule(3, "192.0.2.0/24", Action::Allow),
                short_lived,
            ],
            9,
        );
        assert_eq!(book.decides("192.0.2.7".parse().unwrap(), NOW).unwrap().id, 3);
        assert_eq!(book.decides("192.0.3.7".parse().unwrap(), NOW).unwrap().id, 1);
        assert!(book.decides("198.51.100.1".parse().unwrap(), NOW).is_none());
        assert!(book.decides("::1".parse().unwrap(), NOW).is_none());
        assert_eq!(book.expired(NOW).len(), 1);
        assert_eq!(book.next_id(), 9);
    }

    #[test]
    fn rules_inside_a_range_are_found_and_their_neighbours_are_not() {
        let book = Book::new(
            ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "10.2.0.0/16", "2001:db8::1"]
                .iter()
                .zip(1..)
                .map(|(prefix, id)| rule(id, prefix, Action::Block))
                .collect(),
            6,
        );
        let inside = |prefix: &str| -> Vec<i64> {
            book.inside(&prefix.parse().unwrap(), Action::Block).map(|rule| rule.id).collect()
        };
        assert_eq!(inside("10.1.0.0/16"), [2, 3]);
        assert_eq!(inside("0.0.0.0/0"), [1, 2, 3, 4]);
        assert_eq!(inside("::/0"), [5]);
        assert_eq!(inside("10.1.2.3"), [3]);
    }

    #[test]
    fn a_change_is_followed_in_every_index() {
        let mut book = Book::new(vec![rule(1, "192.0.2.1", Action::Block)], 2);
        let longer = Rule { description: "again".into(), ..rule(1, "192.0.2.1", Action::Block) };
        book.change(&[rule(1, "192.0.2.1", Action::Block)], &[longer, rule(2, "::/0", Action::Allow)]);
        assert_eq!(book.by_id(1).unwrap().description, "again");
        assert_eq!((book.len(), book.used().ipv4_addresses, book.used().ipv6_prefixes), (2, 1, 1));
        assert_eq!(book.next_id(), 3);
        book.change(&[rule(2, "::/0", Action::Allow)], &[]);
        assert!(book.by_id(2).is_none() && book.of(&"::/0".parse().unwrap(), Action::Allow).is_none());
    }
}
