//! The appliance and the phones around it, each with a letter box.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use pbx_core::{
    call::{Disposition, Record},
    settings::Settings,
    transport::Flow,
};

use crate::{
    handset::{Got, Handset, USUAL},
    phone::Phone,
    scene::{Scene, Sent, udp},
};

/// The appliance and everybody's letter box.
pub(crate) struct World {
    pub(crate) scene: Scene,
    boxes: BTreeMap<SocketAddr, VecDeque<Got>>,
    /// Messages for which this says no are lost on their way, in either direction.
    pub(crate) delivers: Box<dyn FnMut() -> bool>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self { scene: Scene::with(change), boxes: BTreeMap::new(), delivers: Box::new(|| true) }
    }

    /// A phone of the default tenant that has registered.
    pub(crate) fn phone(&mut self, number: &str, remote: &str) -> Handset {
        self.phone_over(number, udp(remote))
    }

    pub(crate) fn phone_over(&mut self, number: &str, flow: Flow) -> Handset {
        let mut phone = Phone::new(number, flow);
        assert_eq!(phone.register(&mut self.scene).status, 200);
        Handset::new(phone, flow)
    }

    /// A phone says something.
    pub(crate) fn say(&mut self, flow: Flow, text: &str) {
        if (self.delivers)() {
            let sent = self.scene.receive(flow, text);
            self.post(sent);
        }
    }

    /// Time goes on.
    pub(crate) fn wait(&mut self, span: Duration) {
        let sent = self.scene.advance(span);
        self.post(sent);
    }

    /// A call between two phones of the default tenant that talk: 100 called 101.
    pub(crate) fn talking() -> (Self, Handset, Handset) {
        let (mut world, mut alice, mut bob) = Self::two();
        let sdp = alice.sdp(USUAL, "sendrecv");
        alice.call(&mut world, "101", &sdp);
        bob.take(&mut world);
        alice.answered(&mut world, "200");
        (world, alice, bob)
    }

    /// A world with 100 and 101 registered.
    pub(crate) fn two() -> (Self, Handset, Handset) {
        let mut world = Self::new();
        let alice = world.phone("100", "198.51.100.1:5060");
        let bob = world.phone("101", "203.0.113.2:5062");
        (world, alice, bob)
    }

    /// Nobody hears anything more, and nothing is left of any call.
    pub(crate) fn check_nothing_left(&mut self) {
        for _ in 0..600 {
            self.wait(Duration::from_secs(1));
        }
        assert_eq!(self.scene.pbx.call_counts().0, 0);
        assert_eq!(self.scene.pbx.call_usage(), [0; 7]);
        assert!(self.scene.media.legs.is_empty(), "{:?}", self.scene.media.legs);
        for record in self.scene.store.calls.values() {
            assert!(record.ended.is_some() && record.disposition != Disposition::Open, "{record:?}");
            assert!(record.legs.iter().all(|leg| leg.ended.is_some()), "{record:?}");
        }
    }

    /// What was sent by other ways goes into the letter boxes.
    pub(crate) fn post(&mut self, sent: Vec<Sent>) {
        for Sent { flow, bytes, .. } in sent {
            // Keep-alives are no messages.
            if bytes.len() > 4 && (self.delivers)() {
                self.boxes.entry(flow.remote).or_default().push_back(Got::read(&bytes));
            }
        }
    }

    /// The next message for a phone, if there is one.
    pub(crate) fn read(&mut self, to: &Handset) -> Option<Got> {
        self.boxes.get_mut(&to.flow.remote)?.pop_front()
    }

    /// Whether there is one.
    pub(crate) fn has_mail(&self, to: &Handset) -> bool {
        self.boxes.get(&to.flow.remote).is_some_and(|mail| !mail.is_empty())
    }

    /// The next message for a phone, which must be this one.
    pub(crate) fn expect(&mut self, to: &Handset, what: &str) -> Got {
        let got = self.read(to).unwrap_or_else(|| panic!("{} got no {what}", to.phone.number));
        assert_eq!(got.what, what, "{} got {got:?}", to.phone.number);
        got
    }

    /// A phone's letter box is empty.
    pub(crate) fn expect_nothing(&mut self, to: &Handset) {
        assert_eq!(self.read(to), None, "for {}", to.phone.number);
    }

    /// The only record, or the one that began last.
    pub(crate) fn record(&self) -> &Record {
        self.scene.store.calls.values().next_back().expect("a record")
    }

    /// The two addresses that hear each other by way of a phone's leg: its own, and its peer's.
    pub(crate) fn hears(&self, port: u16) -> Option<(SocketAddr, SocketAddr)> {
        let leg = self.scene.media.at(port)?;
        let peer = self.scene.media.legs.get(&leg.peer?)?;
        Some((leg.remote.as_ref()?.rtp, peer.remote.as_ref()?.rtp))
    }
}
