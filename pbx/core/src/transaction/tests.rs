//! The layer in virtual time: every edge of every timer, every change of state, and a link that loses, repeats and
//! reorders.

mod client;
mod layer;
mod lossy;
mod server;

use std::{net::SocketAddr, time::Duration};

use super::*;
use crate::{
    moment::Moment,
    transport::{ConnectionId, Protocol, TransportId},
};

const KEYS: Keys = Keys::new([42; 16]);
const LIMITS: Limits = Limits { transactions: 1000, bytes: 1 << 20 };

fn flow(protocol: Protocol) -> Flow {
    let address = |port: u16| SocketAddr::from(([192, 0, 2, 1], port));
    let connection = protocol.is_reliable().then_some(ConnectionId(1));
    Flow { transport: TransportId(1), protocol, local: address(5060), remote: address(40_000), connection }
}

fn bytes(text: &str) -> Bytes {
    text.as_bytes().into()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn server_key(method: &str, branch: &str) -> ServerKey {
    KEYS.server(method.as_bytes(), branch.as_bytes(), b"phone:5060", None)
}

fn client_key(method: &str, branch: &str) -> ClientKey {
    KEYS.client(method.as_bytes(), branch.as_bytes())
}

/// A layer, the time, and what the layer did: milliseconds and what was sent or told.
struct Scene {
    layer: Layer,
    flow: Flow,
    now: Moment,
    seen: Vec<(u64, String)>,
}

impl Scene {
    fn new(protocol: Protocol) -> Self {
        Self { layer: Layer::new(LIMITS), flow: flow(protocol), now: Moment::ZERO, seen: Vec::new() }
    }

    fn udp() -> Self {
        Self::new(Protocol::Udp)
    }

    fn tcp() -> Self {
        Self::new(Protocol::Tcp)
    }

    fn receive(&mut self, method: &str) -> Request {
        let request = self.layer.receive_request(server_key(method, "b"), self.flow, self.now, || bytes("100"));
        self.drain();
        request
    }

    fn begin(&mut self, method: &str) -> ServerId {
        match self.receive(method) {
            Request::New(id) => id,
            other => panic!("{other:?}"),
        }
    }

    fn respond(&mut self, id: ServerId, code: u16) -> Result<(), RespondError> {
        let result = self.layer.respond(id, code, bytes(&code.to_string()), self.now);
        self.drain();
        result
    }

    fn send(&mut self, method: &str) -> ClientId {
        let id = self.layer.send_request(client_key(method, "b"), self.flow, bytes(method), self.now).unwrap();
        self.drain();
        id
    }

    fn answer(&mut self, method: &str, code: u16) -> Response {
        let build_ack = |request: &[u8]| bytes(&format!("ACK {} {code}", text(request)));
        let response = self.layer.receive_response(client_key(method, "b"), code, self.now, build_ack);
        self.drain();
        response
    }

    fn cancel(&mut self, id: ClientId) -> Result<(), CancelError> {
        let result = self.layer.cancel(id, bytes("CANCEL"), self.now);
        self.drain();
        result
    }

    fn fail(&mut self, owner: Owner) {
        self.layer.transport_failed(owner);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.layer.poll() {
            let what = match output {
                Output::Send { bytes, .. } => text(&bytes),
                Output::Event(event) => format!("{event:?}").split('(').next().unwrap_or_default().to_owned(),
            };
            self.seen.push((self.now.as_micros() / 1000, what));
        }
    }

    /// Goes on to `millis`, stopping at every timer, and a microsecond before it, when nothing may happen.
    fn until(&mut self, millis: u64) -> &mut Self {
        let end = Moment::from_micros(millis * 1000);
        while let Some(due) = self.layer.next_timeout().filter(|due| *due <= end) {
            let before = (self.layer.usage(), self.seen.len());
            self.now = due - Duration::from_micros(1);
            self.layer.handle_timeout(self.now);
            self.drain();
            assert_eq!((self.layer.usage(), self.seen.len()), before);
            self.now = due;
            self.layer.handle_timeout(self.now);
            self.drain();
            assert_ne!(self.layer.next_timeout(), Some(due));
        }
        self.now = end;
        self
    }

    /// What happened since this was last asked.
    fn seen(&mut self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.seen)
    }

    #[track_caller]
    fn expect(&mut self, expected: &[(u64, &str)]) {
        let seen = self.seen();
        let seen: Vec<_> = seen.iter().map(|(millis, what)| (*millis, what.as_str())).collect();
        assert_eq!(seen, expected);
    }

    #[track_caller]
    fn expect_going_on(&self) {
        assert_eq!(self.layer.usage().transactions, 1);
    }

    #[track_caller]
    fn expect_ended(&self) {
        assert_eq!((self.layer.usage(), self.layer.counts()), (Usage::default(), [0; 4]));
    }

    /// Ends at `millis`, and not before, with nothing more done.
    #[track_caller]
    fn expect_silent_end_at(&mut self, millis: u64) {
        self.until(millis - 1).expect_going_on();
        self.until(millis).expect_ended();
        self.expect(&[]);
    }
}
