use std::{net::SocketAddr, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    settings::Settings,
    transport::{Flow, Protocol},
};

const EXTENSION: ExtensionId = ExtensionId(101);
const UUID: &[u8] = b"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";

fn wall() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn after(seconds: u64) -> Moment {
    Moment::ZERO + Duration::from_secs(seconds)
}

fn udp(remote: &str) -> Flow {
    Flow {
        transport: TransportId(1),
        protocol: Protocol::Udp,
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: remote.parse().unwrap(),
        connection: None,
    }
}

fn tls(remote: &str, connection: u64) -> Flow {
    let connection = Some(ConnectionId(connection));
    Flow { transport: TransportId(3), protocol: Protocol::Tls, connection, ..udp(remote) }
}

fn request<'a>(contacts: ContactSet<'a>, cseq: u32) -> Register<'a> {
    Register {
        extension: EXTENSION,
        contacts,
        call_id: b"a84b4c76e66710",
        cseq,
        expires: Some(300),
        path: &[],
        user_agent: b"baresip v1.0",
        flow: udp("198.51.100.7:40000"),
        behind_nat: true,
        supports_outbound: false,
    }
}

fn contact(uri: &str) -> Contact<'_> {
    Contact { uri: uri.as_bytes(), ..Contact::default() }
}

fn removed(uri: &str) -> Contact<'_> {
    Contact { expires: Some(0), ..contact(uri) }
}

/// A registrar, and the time in it.
struct Site {
    registrar: Registrar,
    seconds: u64,
}

impl Site {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(changes: &[(&str, &str)]) -> Self {
        let mut settings = Settings::default();
        for (key, value) in changes {
            settings.set(key, value).unwrap();
        }
        Self { registrar: Registrar::new(Limits::from(&settings.sip), wall()), seconds: 0 }
    }

    fn wall(&self) -> Timestamp {
        wall().saturating_add(Duration::from_secs(self.seconds))
    }

    fn send(&mut self, request: &Register<'_>) -> Result<Registered, Refused> {
        let wall = self.wall();
        let answer = self.registrar.register(request, after(self.seconds), wall);
        self.check();
        answer
    }

    fn list(&mut self, contacts: &[Contact<'_>], cseq: u32) -> Result<Registered, Refused> {
        self.send(&request(ContactSet::List(contacts), cseq))
    }

    /// URI and remaining seconds of what is registered.
    fn contacts(&mut self) -> Vec<(String, u32)> {
        let asked = self.send(&request(ContactSet::Query, 0)).unwrap();
        assert_eq!(asked.changes, []);
        asked.contacts.iter().map(|contact| (contact.uri.to_string(), contact.expires)).collect()
    }

    fn expire(&mut self) -> Vec<BindingChange> {
        std::iter::from_fn(|| self.registrar.expire(after(self.seconds))).collect()
    }

    /// All indexes say the same.
    fn check(&self) {
        let Registrar { bindings, extensions, connections, ends, .. } = &self.registrar;
        let of_extensions: usize = extensions.values().map(Vec::len).sum();
        assert_eq!((bindings.len(), bindings.len()), (of_extensions, ends.len()));
        assert!(extensions.values().all(|ids| !ids.is_empty()));
        let connected = bindings.values().filter(|binding| binding.connection.is_some()).count();
        assert_eq!(connections.values().map(Vec::len).sum::<usize>(), connected);
        for (id, binding) in bindings {
            assert!(extensions[&binding.stored.extension].contains(id));
            assert!(ends.contains(&(binding.expires, *id)));
        }
    }
}

fn kinds(changes: &[BindingChange]) -> Vec<&'static str> {
    let kind = |change: &BindingChange| match change {
        BindingChange::Added(_) => "added",
        BindingChange::Refreshed(_) => "refreshed",
        BindingChange::Unreachable(_) => "unreachable",
        BindingChange::Removed(_, why) => why.word(),
    };
    changes.iter().map(kind).collect()
}

