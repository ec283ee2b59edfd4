//! REGISTER (RFC 3261 §10.3): from the message to the registrar, and from what it says to the answer.

use std::fmt::Write as _;

use super::{Incoming, Pbx};
use crate::{
    directory::ExtensionId,
    registrar::{Contact, ContactSet, MOST_IN_REQUEST, Refused, Register, Registered},
    transaction::ServerId,
    transport::nat::behind_nat,
    wire::sip::{self, Message, Name, Reply},
};

impl Pbx {
    pub(super) fn register(&mut self, id: ServerId, incoming: &Incoming<'_>, extension: ExtensionId) {
        let message = incoming.message;
        let Some(contacts) = contacts(message) else { return self.answer(id, incoming, 400) };
        let path: Vec<&[u8]> = message.addresses(Name::Path).filter_map(|hop| Some(hop.ok()?.raw)).collect();
        // Through a proxy that keeps no path, a flow ends at the proxy (RFC 5626 §6).
        let direct = message.vias().count() == 1;
        let register = Register {
            extension,
            contacts: match &contacts {
                Contacts::Star => ContactSet::Star,
                Contacts::List(list) if list.is_empty() => ContactSet::Query,
                Contacts::List(list) => ContactSet::List(list),
            },
            call_id: message.call_id().unwrap_or_default(),
            cseq: message.cseq().map_or(0, |cseq| cseq.number),
            // What is malformed counts as an hour (RFC 3261 §10.2.1.1).
            expires: message.expires().unwrap_or(Some(3600)),
            path: &path,
            user_agent: message.user_agent().unwrap_or_default(),
            flow: incoming.flow,
            behind_nat: self.is_behind_nat(incoming, &contacts, direct),
            supports_outbound: message.lists(Name::Supported, "outbound") && (direct || !path.is_empty()),
        };
        match self.registrar.register(&register, incoming.now, incoming.wall) {
            Ok(registered) => {
                let out = self.registered(incoming, &registered);
                self.respond(id, 200, out, incoming.now);
                self.changed(registered.changes, incoming.now);
            }
            Err(refused) => {
                let mut out = self.buffer();
                let tag = self.tags.of(message);
                let status = refused.status();
                let reason = refused.to_string();
                let reply = Reply::with_reason(&mut out, message, status, &reason, incoming.flow.remote, Some(&tag));
                match refused {
                    Refused::TooBrief { minimum } => {
                        reply.header_fmt("Min-Expires", format_args!("{minimum}")).finish();
                    }
                    _ => reply.finish(),
                }
                self.respond(id, status, out, incoming.now);
            }
        }
    }

    fn is_behind_nat(&self, incoming: &Incoming<'_>, contacts: &Contacts<'_>, direct: bool) -> bool {
        let Ok(via) = incoming.message.via() else { return false };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let contact = match contacts {
            // What a proxy hides from us is the proxy's to keep open.
            Contacts::List(list) => {
                list.first().filter(|_| direct).and_then(|contact| sip::Uri::parse(contact.uri).ok())
            }
            Contacts::Star => None,
        };
        let contact = contact.map(|uri| text(uri.host.bytes()));
        let sent_by = (&*text(via.host.bytes()), via.port);
        behind_nat(incoming.flow.protocol, sent_by, contact.as_deref(), incoming.flow.remote)
    }

    /// 200, with every contact as it is now (RFC 3261 §10.3 step 8).
    fn registered(&mut self, incoming: &Incoming<'_>, registered: &Registered) -> Vec<u8> {
        let message = incoming.message;
        let mut out = self.buffer();
        let tag = self.tags.of(message);
        let mut reply = Reply::start(&mut out, message, 200, incoming.flow.remote, Some(&tag));
        if registered.outbound {
            reply = reply.header("Require", "outbound").header("Supported", "path, outbound");
        }
        let mut value = String::new();
        for contact in &registered.contacts {
            value.clear();
            let _ = write!(value, "<{}>;expires={}", contact.uri, contact.expires);
            if contact.q < 1000 {
                let _ = write!(value, ";q=0.{:03}", contact.q);
            }
            if let Some(instance) = &contact.instance {
                let _ = write!(value, ";+sip.instance=\"{instance}\"");
            }
            if let Some(reg_id) = contact.reg_id {
                let _ = write!(value, ";reg-id={reg_id}");
            }
            reply = reply.header("Contact", &value);
        }
        if message.has(Name::Path) && message.lists(Name::Supported, "path") {
            reply = reply.copy(Name::Path);
        }
        let date = http_date(incoming.wall);
        reply.header("Date", date).finish();
        out
    }
}

/// The contacts of a request.
enum Contacts<'a> {
    Star,
    List(Vec<Contact<'a>>),
}

/// None: they are malformed.
fn contacts<B: AsRef<[u8]>>(message: &Message<B>) -> Option<Contacts<'_>> {
    let mut list = Vec::new();
    let mut star = false;
    // One more than the registrar takes is enough for it to refuse them.
    for contact in message.contacts().take(MOST_IN_REQUEST + 1) {
        match contact.ok()? {
            sip::Contact::Star if star => return None,
            sip::Contact::Star => star = true,
            sip::Contact::Address(address) => list.push(Contact {
                uri: address.uri,
                expires: address.expires(),
                q: address.q(),
                instance: address.instance().map(|instance| instance.raw()).filter(|raw| fits_quotes(raw)),
                reg_id: address.reg_id(),
            }),
        }
    }
    match (star, list.is_empty()) {
        (true, true) => Some(Contacts::Star),
        (true, false) => None,
        (false, _) => Some(Contacts::List(list)),
    }
}

/// Whether a text, which need not have come in quotes, can stand between them.
fn fits_quotes(text: &[u8]) -> bool {
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return true,
            [b'"', ..] | [b'\\'] => return false,
            [b'\\', _, after @ ..] | [_, after @ ..] => after,
        };
    }
}

/// The time as RFC 3261 §20.17 writes it: `Sat, 13 Nov 2010 23:29:00 GMT`.
fn http_date(wall: crate::time::Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // 2010-11-13T23:29:00.000Z
    let text = wall.to_string();
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or("00").to_owned();
    let days = wall.as_millis().div_euclid(86_400_000);
    let day = DAYS[days.rem_euclid(7) as usize];
    let month = part(5..7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1))).unwrap_or(&"Jan");
    format!("{day}, {} {month} {} {} GMT", part(8..10), part(0..4), part(11..19))
}

#[cfg(test)]
mod tests {
    use super::http_date;

    #[test]
    fn a_date_is_written_as_sip_wants_it() {
        assert_eq!(http_date("2010-11-13T23:29:00Z".parse().unwrap()), "Sat, 13 Nov 2010 23:29:00 GMT");
        assert_eq!(http_date("2026-02-01T00:00:05Z".parse().unwrap()), "Sun, 01 Feb 2026 00:00:05 GMT");
    }
}
