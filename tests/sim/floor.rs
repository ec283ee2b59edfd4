//! The appliance and robots around it, over links that lose messages, or not.

use std::time::Duration;

use pbx_core::{call::Disposition, moment::Moment, settings::Settings};

use crate::{
    handset::Got,
    robot::{Robot, Stage},
    scene::{Scene, Sent, udp},
};

/// The appliance and its robots.
pub(crate) struct Floor {
    pub(crate) scene: Scene,
    pub(crate) robots: Vec<Robot>,
    /// Messages for which this says no are lost on their way, in either direction.
    pub(crate) delivers: Box<dyn FnMut() -> bool>,
    /// What becomes of a phone's message on its way to the appliance.
    pub(crate) changes: Box<dyn FnMut(String) -> String>,
    /// Each INVITE has to have its final answer in the end.
    pub(crate) is_strict: bool,
}

impl Floor {
    /// Phones 100, 101 and so on, which have registered.
    pub(crate) fn new(count: usize, change: impl FnOnce(&mut Settings)) -> Self {
        let numbers: Vec<String> = (0..count).map(|at| (100 + at).to_string()).collect();
        Self::with(&numbers.iter().map(String::as_str).collect::<Vec<_>>(), change)
    }

    /// Phones of these extensions, which have registered.
    pub(crate) fn with(numbers: &[&str], change: impl FnOnce(&mut Settings)) -> Self {
        let mut floor = Self {
            scene: Scene::with(change),
            robots: Vec::new(),
            delivers: Box::new(|| true),
            changes: Box::new(|text| text),
            is_strict: true,
        };
        for (at, number) in numbers.iter().enumerate() {
            let flow = udp(&format!("203.0.113.{}:5060", at + 1));
            let mut robot = Robot::new(number, flow);
            assert_eq!(robot.phone.register(&mut floor.scene).status, 200);
            robot.phone.challenge = None;
            floor.robots.push(robot);
        }
        floor
    }

    /// A phone does something, and what follows at once follows.
    pub(crate) fn act(&mut self, at: usize, what: impl FnOnce(&mut Robot, Moment)) {
        what(&mut self.robots[at], self.scene.now);
        self.exchange(Vec::new());
    }

    /// Messages go to and fro until nobody has anything to say.
    fn exchange(&mut self, mut sent: Vec<Sent>) {
        loop {
            for message in sent {
                let to = self.robots.iter().position(|one| one.phone.flow.remote == message.flow.remote);
                let Some(to) = to.filter(|_| message.bytes.len() > 4 && (self.delivers)()) else { continue };
                let now = self.scene.now;
                self.robots[to].receive(&Got::read(&message.bytes), now);
            }
            let Some(at) = self.robots.iter().position(|one| !one.out.is_empty()) else { return };
            let text = self.robots[at].out.pop_front().expect("a message");
            let flow = self.robots[at].phone.flow;
            let text = (self.changes)(text);
            sent = if (self.delivers)() { self.scene.receive(flow, text) } else { Vec::new() };
        }
    }

    /// An administrator ends the oldest call.
    pub(crate) fn hang_up_one(&mut self) {
        let Some(id) = self.scene.pbx.calls().map(|call| call.id).next() else { return };
        let sent = self.scene.hang_up(id).expect("a call");
        self.exchange(sent);
    }

    pub(crate) fn wait(&mut self, span: Duration) {
        let end = self.scene.now + span;
        while self.scene.now < end {
            let sent = self.scene.advance(Duration::from_millis(100));
            let now = self.scene.now;
            self.robots.iter_mut().for_each(|one| one.tick(now));
            self.exchange(sent);
        }
    }

    /// A phone is somewhere else now, and registers from there.
    pub(crate) fn move_to(&mut self, at: usize, port: u16) {
        let robot = &mut self.robots[at];
        // Answers go where their requests came from.
        let waits = robot.finals.iter().filter(|(_, statuses)| statuses.is_empty()).map(|(branch, _)| branch.clone());
        robot.forgotten.extend(waits);
        let remote = format!("{}:{port}", robot.phone.flow.remote.ip());
        robot.phone.flow = udp(&remote);
        robot.phone.challenge = None;
        robot.phone.register(&mut self.scene);
        self.robots[at].phone.challenge = None;
    }

    /// All hang up or are gone; nothing is left.
    pub(crate) fn check_end(&mut self) {
        // Nothing rings any more then.
        self.wait(Duration::from_secs(120));
        for at in 0..self.robots.len() {
            while self.robots[at].line(Stage::Talking).is_some() {
                self.act(at, Robot::bye);
            }
        }
        self.wait(Duration::from_secs(600));
        let pbx = &self.scene.pbx;
        assert_eq!((pbx.call_counts().0, pbx.call_usage()), (0, [0; 7]));
        assert!(self.scene.media.legs.is_empty(), "{:?}", self.scene.media.legs);
        for record in self.scene.store.calls.values() {
            assert!(record.ended.is_some() && record.disposition != Disposition::Open, "{record:?}");
            assert!(record.legs.iter().all(|leg| leg.ended.is_some()), "{record:?}");
        }
        for robot in self.robots.iter().filter(|_| self.is_strict) {
            for (branch, statuses) in &robot.finals {
                assert!(statuses.len() < 2, "{branch}: {statuses:?}");
                assert!(statuses.len() == 1 || robot.forgotten.contains(branch), "{branch} has no final answer");
            }
        }
    }
}