#[test]
fn a_phone_registers_refreshes_and_leaves() {
    let mut site = Site::new();
    let first = site.list(&[contact("sip:101@10.0.0.5:5060")], 1).unwrap();
    assert_eq!(kinds(&first.changes), ["added"]);
    assert_eq!((first.contacts[0].uri.as_ref(), first.contacts[0].expires), ("sip:101@10.0.0.5:5060", 300));
    let binding = site.registrar.of(EXTENSION).next().unwrap();
    assert_eq!(binding.flow(), Some(udp("198.51.100.7:40000")));
    assert_eq!(binding.stored().expires_at, wall().saturating_add(Duration::from_secs(300)));
    let id = binding.stored().id;

    site.seconds = 100;
    assert_eq!(site.contacts(), [("sip:101@10.0.0.5:5060".to_owned(), 200)]);
    let mut moved = [contact("sip:101@10.0.0.5:5060")];
    let mut again = request(ContactSet::List(&moved), 2);
    again.flow = udp("198.51.100.7:40001");
    let again = site.send(&again).unwrap();
    assert_eq!(kinds(&again.changes), ["refreshed"]);
    let stored = again.changes[0].binding();
    assert_eq!((stored.id, stored.since, stored.remote.port()), (id, wall(), 40_001));
    assert_eq!(again.contacts[0].expires, 300);

    moved[0].expires = Some(0);
    let left = site.list(&moved, 3).unwrap();
    assert_eq!((kinds(&left.changes), left.contacts), (vec!["unregistered"], vec![]));
    assert_eq!((site.registrar.len(), site.registrar.next_timeout()), (0, None));
}

#[test]
fn expiry_is_bounded_from_both_sides_and_has_a_default() {
    let mut site = Site::new();
    let granted = |site: &mut Site, cseq, header, own| {
        let contacts = [Contact { expires: own, ..contact("sip:101@10.0.0.5") }];
        let request = Register { expires: header, ..request(ContactSet::List(&contacts), cseq) };
        site.send(&request).map(|answer| answer.contacts[0].expires)
    };
    assert_eq!(granted(&mut site, 1, None, None), Ok(300));
    assert_eq!(granted(&mut site, 2, Some(600), None), Ok(600));
    assert_eq!(granted(&mut site, 3, Some(600), Some(90)), Ok(90));
    assert_eq!(granted(&mut site, 4, Some(u32::MAX), None), Ok(3600));
    assert_eq!(granted(&mut site, 5, Some(600), Some(89)), Err(Refused::TooBrief { minimum: 90 }));
    assert_eq!(Refused::TooBrief { minimum: 90 }.status(), 423);
    assert_eq!(site.contacts(), [("sip:101@10.0.0.5".to_owned(), 3600)]);
}

#[test]
fn all_contacts_of_a_request_or_none() {
    let mut site = Site::new();
    site.list(&[contact("sip:a@10.0.0.1"), contact("sip:b@10.0.0.2")], 5).unwrap();
    let before = site.contacts();
    let brief = Contact { expires: Some(1), ..contact("sip:d@10.0.0.4") };
    for (contacts, cseq, refused) in [
        ([removed("sip:a@10.0.0.1"), contact("sip:c@10.0.0.3"), brief], 6, Refused::TooBrief { minimum: 90 }),
        ([removed("sip:a@10.0.0.1"), contact("sip:c@10.0.0.3"), contact("tel:1")], 6, Refused::BadContact),
        ([contact("sip:c@10.0.0.3"), contact("sip:d@x"), contact("sip:b@10.0.0.2")], 4, Refused::OutOfOrder),
    ] {
        assert_eq!(site.list(&contacts, cseq), Err(refused));
        assert_eq!(site.contacts(), before);
    }
}

#[test]
fn within_a_call_id_the_cseq_only_rises_and_a_repeated_request_changes_nothing() {
    let mut site = Site::new();
    let contacts = [contact("sip:101@10.0.0.5")];
    site.list(&contacts, 7).unwrap();
    site.seconds = 10;
    let repeated = site.list(&contacts, 7).unwrap();
    assert_eq!((repeated.changes, repeated.contacts[0].expires), (vec![], 290));
    assert_eq!(site.list(&contacts, 6), Err(Refused::OutOfOrder));
    assert_eq!(site.list(&[removed("sip:101@10.0.0.5")], 7), Err(Refused::OutOfOrder));
    assert_eq!(Refused::OutOfOrder.status(), 400);
    let mut restarted = request(ContactSet::List(&contacts), 1);
    restarted.call_id = b"another";
    assert_eq!(kinds(&site.send(&restarted).unwrap().changes), ["refreshed"]);
}

