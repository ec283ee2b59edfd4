//! A signalling side in memory that remembers what it was told and fails when it should.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use pbx_core::{
    directory::{Directory, ExtensionId},
    pbx::{PingError, Pinged},
    settings::Settings,
    time::Timestamp,
    transport::{Protocol, TransportId},
};

use super::fake::BEGIN;
use crate::{
    signalling::{Call, CallLeg, CertificatePair, Load, Registration, Signalling, Transport, TransportStatus},
    trace::Trace,
};

#[derive(Default)]
pub(crate) struct FakeSignalling {
    /// Nothing opens or closes.
    pub(crate) fails: AtomicBool,
    /// Nobody answers who is asked for registrations or the load.
    pub(crate) hangs: AtomicBool,
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) transports: Mutex<BTreeMap<TransportId, Transport>>,
    pub(crate) directory: Mutex<Arc<Directory>>,
    pub(crate) settings: Mutex<Option<Settings>>,
    pub(crate) registrations: Mutex<Vec<Registration>>,
    pub(crate) conversations: Mutex<Vec<Call>>,
    pub(crate) trace: Trace,
    pub(crate) load: Mutex<Load>,
    pub(crate) known: Mutex<Vec<(IpAddr, ExtensionId, Timestamp)>>,
}

impl FakeSignalling {
    fn call(&self, what: String) -> anyhow::Result<()> {
        self.calls.lock().unwrap().push(what);
        anyhow::ensure!(!self.fails.load(Ordering::Relaxed), "the port is in use by another program");
        Ok(())
    }

    pub(crate) fn called(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    /// What is open, as "UDP 5060".
    pub(crate) fn open_ones(&self) -> Vec<String> {
        self.transports.lock().unwrap().values().map(|one| format!("{} {}", one.protocol, one.port)).collect()
    }

    /// As if a phone had registered.
    pub(crate) fn register(&self, id: &str, extension: u32, remote: &str) {
        self.registrations.lock().unwrap().push(Registration {
            id: id.into(),
            extension: ExtensionId(extension),
            contact: "sip:101@192.0.2.9:5060".into(),
            user_agent: "baresip".into(),
            instance: Some(format!("urn:uuid:{id}")),
            protocol: Protocol::Udp,
            remote: remote.parse().unwrap(),
            local: "192.0.2.5:5060".parse().unwrap(),
            reachable: true,
            behind_nat: false,
            since: BEGIN,
            expires_at: BEGIN.saturating_add(std::time::Duration::from_secs(300)),
        });
    }

    /// As if extension 1 were talking to 102. The appliance made the Call-ID of the second leg.
    pub(crate) fn talk(&self, id: &str) {
        let leg = |kind: &str, number: &str, call_id: String, port: u16| CallLeg {
            kind: kind.into(),
            number: number.into(),
            state: "talking".into(),
            call_id,
            protocol: Protocol::Udp,
            remote: "198.51.100.77:5062".parse().unwrap(),
            media_port: Some(port),
            media_remote: Some("198.51.100.77:4000".parse().unwrap()),
            codec: Some("PCMA/8000".into()),
            packets: 50,
            bytes: 8600,
            lost: 1,
            jitter_us: 125,
            refused: 0,
        };
        self.conversations.lock().unwrap().push(Call {
            id: id.into(),
            caller: ExtensionId(1),
            caller_number: "101".into(),
            dialled: "200".into(),
            callee_number: "102".into(),
            started: BEGIN,
            answered: Some(BEGIN.saturating_add(std::time::Duration::from_secs(3))),
            legs: vec![
                leg("caller", "101", format!("{id}-of-the-phone"), 45_000),
                leg("branch", "102", format!("0123.{id}@192.0.2.5"), 45_002),
            ],
        });
    }
}

impl Signalling for FakeSignalling {
    fn self_signed(&self) -> anyhow::Result<CertificatePair> {
        Ok(CertificatePair { chain: "self-signed".into(), key: "PRIVATE self-signed".into() })
    }

    fn check_certificate(&self, pair: &CertificatePair) -> anyhow::Result<Vec<String>> {
        anyhow::ensure!(pair.key == format!("PRIVATE {}", pair.chain), "the key does not belong to the certificate");
        Ok(if pair.chain.contains("old") { vec!["it ended yesterday".to_owned()] } else { Vec::new() })
    }

