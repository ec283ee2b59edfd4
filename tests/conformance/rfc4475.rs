//! Every message of RFC 4475, and what the RFC wants done with it.

use pbx_core::{
    gate::ALLOWED,
    wire::sip::{Contact, Edit, Fault, Message, Method, Name, Origin, ParseError, Reply, Scheme, StartLine, validate},
};

use crate::notation::{load, names};

/// What the wire layer does with a message.
#[derive(Debug, PartialEq)]
enum Want {
    /// It passes: what else is wrong is for routing or for the user agent to say.
    Pass,
    /// It is refused with a status.
    Status(u16),
    /// It is dropped, and nobody is told.
    Silence,
}
use Want::{Pass, Silence, Status};

/// Section, file, what to do.
const TABLE: &[(&str, &str, Want)] = &[
    ("3.1.1.1", "wsinv", Pass),
    // Well-formed; the method is nobody's.
    ("3.1.1.2", "intmeth", Status(501)),
    ("3.1.1.3", "esc01", Pass),
    ("3.1.1.4", "escnull", Pass),
    // Percent signs are no escapes in a method: this is no REGISTER.
    ("3.1.1.5", "esc02", Status(501)),
    ("3.1.1.6", "lwsdisp", Pass),
    ("3.1.1.7", "longreq", Pass),
    ("3.1.1.8", "dblreq", Pass),
    ("3.1.1.9", "semiuri", Pass),
    ("3.1.1.10", "transports", Pass),
    ("3.1.1.11", "mpart01", Pass),
    ("3.1.1.12", "unreason", Pass),
    ("3.1.1.13", "noreason", Pass),
    ("3.1.2.1", "badinv01", Status(400)),
    ("3.1.2.2", "clerr", Status(400)),
    ("3.1.2.3", "ncl", Status(400)),
    ("3.1.2.4", "scalar02", Status(400)),
    ("3.1.2.5", "scalarlg", Silence),
    ("3.1.2.6", "quotbal", Status(400)),
    ("3.1.2.7", "ltgtruri", Status(400)),
    ("3.1.2.8", "lwsruri", Status(400)),
    ("3.1.2.9", "lwsstart", Status(400)),
    ("3.1.2.10", "trws", Status(400)),
    ("3.1.2.11", "escruri", Status(400)),
    // The date is not needed, and the RFC lets whoever does not need it go on.
    ("3.1.2.12", "baddate", Pass),
    ("3.1.2.13", "regbadct", Status(400)),
    // The white space around the URI can be ignored, says the RFC.
    ("3.1.2.14", "badaspec", Pass),
    ("3.1.2.15", "baddn", Status(400)),
    ("3.1.2.16", "badvers", Status(505)),
    ("3.1.2.17", "mismatch01", Status(400)),
    ("3.1.2.18", "mismatch02", Status(501)),
    ("3.1.2.19", "bigcode", Silence),
    // Matched as RFC 2543 does, by the transaction layer.
    ("3.2.1", "badbranch", Pass),
    ("3.3.1", "insuf", Status(400)),
    ("3.3.2", "unkscm", Status(416)),
    ("3.3.3", "novelsc", Status(416)),
    ("3.3.4", "unksm2", Status(400)),
    ("3.3.5", "bext01", Status(420)),
    // 415 is the user agent's.
    ("3.3.6", "invut", Pass),
    // 401 is the gate's.
    ("3.3.7", "regaut01", Pass),
    ("3.3.8", "multi01", Status(400)),
    ("3.3.9", "mcl01", Status(400)),
    // Dropped by the transaction layer, which sent no such request.
    ("3.3.10", "bcast", Pass),
    // 483 is routing's.
    ("3.3.11", "zeromf", Pass),
    ("3.3.12", "cparam01", Pass),
    ("3.3.13", "cparam02", Pass),
    ("3.3.14", "regescrt", Pass),
    // 406 is the user agent's.
    ("3.3.15", "sdp01", Pass),
    ("3.4.1", "inv2543", Pass),
];