#[test]
fn a_star_ends_all_contacts_and_needs_expires_0() {
    let mut site = Site::new();
    site.list(&[contact("sip:a@10.0.0.1"), contact("sip:b@10.0.0.2")], 1).unwrap();
    for expires in [None, Some(1), Some(3600)] {
        let star = Register { expires, ..request(ContactSet::Star, 2) };
        assert_eq!(site.send(&star), Err(Refused::StarWithTime));
    }
    let late = Register { expires: Some(0), ..request(ContactSet::Star, 1) };
    assert_eq!(site.send(&late), Err(Refused::OutOfOrder));
    let star = Register { expires: Some(0), ..request(ContactSet::Star, 2) };
    let answer = site.send(&star).unwrap();
    assert_eq!((kinds(&answer.changes), answer.contacts), (vec!["unregistered"; 2], vec![]));
    assert!(site.registrar.is_empty());
}

#[test]
fn equal_uris_are_one_binding_and_the_last_of_a_request_counts() {
    let mut site = Site::new();
    site.list(&[contact("sip:%61lice@Phone.example;transport=UDP")], 1).unwrap();
    let again = site.list(&[contact("sip:alice@phone.EXAMPLE;transport=udp;x=1")], 2).unwrap();
    assert_eq!(kinds(&again.changes), ["refreshed"]);
    assert_eq!(site.contacts(), [("sip:alice@phone.EXAMPLE;transport=udp;x=1".to_owned(), 300)]);
    site.list(&[contact("sip:alice@phone.example")], 3).unwrap();
    assert_eq!(site.registrar.len(), 2);
    let last = Contact { expires: Some(600), ..contact("sip:new@10.0.0.1") };
    site.list(&[contact("sip:new@10.0.0.1"), removed("sip:new@10.0.0.1"), last], 4).unwrap();
    assert_eq!(site.contacts()[2], ("sip:new@10.0.0.1".to_owned(), 600));
    site.list(&[contact("sip:new@10.0.0.1"), removed("sip:new@10.0.0.1")], 5).unwrap();
    assert_eq!(site.registrar.len(), 2);
}

#[test]
fn an_extension_has_so_many_contacts_and_no_more() {
    let mut site = Site::with(&[("sip.contacts", "2")]);
    let (a, b, c) = ("sip:a@10.0.0.1", "sip:b@10.0.0.2", "sip:c@10.0.0.3");
    site.list(&[contact(a), contact(b)], 1).unwrap();
    assert_eq!(site.list(&[contact(c)], 2), Err(Refused::TooManyContacts));
    assert_eq!(Refused::TooManyContacts.status(), 403);
    assert_eq!(kinds(&site.list(&[contact(b)], 3).unwrap().changes), ["refreshed"]);
    assert_eq!(kinds(&site.list(&[removed(a), contact(c)], 4).unwrap().changes), ["unregistered", "added"]);
    let contacts = [contact(a)];
    let other = Register { extension: ExtensionId(102), ..request(ContactSet::List(&contacts), 1) };
    assert!(site.registrar.register(&other, Moment::ZERO, wall()).is_ok());
    // A limit that was lowered ends nothing, and lets no new contact in.
    let limits = site.registrar.limits;
    site.registrar.set_limits(Limits { contacts: 1, ..limits });
    assert_eq!(kinds(&site.list(&[contact(c)], 5).unwrap().changes), ["refreshed"]);
    assert_eq!(site.list(&[contact(a)], 5), Err(Refused::TooManyContacts));
}

#[test]
fn ten_thousand_contacts_in_a_request_are_refused() {
    let mut site = Site::new();
    let uris: Vec<_> = (0..10_000).map(|n| format!("sip:{n}@10.0.0.1")).collect();
    let contacts: Vec<_> = uris.iter().map(|uri| contact(uri)).collect();
    assert_eq!(site.list(&contacts, 1), Err(Refused::TooManyContacts));
    assert_eq!(site.list(&contacts[..11], 1), Err(Refused::TooManyContacts));
    assert!(site.registrar.is_empty());
}