    fn open(&self, transport: &Transport) -> anyhow::Result<()> {
        self.call(format!("open {} {} {}", transport.id.0, transport.protocol, transport.port))?;
        self.transports.lock().unwrap().insert(transport.id, transport.clone());
        Ok(())
    }

    fn close(&self, id: TransportId) -> anyhow::Result<()> {
        self.call(format!("close {}", id.0))?;
        self.transports.lock().unwrap().remove(&id);
        Ok(())
    }

    fn transport(&self, id: TransportId) -> Option<TransportStatus> {
        self.transports.lock().unwrap().get(&id).map(|_| TransportStatus {
            listening: true,
            problem: None,
            connections: 3,
            received: 20,
            sent: 10,
            dropped: vec![("malformed".into(), 2)],
        })
    }

    /// Ends what the real one ends, but for changed passwords, which only the directory knows.
    fn directory(&self, directory: Arc<Directory>) {
        self.calls.lock().unwrap().push("directory".into());
        let live = |id| directory.extension_by_id(id).is_some_and(|extension| extension.enabled);
        self.registrations.lock().unwrap().retain(|one| live(one.extension));
        *self.directory.lock().unwrap() = directory;
    }

    fn settings(&self, settings: &Settings) {
        *self.settings.lock().unwrap() = Some(settings.clone());
    }

    fn registrations(&self) -> anyhow::Result<Vec<Registration>> {
        anyhow::ensure!(!self.hangs.load(Ordering::Relaxed), "signalling does not answer");
        Ok(self.registrations.lock().unwrap().clone())
    }

    fn registrations_of(&self, extension: ExtensionId) -> anyhow::Result<Vec<Registration>> {
        Ok(self.registrations()?.into_iter().filter(|one| one.extension == extension).collect())
    }

    fn registered(&self) -> anyhow::Result<Vec<(ExtensionId, usize)>> {
        let mut counts = BTreeMap::new();
        self.registrations()?.iter().for_each(|one| *counts.entry(one.extension).or_default() += 1);
        Ok(counts.into_iter().collect())
    }

    fn drop_registration(&self, id: &str) -> anyhow::Result<bool> {
        let mut registrations = self.registrations.lock().unwrap();
        let before = registrations.len();
        registrations.retain(|one| one.id != id);
        Ok(registrations.len() < before)
    }

    fn ping(&self, id: &str) -> anyhow::Result<Pinged> {
        let registrations = self.registrations.lock().unwrap();
        let one = registrations.iter().find(|one| one.id == id).ok_or(PingError::NotRegistered)?;
        anyhow::ensure!(one.reachable, PingError::Unreachable);
        Ok(Pinged::Answered { code: 200, after: std::time::Duration::from_millis(12) })
    }

    fn calls(&self) -> anyhow::Result<Vec<Call>> {
        anyhow::ensure!(!self.hangs.load(Ordering::Relaxed), "signalling does not answer");
        Ok(self.conversations.lock().unwrap().clone())
    }

    fn call(&self, id: &str) -> anyhow::Result<Option<Call>> {
        Ok(self.calls()?.into_iter().find(|call| call.id == id))
    }

    fn hang_up(&self, id: &str) -> anyhow::Result<bool> {
        let mut conversations = self.conversations.lock().unwrap();
        let before = conversations.len();
        conversations.retain(|call| call.id != id);
        Ok(conversations.len() < before)
    }

    fn trace(&self) -> Trace {
        self.trace.clone()
    }

    fn load(&self) -> anyhow::Result<Load> {
        anyhow::ensure!(!self.hangs.load(Ordering::Relaxed), "signalling does not answer");
        let registrations = self.registrations.lock().unwrap().len() as u64;
        Ok(Load { registrations, ..self.load.lock().unwrap().clone() })
    }

    fn known(&self, address: IpAddr) -> anyhow::Result<Vec<(ExtensionId, Timestamp)>> {
        let known = self.known.lock().unwrap();
        Ok(known.iter().filter(|(from, ..)| *from == address).map(|(_, id, at)| (*id, *at)).collect())
    }
}
