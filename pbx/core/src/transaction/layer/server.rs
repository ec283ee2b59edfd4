//! Requests that came in, and how they are answered.

use super::{Holder, Layer, Limits, Machine, ServerInvite, ServerOther, Usage, Voice};
use crate::{
    moment::Moment,
    slab::SlotKey,
    transaction::{
        Bytes, Request, RespondError, ServerId, ServerKey,
        key::{Method, Place},
        server_invite::Ack,
    },
    transport::Flow,
};

impl Layer {
    /// A request came in by `flow`, on which its answers go. `trying` makes the 100 that an INVITE is answered with
    /// if its user takes more than 200 ms; only called for a new INVITE.
    pub fn receive_request(
        &mut self,
        key: ServerKey,
        flow: Flow,
        now: Moment,
        trying: impl FnOnce() -> Bytes,
    ) -> Request {
        match self.places.get(&key.place()) {
            Some(&id) if key.method == Method::Ack => self.receive_ack(id, now),
            Some(&id) => self.receive_again(id),
            None if key.method == Method::Ack => Request::Ack(None),
            None if key.method == Method::Cancel => self.receive_cancel(key, flow, now),
            None if self.is_full() => Request::Full,
            None => {
                let machine = match key.method {
                    Method::Invite => Machine::ServerInvite(ServerInvite::new(trying(), now)),
                    _ => Machine::ServerOther(ServerOther::new(now)),
                };
                Request::New(ServerId(self.begin(key.place(), flow, machine, Voice::All)))
            }
        }
    }

    /// Answers a request. `code` is 100 to 699 and `response` the whole message; it is sent at once, and again as
    /// often as the RFC says. After a 2xx to an INVITE more of them may follow, which only the dialog repeats.
    ///
    /// # Errors
    ///
    /// The transaction has ended, or has its final answer, or the code is none: then nothing is sent.
    pub fn respond(&mut self, id: ServerId, code: u16, response: Bytes, now: Moment) -> Result<(), RespondError> {
        if !(100..=699).contains(&code) {
            return Err(RespondError::Code(code));
        }
        let ServerId(id) = id;
        let room = self.has_room(response.len());
        let entry = self.entries.get_mut(id).ok_or(RespondError::Ended)?;
        let reliable = entry.flow.protocol.is_reliable();
        match &mut entry.machine {
            Machine::ServerInvite(machine) => machine.respond(code, &response, reliable, now)?,
            Machine::ServerOther(machine) => machine.respond(code, &response, reliable, room, now)?,
            Machine::ClientInvite(_) | Machine::ClientOther(_) => return Err(RespondError::Ended),
        }
        self.send(id, response);
        self.settle(id);
        Ok(())
    }

    /// Forgets a transaction: nothing will answer its request, and the same request again is a new one.
    pub fn forget(&mut self, id: ServerId) {
        self.take_out(id.0);
    }

    /// Says whose request it is, once that is proved, and whether the transaction may stay: `false`, and then nothing
    /// has changed, when its holder has a full share ([`Limits::SHARE`]) already. For new transactions.
    pub fn hold_for(&mut self, id: ServerId, holder: Holder) -> bool {
        let Some(entry) = self.entries.get_mut(id.0).filter(|entry| entry.holder.is_none()) else { return false };
        let Usage { transactions, bytes } = self.shares.get(&holder).copied().unwrap_or_default();
        if transactions >= self.limits.transactions / Limits::SHARE || bytes >= self.limits.bytes / Limits::SHARE {
            return false;
        }
        entry.holder = Some(holder);
        let share = Usage { transactions: transactions + 1, bytes: bytes + Usage::ENTRY + entry.held };
        self.shares.insert(holder, share);
        true
    }

    /// Where the request came from, while its transaction goes on.
    pub fn flow(&self, id: ServerId) -> Option<Flow> {
        self.entries.get(id.0).map(|entry| entry.flow)
    }

    fn receive_ack(&mut self, id: SlotKey, now: Moment) -> Request {
        let Some(entry) = self.entries.get_mut(id) else { return Request::Absorbed };
        let Machine::ServerInvite(machine) = &mut entry.machine else { return Request::Absorbed };
        let ack = machine.receive_ack(entry.flow.protocol.is_reliable(), now);
        self.settle(id);
        match ack {
            Ack::First => Request::Acknowledged(ServerId(id)),
            Ack::Again => Request::Absorbed,
            Ack::OfSuccess => Request::Ack(Some(ServerId(id))),
        }
    }

    fn receive_again(&mut self, id: SlotKey) -> Request {
        let answer = match self.entries.get_mut(id).map(|entry| &mut entry.machine) {
            Some(Machine::ServerInvite(machine)) => machine.receive_again(),
            Some(Machine::ServerOther(machine)) => machine.receive_again(),
            _ => None,
        };
        if let Some(answer) = answer {
            self.send(id, answer);
            self.settle(id);
        }
        Request::Absorbed
    }

    /// One that ends a call is taken at the limit too, for that makes room: at most one for each INVITE.
    fn receive_cancel(&mut self, key: ServerKey, flow: Flow, now: Moment) -> Request {
        let invite = self.invite_at(key.place_of_invite());
        if invite.is_none() && self.is_full() {
            return Request::Full;
        }
        let machine = Machine::ServerOther(ServerOther::new(now));
        let id = ServerId(self.begin(key.place(), flow, machine, Voice::All));
        Request::Cancel { id, invite }
    }

    fn invite_at(&self, place: Place) -> Option<ServerId> {
        let id = *self.places.get(&place)?;
        let entry = self.entries.get(id)?;
        matches!(entry.machine, Machine::ServerInvite(_)).then_some(ServerId(id))
    }
}