#[test]
fn more_contacts_than_an_extension_may_have_are_refused_before_they_are_looked_at() {
    let mut site = Site::new();
    // What they are would be another reason.
    let none = contact("no uri");
    assert_eq!(site.list(&[none; 11], 1), Err(Refused::TooManyContacts));
    assert_eq!(site.list(&[Contact { expires: Some(0), ..none }; 11], 1), Err(Refused::TooManyContacts));
    assert_eq!(site.list(&[none; 10], 1), Err(Refused::BadContact));
    // As many may come as go, and who has more than are allowed now keeps and takes back what it has.
    let uris: Vec<_> = (0..20).map(|n| format!("sip:{n}@10.0.0.1")).collect();
    let (old, new): (Vec<_>, Vec<_>) = (uris[..10].iter().collect(), uris[10..].iter().collect());
    let list = |site: &mut Site, leave: &[&String], come: &[&String], cseq| {
        let contacts = [leave, come].concat();
        let contacts: Vec<_> = contacts
            .iter()
            .enumerate()
            .map(|(at, uri)| Contact {
                uri: uri.as_bytes(),
                expires: (at < leave.len()).then_some(0),
                ..Contact::default()
            })
            .collect();
        site.list(&contacts, cseq).map(|answer| answer.contacts.len())
    };
    assert_eq!(list(&mut site, &[], &old, 1), Ok(10));
    assert_eq!(list(&mut site, &old, &new, 2), Ok(10));
    site.registrar.set_limits(Limits { contacts: 1, ..site.registrar.limits });
    assert_eq!(list(&mut site, &[], &new, 3), Ok(10));
    assert_eq!(list(&mut site, &new, &[], 4), Ok(0));
}

#[test]
fn contacts_without_end_that_are_all_alike_but_for_the_last_parameter_are_few() {
    let mut site = Site::with(&[("sip.contacts", "100")]);
    let parameters: String = (0..31).map(|n| format!(";p{n:02}={}", "x".repeat(20))).collect();
    let uris: Vec<_> = (0..100).map(|n| format!("sip:a@10.0.0.1{parameters};z={n}")).collect();
    let contacts: Vec<_> = uris.iter().map(|uri| contact(uri)).collect();
    assert_eq!(site.list(&contacts, 1).map(|answer| answer.contacts.len()), Ok(100));
    let more = format!("{};one=more", uris[0]);
    assert_eq!(site.list(&[contact(&more)], 2), Err(Refused::BadContact));
}

#[test]
fn text_without_a_bound_or_that_is_no_text_is_refused() {
    let mut site = Site::new();
    let long = format!("sip:{}@host", "x".repeat(LONGEST_URI));
    for uri in [long.as_bytes(), b"sip:\xff@host", b"sip:a@host\r\nVia: x", b"", b"*"] {
        let contacts = [Contact { uri, ..Contact::default() }];
        assert_eq!(site.send(&request(ContactSet::List(&contacts), 1)), Err(Refused::BadContact));
    }
    let contacts = [contact("sip:a@host")];
    let good = request(ContactSet::List(&contacts), 1);
    let long = vec![b'x'; 60_000];
    let hops = [&b"<sip:a@proxy;lr>"[..]; 1000];
    assert_eq!(site.send(&Register { call_id: &long, ..good }), Err(Refused::BadHeader));
    assert_eq!(site.send(&Register { path: &hops, ..good }), Err(Refused::BadHeader));
    let instance = [Contact { instance: Some(&long), ..contact("sip:a@host") }];
    assert_eq!(site.list(&instance, 1), Err(Refused::BadHeader));
    // What is only shown is cut.
    let agent = "é\x1b[31m".repeat(10_000);
    let agent = site.send(&Register { user_agent: agent.as_bytes(), ..good }).unwrap();
    let agent = &agent.changes[0].binding().user_agent;
    assert!(agent.starts_with("é[31m") && agent.len() <= LONGEST_USER_AGENT && agent.len() > 100);
}

#[test]
fn a_binding_ends_by_itself_in_its_second_and_a_refreshed_one_does_not() {
    let mut site = Site::new();
    site.list(&[Contact { expires: Some(90), ..contact("sip:a@10.0.0.1") }, contact("sip:b@10.0.0.2")], 1).unwrap();
    assert_eq!(site.registrar.next_timeout(), Some(after(90)));
    site.seconds = 89;
    assert_eq!(site.expire(), []);
    assert_eq!(site.contacts()[0].1, 1);
    site.seconds = 90;
    let ended = site.expire();
    assert_eq!((kinds(&ended), ended[0].binding().contact.as_ref()), (vec!["expired"], "sip:a@10.0.0.1"));
    site.list(&[contact("sip:b@10.0.0.2")], 2).unwrap();
    assert_eq!(site.registrar.next_timeout(), Some(after(390)));
    site.seconds = 389;
    assert_eq!(site.expire(), []);
    site.seconds = 1000;
    assert_eq!(kinds(&site.expire()), ["expired"]);
    site.check();
}

