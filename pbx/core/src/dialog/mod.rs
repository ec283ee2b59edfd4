//! Dialogs (RFC 3261 §12): what two peers agreed on so that each request finds the other. After transactions, before
//! calls. Data and the rules of order; knows no calls and sends nothing.

mod repeat;
mod session_timer;

pub use self::{
    repeat::Repeat,
    session_timer::{MAX_SE, MIN_SE, SessionTimer, Sign},
};
use crate::wire::sip::{Message, Method, Name, NameAddr, Request};

/// Hops of a route set at most: what has more is no dialog.
const MOST_HOPS: usize = 16;
/// Bytes of what is kept of a peer's header at most.
const LONGEST: usize = 2048;

/// A dialog, early or confirmed.
#[derive(Clone, Debug)]
pub struct Dialog {
    call_id: Box<[u8]>,
    /// Our `From` or `To`, with our tag.
    local: Box<[u8]>,
    /// The peer's, with its tag once that is known.
    remote: Box<[u8]>,
    remote_tag: Option<Box<[u8]>>,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    /// Where requests go: the peer's Contact.
    target: Box<[u8]>,
    /// `Route` of our requests, topmost first, as one header.
    routes: Box<[u8]>,
}

/// Why a message makes no dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDialog {
    /// There is no Contact, or none that a request can be sent to (RFC 3261 §8.1.1.8).
    #[error("Contact is missing or cannot be used: write one SIP URI")]
    Contact,
    /// From, To, Call-ID or CSeq is none.
    #[error("From, To, Call-ID or CSeq is missing or malformed")]
    Header,
    /// Record-Route has too many hops, or what is to be kept is too long.
    #[error("the route set has more than {MOST_HOPS} hops, or a header is longer than {LONGEST} bytes")]
    TooLong,
}

/// What a request's place in its dialog is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The next one.
    Next,
    /// Older than one that came: answered 500 (RFC 3261 §12.2.2).
    Old,
}

impl Dialog {
    /// The dialog of an INVITE that came, when we answer it with `tag` (RFC 3261 §12.1.1).
    ///
    /// # Errors
    ///
    /// See [`NoDialog`].
    pub fn of_request<B: AsRef<[u8]>>(invite: &Message<B>, tag: &[u8]) -> Result<Self, NoDialog> {
        let (from, to) = (invite.from(), invite.to());
        let (Ok(from), Ok(to), Ok(call_id), Ok(cseq)) = (from, to, invite.call_id(), invite.cseq()) else {
            return Err(NoDialog::Header);
        };
        let mut local = one_line(to.raw)?;
        local.extend_from_slice(b";tag=");
        local.extend_from_slice(tag);
        Ok(Self {
            call_id: short(call_id)?.into(),
            local: local.into(),
            remote: one_line(from.raw)?.into(),
            remote_tag: from.tag().map(Into::into),
            local_cseq: 0,
            remote_cseq: Some(cseq.number),
            target: target(invite)?,
            routes: routes(invite, false)?,
        })
    }

    /// A dialog that we begin: the peer's tag is not known yet. `local` has our tag in it.
    pub fn begin(call_id: &[u8], local: &[u8], remote: &[u8], target: &[u8], routes: &[u8]) -> Self {
        Self {
            call_id: call_id.into(),
            local: local.into(),
            remote: remote.into(),
            remote_tag: None,
            local_cseq: 0,
            remote_cseq: None,
            target: target.into(),
            routes: routes.into(),
        }
    }

    /// Takes over what a response to our INVITE says (RFC 3261 §12.1.2). Without a tag in `To` nothing is changed.
    ///
    /// # Errors
    ///
    /// See [`NoDialog`]. The tag is taken over nevertheless, so that a dialog that cannot go on can be ended.
    pub fn answered<B: AsRef<[u8]>>(&mut self, response: &Message<B>) -> Result<(), NoDialog> {
        let to = response.to().map_err(|_| NoDialog::Header)?;
        let Some(tag) = to.tag() else { return Ok(()) };
        self.remote = one_line(to.raw)?.into();
        self.remote_tag = Some(tag.into());
        let routes = routes(response, true)?;
        if response.has(Name::RecordRoute) {
            self.routes = routes;
        }
        self.target = target(response)?;
        Ok(())
    }