fn message(name: &str) -> Message<Vec<u8>> {
    Message::parse(load("rfc4475", name), Origin::Datagram).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_table_has_every_message() {
    let mut listed: Vec<String> = TABLE.iter().map(|(_, name, _)| (*name).to_owned()).collect();
    listed.sort();
    assert_eq!(listed, names("rfc4475"));
    let section = |prefix: &str| TABLE.iter().filter(|(section, ..)| section.starts_with(prefix)).count();
    assert_eq!(
        [section("3.1.1."), section("3.1.2."), section("3.2."), section("3.3."), section("3.4.")],
        [13, 19, 1, 15, 1]
    );
}

#[test]
fn every_message_gets_what_the_rfc_wants() {
    for (section, name, want) in TABLE {
        let got = match Message::parse(load("rfc4475", name), Origin::Datagram) {
            Err(error) => error.status().map_or(Silence, Status),
            Ok(message) => match validate(&message) {
                Ok(()) => Pass,
                Err(refusal) => refusal.status().map_or(Silence, Status),
            },
        };
        assert_eq!(got, *want, "{section} {name}");
    }
}

#[test]
fn every_refusal_can_be_written_and_read_again() {
    let source = "192.0.2.200:5060".parse().unwrap();
    for (section, name, want) in TABLE {
        let Status(status) = want else { continue };
        let request = message(name);
        let mut out = Vec::new();
        assert!(
            validate(&request).unwrap_err().answer(&mut out, &request, source, b"tag", ALLOWED),
            "{section} {name}"
        );
        let reply = Message::parse(&out, Origin::Stream).unwrap();
        assert_eq!(reply.code(), Some(*status), "{section} {name}");
        assert!(
            reply.via().unwrap().received() == Some(b"192.0.2.200")
                || request.via().unwrap().host == reply.via().unwrap().host
        );
        assert_eq!(reply.value(Name::CallId), request.value(Name::CallId), "{section} {name}");
        assert!(reply.body().is_empty());
    }
}

#[test]
fn every_message_comes_out_of_an_edit_as_it_went_in() {
    for name in names("rfc4475") {
        let Ok(message) = Message::parse(load("rfc4475", &name), Origin::Datagram) else { continue };
        let mut out = Vec::new();
        Edit::of(&message).write(&mut out);
        assert_eq!(out, message.bytes(), "{name}");
    }
}

#[test]
fn bodies_are_as_long_as_their_lengths_say() {
    // Those whose length is the point have a lie or none in them.
    for (_, name, _) in
        TABLE.iter().filter(|(_, name, _)| !["clerr", "ncl", "mcl01", "bigcode", "inv2543"].contains(name))
    {
        let message = message(name);
        let length = message.content_length().unwrap();
        assert_eq!(length, message.body().len() as u64, "{name}");
        if *name != "dblreq" {
            assert_eq!(message.head().len() + message.body().len(), message.bytes().len(), "{name}");
        }
    }
}

#[test]
fn wsinv_is_read_through_all_its_white_space() {
    let message = message("wsinv");
    assert_eq!(
        message.start_line(),
        StartLine::Request { method: Method::Invite, uri: b"sip:vivekg@chair-dnrc.example.com;unknownparam" }
    );
    assert!(message.request_uri().unwrap().params.has(b"unknownparam"));
    let to = message.to().unwrap();
    assert_eq!((text(to.uri), to.tag().map(text)), ("sip:vivekg@chair-dnrc.example.com", Some("1918181833n")));
    let from = message.from().unwrap();
    assert_eq!(&*from.display.unwrap().text(), br#"J Rosenberg \""#);
    assert_eq!((text(from.uri), from.tag().map(text)), ("sip:jdrosen@example.com", Some("98asjd8")));
    assert_eq!(message.max_forwards(), Ok(Some(68)));
    let cseq = message.cseq().unwrap();
    assert_eq!((cseq.number, cseq.method), (9, Method::Invite));
    assert_eq!(message.value(Name::Subject), Some(&b""[..]));
    assert_eq!(message.other("newfangledheader"), Some(&b"newfangled value\r\n continued newfangled value"[..]));
    assert_eq!(message.other("UnknownHeaderWithUnusualValue"), Some(&b";;,,;;,;"[..]));
    let vias: Vec<_> = message.vias().map(Result::unwrap).collect();
    let read: Vec<_> = vias
        .iter()
        .map(|via| (text(via.protocol), text(via.host.bytes()), text(via.branch().unwrap()), via.has_cookie()))
        .collect();
    assert_eq!(
        read,
        [
            ("UDP", "192.0.2.2", "390skdjuw", false),
            ("TCP", "spindle.example.com", "z9hG4bK9ikj8", true),
            ("UDP", "192.168.255.111", "z9hG4bK30239", true),
        ]
    );
    let route = message.addresses(Name::Route).next().unwrap().unwrap().uri().unwrap();
    assert!(route.is_loose() && route.params.has(b"unknown-no-value"));
    assert_eq!(route.params.value(b"unknownwith"), Some(&b"value"[..]));
    let Some(Ok(Contact::Address(contact))) = message.contacts().next() else { panic!() };
    assert_eq!(&*contact.display.unwrap().text(), br#"Quoted string """#);
    assert_eq!(contact.params.value(b"newparam"), Some(&b"newvalue"[..]));
    assert!(contact.params.has(b"secondparam"));
    assert_eq!(contact.q(), Some(330));
}

#[test]
fn a_reply_to_wsinv_is_a_plain_message_with_the_same_vias() {
    let request = message("wsinv");
    let mut out = Vec::new();
    Reply::start(&mut out, &request, 200, "192.0.2.2:5060".parse().unwrap(), Some(b"x"))
        .copy(Name::RecordRoute)
        .finish();
    let reply = Message::parse(&out, Origin::Stream).unwrap();
    assert_eq!(validate(&reply), Ok(()));
    let branches = |message: &Message<_>| message_branches(message);
    assert_eq!(branches(&reply.borrowed()), branches(&request.borrowed()));
    assert_eq!(reply.to().unwrap().tag(), Some(&b"1918181833n"[..]));
    // Nothing is folded any more.
    assert!(!out.windows(3).any(|window| window == b"\r\n "));
}

fn message_branches(message: &Message<&[u8]>) -> Vec<Vec<u8>> {
    message.vias().map(|via| via.unwrap().branch().unwrap().to_vec()).collect()
}

#[test]
fn intmeth_is_understood_to_the_last_odd_character() {
    let message = message("intmeth");
    let method = b"!interesting-Method0123456789_*+`.%indeed'~";
    assert_eq!(message.method(), Some(Method::Other(method)));
    assert_eq!(message.cseq().unwrap().method, Method::Other(method));
    let uri = message.request_uri().unwrap();
    assert_eq!(text(uri.user.unwrap()), "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*");
    assert_eq!(text(uri.password.unwrap()), "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)");
    assert_eq!(text(uri.host.bytes()), "example.com");
    assert_eq!(&*message.to().unwrap().display.unwrap().text(), b"BEL:\x07 NUL:\0 DEL:\x7f");
    let from = message.from().unwrap();
    assert_eq!(from.display.unwrap().raw(), b"token1~` token2'+_ token3*%!.-");
    assert_eq!(from.tag(), Some(&b"_token~1'+`*%!-."[..]));
    assert_eq!(from.params.find(b"fromParam''~+*_!.-%").unwrap().text().unwrap().raw(), "работающий".as_bytes());
    assert_eq!(message.call_id(), Ok(&b"intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"[..]));
    assert_eq!(message.max_forwards(), Ok(Some(255)));
    assert_eq!(message.other("extensionHeader-!.%*+_`'~"), Some("\u{feff}大停電".as_bytes()));
    assert_eq!(message.via().unwrap().branch(), Some(&b"z9hG4bK-.!%66*_+`'~"[..]));
}

#[test]
fn escapes_stay_and_are_resolved_only_to_compare() {
    let message = message("esc01");
    let uri = message.request_uri().unwrap();
    assert_eq!((uri.scheme, text(uri.user.unwrap()), uri.password), (Scheme::Sip, "sips%3Auser%40example.com", None));
    assert!(uri.user_is(b"sips:user@example.com"));
    assert!(message.to().unwrap().uri().unwrap().user_is(b"user"));
    assert_eq!(message.from().unwrap().uri().unwrap().user_text().unwrap(), b"I have spaces");
    let Some(Ok(Contact::Address(contact))) = message.contacts().next() else { panic!() };
    // An escaped parameter name is not the name that it would spell.
    assert!(!contact.uri().unwrap().is_loose());
    assert_eq!(contact.uri().unwrap().params.value(b"n%61me"), Some(&b"v%61lue%25%34%31"[..]));
}

#[test]
fn a_null_in_a_user_is_part_of_it() {
    let message = message("escnull");
    let users: Vec<_> = message
        .contacts()
        .map(|contact| match contact.unwrap() {
            Contact::Address(address) => address.uri().unwrap().user_text().unwrap(),
            Contact::Star => panic!(),
        })
        .collect();
    assert_eq!(users, [b"\0".to_vec(), b"\0\0".to_vec()]);
    assert!(message.to().unwrap().uri().unwrap().user_is(b"null-\0-null"));
}

#[test]
fn what_looks_escaped_and_is_not_stays() {
    let message = message("esc02");
    assert_eq!(message.method(), Some(Method::Other(b"RE%47IST%45R")));
    assert_eq!(message.to().unwrap().display.unwrap().raw(), b"%Z%45");
    // The header with a percent sign in its name is no Contact.
    assert_eq!(message.contacts().count(), 2);
    assert!(message.other("C%6Fntact").is_some());
}

#[test]
fn a_name_without_space_before_its_bracket_is_a_name() {
    assert_eq!(message("lwsdisp").from().unwrap().display.unwrap().raw(), b"caller");
}

#[test]
fn long_values_are_whole() {
    let message = message("longreq");
    assert_eq!(message.vias().count(), 34);
    assert_eq!(message.vias().last().unwrap().unwrap().branch().unwrap().len(), 4 + 50 * 4 + 11);
    assert_eq!(message.from().unwrap().tag().unwrap().len(), 2 + 50 * 3 + 3);
    assert_eq!(message.to().unwrap().uri().unwrap().port, Some(6000));
    assert_eq!(message.call_id().unwrap().len(), "longreq.one".len() + 120 + "longcallid".len());
}

#[test]
fn what_follows_a_datagrams_message_is_not_its_body() {
    let message = message("dblreq");
    assert!(message.body().is_empty());
    assert_eq!(message.method(), Some(Method::Register));
    assert_eq!(message.cseq().unwrap().number, 8);
}

#[test]
fn a_semicolon_in_a_user_begins_no_parameter() {
    let message = message("semiuri");
    let uri = message.request_uri().unwrap();
    assert_eq!(text(uri.user.unwrap()), "user;par=u%40example.net");
    assert!(uri.params.is_empty());
    assert_eq!(message.tokens(Name::Accept).count(), 6);
}

#[test]
fn unknown_transports_in_a_via_are_read() {
    let message = message("transports");
    let protocols: Vec<_> = message.vias().map(|via| text(via.unwrap().protocol).to_owned()).collect();
    assert_eq!(protocols, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);
}

#[test]
fn a_binary_body_is_untouched() {
    let message = message("mpart01");
    assert_eq!(message.body().len(), 553);
    assert_eq!(message.content_type(), Some(&b"multipart/mixed"[..]));
    assert!(message.body().windows(4).any(|window| window == [0x30, 0x82, 0x01, 0x52]));
    assert!(message.has(Name::Identity));
}

#[test]
fn reason_phrases_stay_as_they_were_sent() {
    let unusual = message("unreason");
    let StartLine::Response { code, reason } = unusual.start_line() else { panic!() };
    assert_eq!((code, text(reason)), (200, "= 2**3 * 5**2 но сто девяносто девять - простое"));
    let none = message("noreason");
    assert_eq!(none.start_line(), StartLine::Response { code: 100, reason: b"" });
}

#[test]
fn faults_are_told_apart() {
    let fault = |name| validate(&message(name)).unwrap_err().fault;
    assert_eq!(fault("clerr"), Fault::Truncated { declared: 9999, present: 154 });
    assert_eq!(fault("ncl"), Fault::ContentLength);
    assert_eq!(fault("mcl01"), Fault::ContentLength);
    assert_eq!(fault("trws"), Fault::StartLine);
    assert_eq!(fault("escruri"), Fault::RequestUri);
    assert_eq!(fault("multi01"), Fault::Repeated(Name::From));
    assert_eq!(fault("mismatch01"), Fault::MethodMismatch);
    assert_eq!(Message::parse(load("rfc4475", "bigcode"), Origin::Datagram).unwrap_err(), ParseError::NotSip);
    for name in ["clerr", "ncl", "mcl01"] {
        assert!(validate(&message(name)).unwrap_err().closes(), "{name}");
    }
}

#[test]
fn unsupported_extensions_are_listed() {
    let request = message("bext01");
    let mut out = Vec::new();
    let source = "192.0.2.1:5061".parse().unwrap();
    validate(&request).unwrap_err().answer(&mut out, &request, source, b"t", ALLOWED);
    let reply = Message::parse(&out, Origin::Stream).unwrap();
    let tags: Vec<_> = reply.tokens(Name::Unsupported).map(text).collect();
    assert_eq!(
        tags,
        ["nothingSupportsThis", "nothingSupportsThisEither", "noProxiesSupportThis", "norDoAnyProxiesSupportThis"]
    );
}

#[test]
fn what_the_upper_layers_need_to_refuse_is_there() {
    assert!(!message("badbranch").via().unwrap().has_cookie());
    assert_eq!(message("invut").content_type(), Some(&b"application/unknownformat"[..]));
    let unknown = message("regaut01");
    assert!(unknown.credentials(Name::Authorization).all(|credentials| credentials.is_err()));
    assert_eq!(message("zeromf").max_forwards(), Ok(Some(0)));
    assert_eq!(message("sdp01").tokens(Name::Accept).next(), Some(&b"text/nobodyKnowsThis"[..]));
    let broadcast = message("bcast");
    assert_eq!(broadcast.vias().nth(1).unwrap().unwrap().host.ip(), Some("255.255.255.255".parse().unwrap()));
    assert_eq!(message("unkscm").request_uri().unwrap().scheme, Scheme::Other);
    assert_eq!(message("novelsc").request_uri().unwrap().scheme, Scheme::Other);
}

#[test]
fn whose_a_contacts_parameter_is_depends_on_its_brackets() {
    let contact = |name| {
        let message = message(name);
        let Some(Ok(Contact::Address(address))) = message.contacts().next() else { panic!() };
        (address.params.has(b"unknownparam"), address.uri().unwrap().params.has(b"unknownparam"))
    };
    assert_eq!(contact("cparam01"), (true, false));
    assert_eq!(contact("cparam02"), (false, true));
    let escaped = message("regescrt");
    let Some(Ok(Contact::Address(address))) = escaped.contacts().next() else { panic!() };
    assert_eq!(address.uri().unwrap().headers, Some(&b"Route=%3Csip:sip.example.com%3E"[..]));
}

#[test]
fn a_request_of_the_old_standard_is_read() {
    let message = message("inv2543");
    assert_eq!(message.via().unwrap().branch(), None);
    assert_eq!(message.from().unwrap().tag(), None);
    assert_eq!(message.max_forwards(), Ok(None));
    assert!(message.body().ends_with(b"RTP/AVP 0\r\n"));
    assert_eq!(message.to().unwrap().params.value(b"user"), Some(&b"phone"[..]));
}