#[test]
fn a_phone_whose_connection_closed_waits_unreachable_until_it_returns() {
    let mut site = Site::new();
    let contacts = [contact("sip:101@10.0.0.5;transport=tls")];
    site.send(&Register { flow: tls("198.51.100.7:50001", 1), ..request(ContactSet::List(&contacts), 1) }).unwrap();
    let lost = site.registrar.connection_closed(ConnectionId(1));
    assert_eq!(kinds(&lost), ["unreachable"]);
    assert_eq!(site.registrar.connection_closed(ConnectionId(1)), []);
    assert_eq!(site.registrar.of(EXTENSION).next().unwrap().flow(), None);
    assert_eq!(site.contacts().len(), 1);
    let back = tls("198.51.100.7:50002", 2);
    site.send(&Register { flow: back, ..request(ContactSet::List(&contacts), 2) }).unwrap();
    assert_eq!(site.registrar.of(EXTENSION).next().unwrap().flow(), Some(back));
    // The connection before it says nothing about it any more.
    assert_eq!(site.registrar.connection_closed(ConnectionId(1)), []);
    assert_eq!(kinds(&site.registrar.transport_closed(TransportId(3))), ["unreachable"]);
    assert_eq!(site.registrar.connection_closed(ConnectionId(2)), []);
    site.check();
}

#[test]
fn what_cannot_be_reached_gives_way_to_a_new_contact() {
    let mut site = Site::with(&[("sip.contacts", "2")]);
    for (cseq, uri) in [(1, "sip:a@10.0.0.1:5001"), (2, "sip:a@10.0.0.1:5002")] {
        let contacts = [contact(uri)];
        let request = request(ContactSet::List(&contacts), cseq);
        site.send(&Register { flow: tls("198.51.100.7:50001", cseq.into()), ..request }).unwrap();
    }
    assert_eq!(site.list(&[contact("sip:a@10.0.0.1:5003")], 3), Err(Refused::TooManyContacts));
    site.registrar.connection_closed(ConnectionId(1));
    let answer = site.list(&[contact("sip:a@10.0.0.1:5003")], 4).unwrap();
    assert_eq!(kinds(&answer.changes), ["gave_way", "added"]);
    assert_eq!(answer.changes[0].binding().contact.as_ref(), "sip:a@10.0.0.1:5001");
}

#[test]
fn an_outbound_contact_is_told_by_instance_and_reg_id() {
    let mut site = Site::new();
    let flow = |reg_id, uri| [Contact { instance: Some(UUID), reg_id: Some(reg_id), ..contact(uri) }];
    let send = |site: &mut Site, contacts: &[Contact<'_>], cseq| {
        site.send(&Register { supports_outbound: true, ..request(ContactSet::List(contacts), cseq) })
    };
    let first = send(&mut site, &flow(1, "sip:101@10.0.0.5:1111"), 1).unwrap();
    assert!(first.outbound);
    assert_eq!((first.contacts[0].reg_id, first.contacts[0].instance.as_deref()), (Some(1), str::from_utf8(UUID).ok()));
    // The phone started again with another port: the same binding.
    let again = send(&mut site, &flow(1, "sip:101@10.0.0.5:2222"), 2).unwrap();
    assert_eq!((kinds(&again.changes), again.contacts.len()), (vec!["refreshed"], 1));
    // A second flow of the phone, to the same URI: another one.
    let second = send(&mut site, &flow(2, "sip:101@10.0.0.5:2222"), 3).unwrap();
    assert_eq!((kinds(&second.changes), second.contacts.len()), (vec!["added"], 2));
    // Two at once are none that RFC 5626 knows.
    let both = [flow(1, "sip:101@10.0.0.5:1")[0], flow(2, "sip:101@10.0.0.5:2")[0]];
    assert_eq!(send(&mut site, &both, 4), Err(Refused::SeveralOutbound));
    // Without the option tag or the instance, a reg-id means nothing.
    let plain = site.list(&flow(3, "sip:101@10.0.0.5:3333"), 5).unwrap();
    assert_eq!((plain.outbound, plain.contacts[2].reg_id), (false, None));
    let no_instance = [Contact { reg_id: Some(3), ..contact("sip:101@10.0.0.5:3333") }];
    assert!(!send(&mut site, &no_instance, 6).unwrap().outbound);
    // The same phone begins to use it: still one binding.
    let begun = send(&mut site, &flow(3, "sip:101@10.0.0.5:3333"), 7).unwrap();
    assert_eq!((kinds(&begun.changes), begun.contacts.len()), (vec!["refreshed"], 3));
}

