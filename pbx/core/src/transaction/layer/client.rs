//! Requests of ours, and the responses to them.

use super::{ClientInvite, ClientOther, Entry, Layer, Machine, Voice};
use crate::{
    moment::Moment,
    slab::SlotKey,
    transaction::{
        Bytes, CancelError, ClientId, ClientKey, Response, SendError,
        key::{Method, place_of_cancel},
    },
    transport::Flow,
};

impl Layer {
    /// Sends a request that begins a transaction: any but ACK, which has none, and CANCEL, for which there is
    /// [`Layer::cancel`]. The branch in `key` is random and used once.
    ///
    /// # Errors
    ///
    /// A limit is reached, or the branch is in use: then nothing is sent.
    pub fn send_request(
        &mut self,
        key: ClientKey,
        flow: Flow,
        request: Bytes,
        now: Moment,
    ) -> Result<ClientId, SendError> {
        if self.places.contains_key(&key.place()) {
            return Err(SendError::BranchInUse);
        }
        if self.is_full() || !self.has_room(request.len()) {
            return Err(SendError::Full);
        }
        let reliable = flow.protocol.is_reliable();
        let machine = match key.method {
            Method::Invite => Machine::ClientInvite(ClientInvite::new(request.clone(), reliable, now)),
            _ => Machine::ClientOther(ClientOther::new(request.clone(), reliable, now)),
        };
        let id = self.begin(key.place(), flow, machine, Voice::All);
        self.send(id, request);
        Ok(ClientId(id))
    }

    /// Whether a request of ours with this key waits for its end.
    pub fn has_client(&self, key: ClientKey) -> bool {
        self.places.contains_key(&key.place())
    }

    /// A response came in; `code` is 100 to 699, else it matches nothing. `build_ack` makes the ACK of a final answer
    /// to an INVITE that is not 2xx out of the INVITE that was sent and the response that the caller holds (RFC 3261
    /// §17.1.1.3); only called when there is one to make.
    pub fn receive_response(
        &mut self,
        key: ClientKey,
        code: u16,
        now: Moment,
        build_ack: impl FnOnce(&[u8]) -> Bytes,
    ) -> Response {
        let Some(&id) = self.places.get(&key.place()).filter(|_| (100..=699).contains(&code)) else {
            return Response::Unmatched;
        };
        let Some(entry) = self.entries.get_mut(id) else { return Response::Unmatched };
        let (reliable, place, flow, voice) = (entry.flow.protocol.is_reliable(), entry.place, entry.flow, entry.voice);
        let to_user = match &mut entry.machine {
            Machine::ClientInvite(machine) => {
                let reaction = machine.receive(code, reliable, now, build_ack);
                if let Some(ack) = reaction.ack {
                    self.send(id, ack);
                }
                if let Some(cancel) = reaction.cancel {
                    self.begin_cancel(place_of_cancel(place), flow, cancel, now);
                }
                reaction.to_user
            }
            Machine::ClientOther(machine) => machine.receive(code, reliable, now) && voice == Voice::All,
            Machine::ServerInvite(_) | Machine::ServerOther(_) => return Response::Unmatched,
        };
        self.settle(id);
        if to_user { Response::New(ClientId(id)) } else { Response::Absorbed }
    }

    /// Cancels an INVITE with the whole message `cancel`, which leaves as soon as something has answered the INVITE.
    /// The answer to the CANCEL is no matter; the INVITE still gets its final answer, a 2xx maybe, or
    /// [`crate::transaction::Event::TimedOut`].
    ///
    /// # Errors
    ///
    /// The INVITE does not wait for its final answer, or was cancelled before.
    pub fn cancel(&mut self, id: ClientId, cancel: Bytes, now: Moment) -> Result<(), CancelError> {
        let ClientId(id) = id;
        let entry = self.entries.get_mut(id).ok_or(CancelError::NotPending)?;
        let (place, flow) = (entry.place, entry.flow);
        let Machine::ClientInvite(machine) = &mut entry.machine else { return Err(CancelError::NotPending) };
        if let Some(cancel) = machine.cancel(cancel, now)? {
            self.begin_cancel(place_of_cancel(place), flow, cancel, now);
        }
        self.settle(id);
        Ok(())
    }

    /// Waits for the final answer to an INVITE 64 T1 more and not for ever: the dialog that it belongs to has ended.
    pub fn give_up(&mut self, id: ClientId, now: Moment) {
        let ClientId(id) = id;
        if let Some(Entry { machine: Machine::ClientInvite(machine), .. }) = self.entries.get_mut(id) {
            machine.give_up(now);
            self.settle(id);
        }
    }

    /// Also at the limit, for it makes room: at most one for each INVITE.
    fn begin_cancel(&mut self, place: u128, flow: Flow, cancel: Bytes, now: Moment) {
        if self.places.contains_key(&place) {
            return;
        }
        let machine = Machine::ClientOther(ClientOther::new(cancel.clone(), flow.protocol.is_reliable(), now));
        let id: SlotKey = self.begin(place, flow, machine, Voice::Silent);
        self.send(id, cancel);
    }
}