    /// Takes over the Contact of a target refresh request, or of the answer to one (RFC 3261 §12.2).
    pub fn refresh_target<B: AsRef<[u8]>>(&mut self, message: &Message<B>) {
        if let Ok(target) = target(message) {
            self.target = target;
        }
    }

    /// Whether a request belongs here: Call-ID and the peer's tag. Our own tag found the dialog.
    pub fn owns<B: AsRef<[u8]>>(&self, request: &Message<B>) -> bool {
        let tag = request.from().ok().and_then(|from| from.tag().map(<[u8]>::to_vec));
        request.call_id().is_ok_and(|id| id == &*self.call_id) && tag.as_deref() == self.remote_tag.as_deref()
    }

    /// Takes a request in and says whether it comes in order (RFC 3261 §12.2.2).
    pub fn receive(&mut self, cseq: u32) -> Order {
        if self.remote_cseq.is_some_and(|last| cseq <= last) {
            return Order::Old;
        }
        self.remote_cseq = Some(cseq);
        Order::Next
    }

    /// The number of our next request.
    pub fn next_cseq(&mut self) -> u32 {
        self.local_cseq += 1;
        self.local_cseq
    }

    /// Begins a request of ours: everything but `Via`, `CSeq` of `number`, what the method needs and the end.
    pub fn request<'o>(
        &self,
        out: &'o mut Vec<u8>,
        method: Method<'_>,
        number: u32,
        max_forwards: u8,
        (protocol, sent_by, branch): (&str, impl std::fmt::Display, impl std::fmt::Display),
    ) -> Request<'o> {
        let request = Request::start(out, method, &self.target).via(protocol, sent_by, branch);
        let request = request
            .header_fmt("Max-Forwards", format_args!("{max_forwards}"))
            .header("From", &self.local)
            .header("To", &self.remote)
            .header("Call-ID", &self.call_id)
            .header_fmt("CSeq", format_args!("{number} {method}"));
        match self.routes.is_empty() {
            true => request,
            false => request.header("Route", &self.routes),
        }
    }

    /// Its Call-ID.
    pub fn call_id(&self) -> &[u8] {
        &self.call_id
    }

    /// The peer's tag, once it is known.
    pub fn remote_tag(&self) -> Option<&[u8]> {
        self.remote_tag.as_deref()
    }
}

fn short(bytes: &[u8]) -> Result<&[u8], NoDialog> {
    if bytes.len() > LONGEST { Err(NoDialog::TooLong) } else { Ok(bytes) }
}

/// A value that may be folded, on one line.
fn one_line(value: &[u8]) -> Result<Vec<u8>, NoDialog> {
    let mut line = short(value)?.to_vec();
    line.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
    Ok(line)
}

fn target<B: AsRef<[u8]>>(message: &Message<B>) -> Result<Box<[u8]>, NoDialog> {
    match message.contacts().next() {
        Some(Ok(crate::wire::sip::Contact::Address(contact))) if contact.uri().is_ok_and(|uri| uri.is_sip()) => {
            Ok(short(contact.uri)?.into())
        }
        _ => Err(NoDialog::Contact),
    }
}

/// `Record-Route` as our `Route`: of a request in its order, of a response in the reverse one (RFC 3261 §12.1).
fn routes<B: AsRef<[u8]>>(message: &Message<B>, reversed: bool) -> Result<Box<[u8]>, NoDialog> {
    if !message.has(Name::RecordRoute) {
        return Ok(Box::default());
    }
    let hops: Result<Vec<NameAddr<'_>>, _> = message.addresses(Name::RecordRoute).take(MOST_HOPS + 1).collect();
    let mut hops = hops.map_err(|_| NoDialog::Header)?;
    if hops.len() > MOST_HOPS {
        return Err(NoDialog::TooLong);
    }
    if reversed {
        hops.reverse();
    }
    let mut text = Vec::new();
    for hop in hops {
        if !text.is_empty() {
            text.extend_from_slice(b", ");
        }
        text.extend_from_slice(&one_line(hop.raw)?);
    }
    Ok(short(&text)?.into())
}

#[cfg(test)]
mod tests;