#[test]
fn a_path_is_kept_and_its_first_hop_must_keep_flows_for_outbound() {
    let mut site = Site::new();
    let contacts = [Contact { instance: Some(UUID), reg_id: Some(1), ..contact("sip:101@10.0.0.5") }];
    let request = Register { supports_outbound: true, ..request(ContactSet::List(&contacts), 1) };
    let (far, near) = (&b"<sip:far.example;lr;ob>"[..], &b"<sip:near.example;lr>"[..]);
    let refused = site.send(&Register { path: &[far, near], ..request }).unwrap_err();
    assert_eq!((refused, refused.status()), (Refused::FirstHopLacksOutbound, 439));
    let answer = site.send(&Register { path: &[near, far], ..request }).unwrap();
    let path = answer.changes[0].binding().path.clone();
    assert_eq!(path.as_deref(), Some("<sip:near.example;lr>,<sip:far.example;lr;ob>"));
}

#[test]
fn udp_bindings_survive_a_restart_and_the_others_wait() {
    let mut site = Site::new();
    site.list(&[contact("sip:udp@10.0.0.1"), Contact { expires: Some(90), ..contact("sip:short@10.0.0.1") }], 1)
        .unwrap();
    let contacts = [contact("sip:tls@10.0.0.2")];
    site.send(&Register { flow: tls("198.51.100.7:5", 9), ..request(ContactSet::List(&contacts), 2) }).unwrap();
    let stored: Vec<_> = site.registrar.bindings().map(|binding| binding.stored().clone()).collect();

    let mut later = Site { seconds: 100, ..Site::new() };
    let wall = later.wall();
    let changes = later.registrar.restore(stored.clone(), |_| true, (after(100), wall));
    assert_eq!(kinds(&changes), ["expired"]);
    assert_eq!(later.contacts(), [("sip:udp@10.0.0.1".to_owned(), 200), ("sip:tls@10.0.0.2".to_owned(), 200)]);
    let flows: Vec<_> = later.registrar.of(EXTENSION).map(Binding::flow).collect();
    assert_eq!(flows, [Some(udp("198.51.100.7:40000")), None]);
    // A REGISTER that was sent again because its answer died with the daemon.
    assert_eq!(later.list(&[contact("sip:udp@10.0.0.1")], 1).unwrap().changes, []);
    // Names are not given twice.
    let ids: BTreeSet<_> = stored.iter().map(|binding| binding.id).collect();
    let new = later.list(&[contact("sip:new@10.0.0.3")], 3).unwrap();
    assert!(!ids.contains(&new.changes[0].binding().id));
    // A clock that was set back a year.
    let mut earlier = Site::new();
    let past = wall.saturating_sub(Duration::from_secs(365 * 86_400));
    earlier.registrar.restore(stored.clone(), |_| true, (Moment::ZERO, past));
    assert!(earlier.contacts().iter().all(|(_, left)| *left == 3600));
    // Nobody listens there any more.
    let mut elsewhere = Site::new();
    elsewhere.registrar.restore(stored, |binding| binding.transport != TransportId(1), (Moment::ZERO, past));
    assert!(elsewhere.registrar.bindings().all(|binding| binding.flow().is_none()));
    assert_eq!(elsewhere.contacts().len(), 3);
}

#[test]
fn administrators_end_bindings_and_so_do_their_extensions() {
    let mut site = Site::new();
    for number in 101..104 {
        let contacts = [contact("sip:a@10.0.0.1"), contact("sip:b@10.0.0.1")];
        let request = request(ContactSet::List(&contacts), 1);
        site.send(&Register { extension: ExtensionId(number), ..request }).unwrap();
    }
    let id = site.registrar.of(ExtensionId(102)).next().unwrap().stored().id;
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!(kinds(site.registrar.drop_binding(id).as_slice()), ["dropped"]);
    assert_eq!(site.registrar.drop_binding(id), None);
    assert_eq!(kinds(&site.registrar.revoke(|extension| extension != ExtensionId(101))), ["revoked"; 2]);
    assert_eq!(site.registrar.len(), 3);
    assert_eq!(site.registrar.counts().collect::<Vec<_>>(), [(ExtensionId(102), 1), (ExtensionId(103), 2)]);
    site.check();
}

