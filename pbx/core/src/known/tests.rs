use std::{collections::HashSet, hash::BuildHasherDefault};

use proptest::prelude::*;

use super::*;
use crate::transport::{Protocol, TransportId};

const DAY: u64 = 86_400;

fn wall(seconds: u64) -> Timestamp {
    Timestamp::EPOCH.saturating_add(Duration::from_secs(365 * DAY + seconds))
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(addr: &str, port: u16) -> Key {
    Key { addr: addr.parse().unwrap(), port: (port != 0).then_some(port) }
}

fn binding(id: u64, remote: &str) -> StoredBinding {
    StoredBinding {
        id: BindingId(id),
        extension: ExtensionId(1),
        contact: Arc::from("sip:a@10.0.0.1"),
        q: 1000,
        instance: None,
        reg_id: None,
        call_id: Arc::from("a"),
        cseq: 1,
        path: None,
        user_agent: Arc::from(""),
        transport: TransportId(1),
        protocol: Protocol::Udp,
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: remote.parse().unwrap(),
        behind_nat: false,
        since: Timestamp::EPOCH,
        expires_at: Timestamp::EPOCH,
    }
}

fn changes(known: &mut Known) -> Vec<KnownChange> {
    std::iter::from_fn(|| known.poll_change()).collect()
}

fn told(known: &Known) -> Vec<Key> {
    let mut keys: Vec<_> = known.told().collect();
    keys.sort();
    keys
}

use KnownChange::{Forget, Remove, Set, Write};

#[test]
fn two_phones_behind_one_router_keep_its_address_known_until_both_are_gone() {
    let mut known = Known::new([1, 2]);
    let (one, two) = (binding(1, "198.51.100.7:1000"), binding(2, "198.51.100.7:2000"));
    known.bound(&one, true);
    assert_eq!(changes(&mut known), [Set(key("198.51.100.7", 0)), Set(key("198.51.100.7", 1000))]);
    known.binding_changed(&BindingChange::Added(two.clone()));
    known.binding_changed(&BindingChange::Refreshed(two.clone()));
    assert_eq!(changes(&mut known), [Set(key("198.51.100.7", 2000))]);
    known.unbound(BindingId(1));
    known.unbound(BindingId(1));
    assert_eq!(changes(&mut known), [Remove(key("198.51.100.7", 1000))]);
    assert!(known.is_known(addr("::ffff:198.51.100.7")) && known.set().contains(addr("198.51.100.7")));
    known.binding_changed(&BindingChange::Removed(two, crate::registrar::Ended::Expired));
    let gone = [Remove(key("198.51.100.7", 0)), Remove(key("198.51.100.7", 2000))];
    assert_eq!(changes(&mut known), gone);
    assert!(!known.is_known(addr("198.51.100.7")) && !known.set().contains(addr("198.51.100.7")));
}

#[test]
fn a_phone_that_moves_is_known_where_it_is_and_its_address_never_in_between_unknown() {
    let mut known = Known::new([1, 2]);
    known.bound(&binding(1, "[2001:db8::7]:1000"), true);
    changes(&mut known);
    known.bound(&binding(1, "[2001:db8::7]:1001"), true);
    assert_eq!(changes(&mut known), [Set(key("2001:db8::7", 1001)), Remove(key("2001:db8::7", 1000))]);
    known.binding_changed(&BindingChange::Unreachable(binding(1, "[2001:db8::7]:1001")));
    assert_eq!(changes(&mut known), [Remove(key("2001:db8::7", 1001))]);
    assert!(known.is_known(addr("2001:db8::7")) && !known.is_known(addr("2001:db8::8")));
}

#[test]
fn a_password_makes_known_for_thirty_days_and_is_written_once_an_hour() {
    let mut known = Known::new([1, 2]);
    let (source, extension) = (addr("198.51.100.7"), ExtensionId(5));
    known.succeeded(source, extension, wall(0));
    let success = |seconds| Success { addr: source, extension, last: wall(seconds) };
    assert_eq!(changes(&mut known), [Set(key("198.51.100.7", 0)), Write(success(0))]);
    known.succeeded(source, extension, wall(3599));
    assert_eq!(changes(&mut known), []);
    assert_eq!(known.successes(source).collect::<Vec<_>>(), [success(3599)]);
    known.succeeded(source, extension, wall(3600));
    known.succeeded(source, extension, wall(3700));
    assert_eq!(changes(&mut known), [Write(success(3600))]);
    known.expire(wall(30 * DAY + 3599));
    assert_eq!(changes(&mut known), []);
    // The success after the last write counts.
    known.expire(wall(30 * DAY + 3600));
    assert_eq!(changes(&mut known), [Write(success(3700))]);
    known.expire(wall(30 * DAY + 3700));
    assert_eq!(changes(&mut known), [Forget { addr: source, extension }, Remove(key("198.51.100.7", 0))]);
    assert!(known.written.is_empty());
}

#[test]
fn successes_are_restored_and_those_that_are_too_old_forgotten() {
    let mut known = Known::new([1, 2]);
    let success =
        |addr: &str, seconds| Success { addr: addr.parse().unwrap(), extension: ExtensionId(1), last: wall(seconds) };
    known.restore([success("192.0.2.1", 0), success("192.0.2.2", 5), success("192.0.2.3", 99 * DAY)], wall(30 * DAY));
    let forgotten = Forget { addr: addr("192.0.2.1"), extension: ExtensionId(1) };
    assert_eq!(changes(&mut known), [forgotten, Set(key("192.0.2.2", 0)), Set(key("192.0.2.3", 0))]);
    // What a wrong clock wrote ends thirty days after the restart.
    known.expire(wall(60 * DAY));
    assert!(!known.is_known(addr("192.0.2.3")));
}

#[test]
fn who_lost_a_password_or_extension_is_not_known_by_it() {
    let mut known = Known::new([1, 2]);
    known.succeeded(addr("192.0.2.1"), ExtensionId(1), wall(0));
    known.succeeded(addr("192.0.2.1"), ExtensionId(2), wall(0));
    known.succeeded(addr("192.0.2.2"), ExtensionId(1), wall(0));
    known.revoke(|extension| extension != ExtensionId(1));
    assert!(known.is_known(addr("192.0.2.1")) && !known.is_known(addr("192.0.2.2")));
    assert_eq!(known.successes(addr("192.0.2.1")).count(), 1);
}

#[test]
fn when_the_table_is_full_registrations_come_first_and_the_oldest_successes_give_way() {
    let mut known = Known::with_capacity(3, [1, 2]);
    for (host, seconds) in [("192.0.2.1", 10), ("192.0.2.2", 20), ("192.0.2.3", 30)] {
        known.succeeded(addr(host), ExtensionId(1), wall(seconds));
    }
    changes(&mut known);
    known.succeeded(addr("192.0.2.4"), ExtensionId(1), wall(40));
    assert_eq!(changes(&mut known)[..2], [Remove(key("192.0.2.1", 0)), Set(key("192.0.2.4", 0))]);
    assert_eq!(known.waiting.len(), 1);
    assert!(known.is_known(addr("192.0.2.1")) && known.set().contains(addr("192.0.2.1")));
    // A registration of one that waits, and its port.
    known.bound(&binding(1, "192.0.2.1:5000"), true);
    assert_eq!(told(&known), [key("192.0.2.1", 0), key("192.0.2.1", 5000), key("192.0.2.4", 0)]);
    // Two more ports: the table is full of registrations, and one waits.
    known.bound(&binding(2, "192.0.2.1:5001"), true);
    known.bound(&binding(3, "192.0.2.1:5002"), true);
    assert_eq!(told(&known), [key("192.0.2.1", 0), key("192.0.2.1", 5000), key("192.0.2.1", 5001)]);
    known.unbound(BindingId(1));
    assert_eq!(told(&known), [key("192.0.2.1", 0), key("192.0.2.1", 5001), key("192.0.2.1", 5002)]);
    known.unbound(BindingId(2));
    known.unbound(BindingId(3));
    assert_eq!(told(&known), [key("192.0.2.2", 0), key("192.0.2.3", 0), key("192.0.2.4", 0)]);
}

#[derive(Clone, Debug)]
enum Act {
    Bind(u64, u8, u16, bool),
    Unbind(u64),
    Succeed(u8, u32),
    Wait(u64),
    Revoke(u32),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..6_u64, 0..5_u8, 1..3_u16, any::<bool>()).prop_map(|(id, host, port, up)| Act::Bind(id, host, port, up)),
        2 => (0..6_u64).prop_map(Act::Unbind),
        4 => (0..8_u8, 0..3_u32).prop_map(|(host, extension)| Act::Succeed(host, extension)),
        2 => (0..20 * DAY).prop_map(Act::Wait),
        1 => (0..3_u32).prop_map(Act::Revoke),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_filter_has_what_it_should_and_never_more_than_it_can_hold(
        acts in prop::collection::vec(acts(), 1..80)
    ) {
        let mut known = Known::with_capacity(6, [1, 2]);
        let mut filter: HashSet<Key, BuildHasherDefault<std::hash::DefaultHasher>> = HashSet::default();
        let mut stored: BTreeMap<(IpAddr, ExtensionId), Timestamp> = BTreeMap::new();
        let mut live: BTreeMap<u64, (IpAddr, Option<u16>)> = BTreeMap::new();
        let mut seconds = 0;
        for act in acts {
            match act {
                Act::Bind(id, host, port, up) => {
                    known.bound(&binding(id, &format!("192.0.2.{host}:{port}")), up);
                    live.insert(id, (addr(&format!("192.0.2.{host}")), up.then_some(port)));
                }
                Act::Unbind(id) => {
                    known.unbound(BindingId(id));
                    live.remove(&id);
                }
                Act::Succeed(host, extension) => {
                    known.succeeded(addr(&format!("192.0.2.{host}")), ExtensionId(extension), wall(seconds));
                }
                Act::Wait(more) => {
                    seconds += more;
                    known.expire(wall(seconds));
                }
                Act::Revoke(extension) => known.revoke(|one| one != ExtensionId(extension)),
            }
            while let Some(change) = known.poll_change() {
                match change {
                    Set(key) => prop_assert!(filter.insert(key)),
                    Remove(key) => prop_assert!(filter.remove(&key)),
                    Write(success) => {
                        stored.insert((success.addr, success.extension), success.last);
                    }
                    Forget { addr, extension } => prop_assert!(stored.remove(&(addr, extension)).is_some()),
                }
                prop_assert!(filter.len() <= 6);
            }
            let mut wanted = BTreeSet::new();
            for (addr, port) in live.values() {
                wanted.extend(keys(*addr, *port));
            }
            let registered = wanted.len();
            wanted.extend(stored.keys().map(|(addr, _)| Key { addr: *addr, port: None }));
            prop_assert_eq!(filter.len(), wanted.len().min(6));
            prop_assert_eq!(known.waiting.len(), wanted.len() - filter.len());
            prop_assert_eq!(known.successes.len(), stored.len());
            let ports = filter.iter().filter(|key| live.values().any(|(addr, port)| keys(*addr, *port).any(|one| one == **key)));
            prop_assert_eq!(ports.count(), registered.min(6));
            for host in 0..8 {
                let addr = addr(&format!("192.0.2.{host}"));
                let is = wanted.contains(&Key { addr, port: None });
                prop_assert_eq!((known.is_known(addr), known.set().contains(addr)), (is, is));
            }
        }
    }
}