#[test]
fn a_binding_takes_less_than_a_kibibyte_beside_its_text() {
    // In the tree, in its extension's list, in the queue of ends; nodes of a tree are at least half full.
    let in_trees = 2 * (size_of::<(BindingId, Box<Binding>)>() + size_of::<(Moment, BindingId)>());
    let in_list = 2 * size_of::<(ExtensionId, Vec<BindingId>)>() + 4 * size_of::<BindingId>();
    assert!(size_of::<Binding>() + in_trees + in_list < 600, "{}", size_of::<Binding>());
}

#[derive(Clone, Debug)]
enum Act {
    Register { extension: u32, uri: u8, expires: Option<u32>, cseq: u32, connection: Option<u64>, reg_id: Option<u32> },
    Star(u32),
    Close(u64),
    Wait(u64),
    Revoke(u32),
}

fn acts() -> impl Strategy<Value = Act> {
    let expires = prop::option::of(prop_oneof![Just(0), Just(10), 90..5000_u32]);
    let register = (0..3_u32, 0..6_u8, expires, 0..50_u32, prop::option::of(0..4_u64), prop::option::of(0..3_u32))
        .prop_map(|(extension, uri, expires, cseq, connection, reg_id)| Act::Register {
            extension,
            uri,
            expires,
            cseq,
            connection,
            reg_id,
        });
    prop_oneof![
        8 => register,
        1 => (0..3_u32).prop_map(Act::Star),
        1 => (0..4_u64).prop_map(Act::Close),
        2 => (0..2000_u64).prop_map(Act::Wait),
        1 => (0..3_u32).prop_map(Act::Revoke),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_changes_told_add_up_to_the_bindings_there_are(acts in prop::collection::vec(acts(), 1..80)) {
        let mut site = Site::with(&[("sip.contacts", "3")]);
        let mut told: BTreeMap<BindingId, StoredBinding> = BTreeMap::new();
        for act in acts {
            let changes = match act {
                Act::Register { extension, uri, expires, cseq, connection, reg_id } => {
                    let uri = format!("sip:{uri}@10.0.0.1");
                    let contacts = [Contact { expires, instance: Some(UUID), reg_id, ..contact(&uri) }];
                    let mut request = request(ContactSet::List(&contacts), cseq);
                    request.extension = ExtensionId(extension);
                    request.supports_outbound = true;
                    let remote = SocketAddr::from(([198, 51, 100, 7], 40_000));
                    request.flow = connection.map_or(request.flow, |id| tls(&remote.to_string(), id));
                    site.send(&request).map(|answer| answer.changes).unwrap_or_default()
                }
                Act::Star(extension) => {
                    let star = request(ContactSet::Star, 60);
                    let star = Register { extension: ExtensionId(extension), expires: Some(0), ..star };
                    site.send(&star).map(|answer| answer.changes).unwrap_or_default()
                }
                Act::Close(connection) => site.registrar.connection_closed(ConnectionId(connection)),
                Act::Wait(seconds) => {
                    site.seconds += seconds;
                    site.expire()
                }
                Act::Revoke(extension) => site.registrar.revoke(|one| one != ExtensionId(extension)),
            };
            for change in changes {
                match change {
                    BindingChange::Added(binding) => prop_assert!(told.insert(binding.id, binding).is_none()),
                    BindingChange::Refreshed(binding) | BindingChange::Unreachable(binding) => {
                        prop_assert!(told.insert(binding.id, binding).is_some());
                    }
                    BindingChange::Removed(binding, _) => prop_assert!(told.remove(&binding.id).is_some()),
                }
            }
            site.check();
            let is: BTreeMap<_, _> =
                site.registrar.bindings().map(|binding| (binding.stored().id, binding.stored().clone())).collect();
            prop_assert_eq!(&told, &is);
            prop_assert!(site.registrar.extensions.values().all(|ids| ids.len() <= 3));
            prop_assert!(site.registrar.ends.iter().all(|(end, _)| *end > after(site.seconds)));
        }
    }
}
